#!/usr/bin/env bash
# Did HEAD_REF make anything slower than BASE_REF? Builds both in worktrees of their own, measures the same sweep with
# them in turn (A B, B A, A B, ...: what the machine does meanwhile meets both), and compares.
#
#   scripts/ci_compare.sh BASE_REF HEAD_REF [FLAGS OF sweep ...]
#
# Leaves comparison.md, comparison.json, comparison.junit.xml, comparison.benchmark-action.json, report/ and every run
# directory in HELIX_OUT. Exit codes are those of `helix-bench compare`: 0 no regression, 1 regression, or something is
# missing or cannot be judged, 2 not comparable or unusable arguments; 3 a build or a run broke off. What a job that was
# killed left in HELIX_OUT is put aside (HELIX_OUT.killed-...), and its worktrees are removed.
#
#   HELIX_OUT            directory for the results, new, empty or of a job that was killed (default build/ci-compare)
#   HELIX_REPEATS        runs of each side (default 5; README, "Comparing runs", says what how many can tell)
#   HELIX_RANKS          ranks of each run (default 2); HELIX_LAUNCH replaces `mpirun -n RANKS`, e.g. by `srun -n 8`
#   HELIX_PRESET         CMake preset to build (default release; on machines with GPUs: cuda)
#   HELIX_COMPARE_FLAGS  flags of `compare`, e.g. "--threshold 5"
#   HELIX_BASE_BENCH, HELIX_HEAD_BENCH   programs that are already built; that side is then not built
set -euo pipefail
cd "$(dirname "$0")/.."

leave() {
  echo "ci_compare.sh: $2" >&2
  exit "$1"
}

[[ $# -ge 2 ]] || leave 2 "BASE_REF and HEAD_REF are needed: scripts/ci_compare.sh BASE_REF HEAD_REF [SWEEP FLAGS ...]"
declare -A ref=([base]=$1 [head]=$2)
shift 2
sweep_flags=("$@")
out=${HELIX_OUT:-build/ci-compare}
repeats=${HELIX_REPEATS:-5}
preset=${HELIX_PRESET:-release}
declare -A bench=([base]=${HELIX_BASE_BENCH:-} [head]=${HELIX_HEAD_BENCH:-})
read -ra launch <<<"${HELIX_LAUNCH:-mpirun -n ${HELIX_RANKS:-2}}"
read -ra compare_flags <<<"${HELIX_COMPARE_FLAGS:-}"
[[ $repeats =~ ^[1-9][0-9]*$ ]] || leave 2 "HELIX_REPEATS '$repeats': valid: a number from 1"
mkdir -p "$out" || leave 2 "HELIX_OUT '$out' cannot be created"
out=$(cd "$out" && pwd)
# Held until this job ends, however it ends: what is not held was left by one that was killed.
exec {job}<"$out"
flock -n "$job" || leave 2 "HELIX_OUT '$out' is in use by another comparison"

remove_worktrees() {  # DIRECTORY; git keeps a record of a worktree even after its directory is gone
  for side in base head; do
    git worktree remove --force "$1/source-$side" 2>/dev/null || rm -rf "$1/source-$side"
  done
  git worktree prune 2>/dev/null || true
}

if [[ -n $(ls -A "$out") ]]; then
  [[ -e $out/.unfinished ]] || leave 2 "HELIX_OUT '$out' is not empty"
  remove_worktrees "$out"
  aside=$out.killed-$(date -u +%Y%m%dT%H%M%SZ)-$$
  { mv "$out" "$aside" && mkdir "$out"; } || leave 2 "HELIX_OUT '$out': what a killed job left cannot be put aside"
  exec {job}<"$out"
  flock -n "$job" || leave 2 "HELIX_OUT '$out' is in use by another comparison"
  echo "A comparison in '$out' was killed; what it left is in '$aside'"
fi
touch "$out/.unfinished"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

# shellcheck disable=SC2317  # called by the trap
clean_up() {
  remove_worktrees "$out"
  rm -f "$out/.unfinished"
}
trap clean_up EXIT

build() {
  local side=$1 source=$out/source-$1 log=$out/build-$1.log
  git rev-parse --quiet --verify "${ref[$side]}^{commit}" >/dev/null ||
    leave 2 "'${ref[$side]}' is no commit of this repository (a shallow clone?)"
  echo "Building $side, ${ref[$side]} (log: $log)"
  if ! { git worktree add --force --detach "$source" "${ref[$side]}" && cd "$source" &&
    cmake --preset "$preset" -DHELIX_BUILD_TESTS=OFF -DHELIX_BUILD_MICROBENCH=OFF &&
    cmake --build --preset "$preset" --target helix-bench -j "$(nproc)"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    leave 3 "the build of $side failed, see above and $log"
  fi
  cp "$source/build/$preset/bin/helix-bench" "$out/helix-bench-$side"
}

for side in base head; do
  if [[ -n ${bench[$side]} ]]; then
    [[ -x ${bench[$side]} ]] || leave 2 "the program of $side, '${bench[$side]}', cannot be run"
    bench[$side]=$(realpath "${bench[$side]}")
  else
    (build "$side")
    bench[$side]=$out/helix-bench-$side
  fi
done

# One calibration for all runs: it takes seconds, and both sides are to be held against the same roofline.
if [[ " ${sweep_flags[*]} " != *" --system"* ]]; then
  echo "Calibrating"
  "${launch[@]}" "${bench[base]}" calibrate --quiet --out "$out/system.yaml" </dev/null || leave 3 "calibration failed"
  sweep_flags+=(--system "$out/system.yaml")
fi

measure() {
  echo "Measuring $1, run $2 of $repeats"
  "${launch[@]}" "${bench[$1]}" sweep "${sweep_flags[@]}" --quiet --out "$out/$1-$2" </dev/null ||
    leave 3 "run $2 of $1 failed"
}
base_runs=() head_runs=()
for ((i = 1; i <= repeats; ++i)); do
  if ((i % 2)); then order=(base head); else order=(head base); fi
  for side in "${order[@]}"; do measure "$side" "$i"; done
  base_runs+=("$out/base-$i") head_runs+=("$out/head-$i")
done

repeat_flags=()
((repeats == 1)) || repeat_flags=(--base-repeat "${base_runs[@]:1}" --new-repeat "${head_runs[@]:1}")
verdict=0
"${bench[head]}" compare "${base_runs[0]}" "${head_runs[0]}" "${repeat_flags[@]}" "${compare_flags[@]}" \
  --markdown "$out/comparison.md" --json "$out/comparison.json" --junit "$out/comparison.junit.xml" \
  --benchmark-action "$out/comparison.benchmark-action.json" || verdict=$?
"${bench[head]}" report "${base_runs[0]}" "${head_runs[0]}" --out "$out/report" ||
  echo "ci_compare.sh: no report was written; the comparison stands" >&2
exit "$verdict"
