#!/usr/bin/env bash
# On a machine with NVIDIA GPUs: builds the cuda preset for the GPU that is there, runs its tests, verification,
# kernel micro-benchmarks and a sweep, and prints one table of all. Without network, within 8 minutes.
#   scripts/gpu_check.sh [RANKS]      ranks: one a GPU, all GPUs of this node by default
# Ends with 0 if all went well, 1 if something failed, 2 if it could not begin.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/gpu_steps.sh
mkdir -p build
log=build/gpu_check.log
: >"$log"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1  # containers have no other user
# Ranks need a GPU each, not a core each (Open MPI 4 and 5).
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}

die() {
  echo "gpu_check.sh: $1" >&2
  exit 2
}

# The toolkit's usual place, where a login shell does not have it on its path.
command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
# Names at once what the build would stop at, since nothing is installed here.
missing=()
for tool in nvcc cmake ninja g++ mpirun nvidia-smi; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if command -v g++ >/dev/null; then
  for header in CLI/CLI.hpp fmt/format.h yaml-cpp/yaml.h nlohmann/json.hpp hwy/highway.h catch2/catch.hpp \
    boost/context/fiber.hpp pugixml.hpp; do
    echo "#include <$header>" | g++ -std=c++20 -E -x c++ -o /dev/null - 2>/dev/null || missing+=("<$header>")
  done
fi
((${#missing[@]} == 0)) || die "missing on this machine: ${missing[*]} (scripts/install_deps.sh run test installs what Debian has; \
nvcc and cuBLASLt come with the CUDA toolkit, NCCL from NVIDIA, too)"

capabilities=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>&1) || die "nvidia-smi: ${capabilities%%$'\n'*}"
gpus=$(grep -c '^[0-9]' <<<"$capabilities") || die "nvidia-smi lists no GPU"
if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then  # nvidia-smi lists the others, too
  IFS=, read -ra visible <<<"$CUDA_VISIBLE_DEVICES"
  gpus=${#visible[@]}
fi
ranks=${1:-$gpus}
[[ $ranks =~ ^[1-9][0-9]*$ ]] || die "$ranks ranks: a number from 1 to $gpus, please"
((ranks <= gpus)) || die "$ranks ranks, but $gpus GPUs: one rank needs one GPU"
# 9.0 -> 90a: the instructions of this very architecture.
architecture=${capabilities%%$'\n'*}
architecture=${architecture//[. ]/}
((architecture >= 80)) || die "compute capability $architecture: the kernels need 80 (Ampere) or later"
((architecture >= 90)) && architecture+=a

# Within a major version an older driver runs what a newer toolkit built; an older major version does not.
driver=$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9]*\)\..*/\1/p')
toolkit=$(nvcc --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
if [[ -n $driver && -n $toolkit ]] && ((driver < toolkit)); then
  die "the driver is of CUDA $driver, nvcc of CUDA $toolkit: put an nvcc of CUDA $driver (12.8 at least) on the path, \
or let a newer driver be installed"
fi

begin_steps 480

build() {
  cmake --preset cuda -DCMAKE_CUDA_COMPILER="$(command -v nvcc)" -DCMAKE_CUDA_ARCHITECTURES="$architecture-real" \
    -DHELIX_BUILD_MICROBENCH=OFF -DHELIX_WERROR=OFF >>"$log" &&
    cmake --build --preset cuda -j "$(nproc)" --target helix-bench test_gpu helix-gpubench >>"$log"
}
export -f build
export log architecture PATH
bench=build/cuda/bin/helix-bench gpubench=build/cuda/bin/helix-gpubench test_gpu=build/cuda/bin/test_gpu
launch=(mpirun -n "$ranks" "$bench") single=(mpirun -n 1 "$bench")
results_dir=build/gpu_check-$(date +%Y%m%d-%H%M%S)

step "build sm_$architecture" bash -c build || { tail -n 30 "$log" >&2; exit 1; }
gpu_steps
exit "$failed"
