#!/usr/bin/env bash
# On a machine with NVIDIA GPUs: builds the cuda preset for the GPU that is there, runs its tests, verification,
# kernel micro-benchmarks and a sweep, and prints one table of all. Without network, within 8 minutes.
#   scripts/gpu_check.sh [RANKS]      ranks: one a GPU, all GPUs of this node by default
set -euo pipefail
cd "$(dirname "$0")/.."

limit_s=480
end=$((SECONDS + limit_s))
results=()
failed=0
mkdir -p build
log=build/gpu_check.log
: >"$log"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

die() {
  echo "gpu_check.sh: $1" >&2
  exit 2
}

# Names what the build would stop at, since nothing is installed here.
missing=()
for tool in nvcc cmake ninja g++ mpirun nvidia-smi; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
for header in CLI/CLI.hpp fmt/format.h yaml-cpp/yaml.h nlohmann/json.hpp hwy/highway.h catch2/catch.hpp \
  boost/context/fiber.hpp pugixml.hpp; do
  [[ -e /usr/include/$header || -e /usr/local/include/$header ]] || missing+=("<$header>")
done
((${#missing[@]} == 0)) || die "missing on this machine: ${missing[*]} (scripts/install_deps.sh installs what Debian has; \
nvcc and cuBLASLt come with the CUDA toolkit, NCCL from NVIDIA, too)"

gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)
((gpus > 0)) || die "nvidia-smi lists no GPU"
ranks=${1:-$gpus}
((ranks <= gpus)) || die "$ranks ranks, but $gpus GPUs: one rank needs one GPU"
# 9.0 -> 90a: the instructions of this very architecture.
architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d '. ')
((architecture >= 90)) && architecture+=a

# step NAME COMMAND...: runs it within what is left of the time and notes how it ended.
step() {
  local name=$1 begin=$SECONDS outcome=ok
  shift
  local left=$((end - SECONDS))
  if ((left <= 5)); then
    results+=("$(printf '%-28s %-8s' "$name" "no time")")
    failed=1
    return 1
  fi
  echo "== $name" | tee -a "$log"
  if ! timeout "$left" "$@" 2>&1 | tee -a "$log"; then
    outcome=FAILED
    failed=1
  fi
  results+=("$(printf '%-28s %-8s %5d s' "$name" "$outcome" $((SECONDS - begin)))")
  [[ $outcome == ok ]]
}

summary() {
  echo
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.draw,clocks_throttle_reasons.active \
    --format=csv | head -2 || true
  printf '%s\n' "${results[@]}"
  echo "log: $log"
}
trap summary EXIT

build() {
  cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES="$architecture-real" -DHELIX_BUILD_MICROBENCH=OFF -DHELIX_WERROR=OFF >>"$log" &&
    cmake --build --preset cuda -j "$(nproc)" --target helix-bench test_gpu helix-gpubench >>"$log"
}
export -f build
export log architecture
bench=build/cuda/bin/helix-bench
launch=(mpirun -n "$ranks" "$bench")

step "build sm_$architecture" bash -c build || { tail -n 30 "$log" >&2; exit 1; }
step "ops against fp64" build/cuda/bin/test_gpu || true
step "verify" "${launch[@]}" verify --backend cuda --model tiny-gqa,tiny-mla,tiny-qwen3-moe --context 300 --batch 3,40 \
  --weight-dtype bf16,fp8,nvfp4 --kv-dtype bf16,fp8,nvfp4 || true
step "kernels" build/cuda/bin/helix-gpubench || true
step "sweep" "${launch[@]}" --backend cuda --model llama-3.2-1b,deepseek-v2-lite --context 4k,64k --batch 1,8 \
  --weight-dtype bf16,nvfp4 \
  --max-time 1 --out "build/gpu_check-$(date +%Y%m%d-%H%M%S)" || true
exit "$failed"
