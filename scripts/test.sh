#!/usr/bin/env bash
# Installs what is missing, builds everything, runs every test: the format of the sources, the release build, and under
# AddressSanitizer and UndefinedBehaviorSanitizer the unit tests, the MPI tests on two ranks and a tiny sweep.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_deps.sh run microbench test plot style
jobs=$(nproc)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe  # the same for Open MPI 5
mkdir -p build
if command -v clang-format-14 >/dev/null; then
  git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh' | xargs clang-format-14 --dry-run --Werror
else
  echo "test.sh: the format of the sources was not checked, since only clang-format-14 (in Debian 12) knows it"
fi

# build PRESET [TARGET...]
build() {
  local preset=$1 log=build/$1.log targets=()
  shift
  (($# == 0)) || targets=(--target "$@")
  echo "Building $preset (log: $log)"
  if ! { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" "${targets[@]}"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "test.sh: the $preset build failed, see above and $log" >&2
    exit 1
  fi
}

build ci
ctest --preset ci -j "$jobs"
build asan
HELIX_TEST_MAX_CONTEXT=4k ctest --preset asan -j "$jobs" -LE cli -E 'mpi: [134] ranks|cuda decode: 2'
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
# Without leaks: Open MPI keeps some of what it allocates until the process ends.
ASAN_OPTIONS=detect_leaks=0 mpirun -n 2 build/asan/bin/helix-bench --model tiny-mla,tiny-qwen3-moe --context 300 \
  --batch 3 --max-time 0.05 --system h100 --quiet --out "$results/sweep"

# The CUDA backend: compiled for Hopper and Blackwell (register spills are errors), and started. Nothing here can run it.
if command -v nvcc >/dev/null; then
  build ci-cuda helix-bench helix-gpubench test_gpu
  ctest --preset ci-cuda -R 'cli_cuda_absent|cuda_kernel_resources'
else
  echo "test.sh: no nvcc on this machine: the CUDA backend was not compiled (its kernels ran under emulation)"
fi
