#!/usr/bin/env bash
# On a node with an NVIDIA driver: tests the kernels, verifies and measures on one GPU, prints one table, and leaves all
# results in one directory.
#   run.sh [DIRECTORY]      DIRECTORY: helix-gpu-DATE here by default; it ends within 8 minutes
# Ends with 0 if all went well, 1 if something failed, 2 if it could not begin.
set -euo pipefail
bundle=$(cd "$(dirname "$0")" && pwd)
source "$bundle/environment.sh"
source "$bundle/gpu_steps.sh"

command -v nvidia-smi >/dev/null || die "no nvidia-smi: this node has no NVIDIA driver"
nvidia-smi -L | grep -q '^GPU' || die "nvidia-smi lists no GPU"
results_dir=${1:-helix-gpu-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$results_dir" || die "cannot write to '$results_dir'"
log=$results_dir/log.txt ranks=1
cat "$bundle/version" >"$log"
nvidia-smi -q >"$results_dir/nvidia-smi.txt" || true
# step starts commands through timeout, so wrappers are programs rather than functions.
mkdir -p "$results_dir/.programs"
for program in helix-bench helix-gpubench test_gpu; do
  printf '#!/bin/sh\nexec %s "$@"\n' "$(printf '%q ' "${loader[@]}" "$bundle/bin/$program")" >"$results_dir/.programs/$program"
  chmod +x "$results_dir/.programs/$program"
done
bench=$results_dir/.programs/helix-bench gpubench=$results_dir/.programs/helix-gpubench test_gpu=$results_dir/.programs/test_gpu
launch=("$bench") single=("$bench")
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
begin_steps 480
gpu_steps
rm -rf "$results_dir/.programs"
exit "$failed"
