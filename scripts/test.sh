#!/usr/bin/env bash
# Installs what is missing, builds everything, runs every test: the format of the sources, the release build, and under
# AddressSanitizer and UndefinedBehaviorSanitizer the unit tests, the MPI tests on two ranks and a tiny sweep.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_deps.sh test
jobs=$(nproc)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
mkdir -p build
git ls-files '*.cpp' '*.hpp' | xargs clang-format-14 --dry-run --Werror

build() {
  local log=build/$1.log
  echo "Building $1 (log: $log)"
  if ! { cmake --preset "$1" && cmake --build --preset "$1" -j "$jobs"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "test.sh: the $1 build failed, see above and $log" >&2
    exit 1
  fi
}

build release
ctest --preset release -j "$jobs"
build asan
HELIX_TEST_MAX_CONTEXT=4k ctest --preset asan -j "$jobs" -LE cli -E 'mpi: [134] ranks'
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
# Without leaks: Open MPI keeps some of what it allocates until the process ends.
ASAN_OPTIONS=detect_leaks=0 mpirun -n 2 build/asan/bin/helix-bench --model tiny-mla,tiny-qwen3-moe --context 300 \
  --batch 3 --max-time 0.05 --system h100 --quiet --out "$results/sweep"
