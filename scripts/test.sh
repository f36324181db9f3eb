#!/usr/bin/env bash
# Installs what is missing, builds everything with warnings as errors, and runs the tests: the format of the sources,
# every test of the release build, and under AddressSanitizer and UndefinedBehaviorSanitizer the unit tests, the MPI tests
# on two ranks and a tiny sweep. With the argument `long` also what is labelled so: the longest contexts, and under the
# sanitizers every number of ranks and the emulated GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  "") without=(-LE long) ;;
  long) without=() ;;
  *)
    echo "test.sh: '$1' is not known; valid: long" >&2
    exit 2
    ;;
esac

scripts/install_deps.sh run microbench test plot style
jobs=$(nproc)
tests=$((2 * jobs))  # at once, by the half cores that tests/CMakeLists.txt says they take
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
  local preset=$1 log=build/$1.log targets=() begin=$SECONDS
  shift
  (($# == 0)) || targets=(--target "$@")
  echo "Building $preset (log: $log)"
  if ! { cmake --preset "$preset" -DHELIX_UNITY=ON &&
    cmake --build --preset "$preset" -j "$jobs" "${targets[@]}"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "test.sh: the $preset build failed, see above and $log" >&2
    exit 1
  fi
  echo "Built $preset in $((SECONDS - begin)) s"
}

# One build serves all: the CUDA backend is compiled where there is an nvcc. Nothing here can run it, but the program
# then falls back to the CPU, and says so where it was told not to.
if command -v nvcc >/dev/null; then
  preset=ci-cuda
  scripts/install_deps.sh disassemble
else
  preset=ci
  echo "test.sh: no nvcc on this machine: the CUDA backend was not compiled (its kernels run under emulation)"
fi
sanitized=(test_roofline test_kernels test_sweeps test_fuzz_corpus test_hf test_mpi helix-bench)
((${#without[@]} > 0)) || sanitized+=(test_cuda test_cuda_decode)
build "$preset"
# Ranks that compute and wait for each other want the cores for themselves. Of the others many wait for programs that they
# start: the sanitized build takes what these leave.
ctest --preset "$preset" -j "$tests" -L mpi "${without[@]}"
set -m  # a process group of its own, to end all of it
(
  renice -n 19 -p "$BASHPID" >/dev/null
  build asan "${sanitized[@]}"
) &
beside=$!
set +m
trap 'kill -- "-$beside" 2>/dev/null || true' EXIT
ctest --preset "$preset" -j "$tests" -LE "mpi${without[1]:+|${without[1]}}"
wait "$beside"
HELIX_TEST_MAX_CONTEXT=1k ctest --preset asan -j "$tests" -LE "cli${without[1]:+|${without[1]}}"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
# Without leaks: Open MPI keeps some of what it allocates until the process ends.
ASAN_OPTIONS=detect_leaks=0 mpirun -n 2 build/asan/bin/helix-bench --model tiny-mla,tiny-qwen3-moe --context 300 \
  --batch 3 --max-time 0.05 --system h100 --quiet --out "$results/sweep"
