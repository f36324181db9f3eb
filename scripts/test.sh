#!/usr/bin/env bash
# Installs what is missing, builds everything, runs every test: the release build, the same under AddressSanitizer and
# UndefinedBehaviorSanitizer, and the format of the sources.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_deps.sh
jobs=$(nproc)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
# MPI libraries keep what they allocated until the process ends.
export ASAN_OPTIONS=detect_leaks=0

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
ctest --preset asan -j "$jobs" -LE cli
