#!/usr/bin/env bash
# The same question to AISimulate's planner (AIConfigurator's successor, from PyPI) and to `helix-bench predict`: which
# layout of up to 64 GB200 decodes DeepSeek-R1 best within 15 ms a token. CPU seconds of one core, process start and
# output included. The first argument is the program, the second a directory for the virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-build/release/bin/helix-bench}
venv=${2:-build/planners}
[ -x "$program" ] || { echo "compare_planners.sh: no program '$program'; valid: the path of a helix-bench" >&2; exit 2; }
if [ ! -x "$venv/bin/aiconfigurator" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --only-binary :all: "aisimulate>=0.13.0.dev0"
fi
timed() {  # NAME COMMAND...: CPU seconds on one core
  local name=$1
  shift
  local TIMEFORMAT='%U'
  local seconds
  seconds=$({ time taskset -c 0 "$@" >/dev/null 2>&1; } 2>&1) || { echo "compare_planners.sh: $name failed" >&2; exit 1; }
  printf '%-24s %8s s\n' "$name" "$seconds"
}
timed "helix-bench" "$program" predict --model deepseek-r1 --system gb200 --ranks 1:64 --context 32k --batch 1:1024 \
  --ttl-budget 15 --quiet
timed "aiconfigurator" "$venv/bin/aiconfigurator" cli default --model-path deepseek-ai/DeepSeek-R1 --system gb200 \
  --total-gpus 64 --backend trtllm --serving-mode agg --isl 32768 --osl 1024 --ttft 100000 --tpot 15 --no-color
