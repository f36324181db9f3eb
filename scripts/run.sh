#!/usr/bin/env bash
# Installs what is missing, builds helix-bench, measures a sweep on MPI ranks, prints its Pareto table and names the
# files written. Arguments are those of `helix-bench sweep`; without any it is the default sweep.
# Ranks: one a physical core, the largest power of two up to 8; HELIX_RANKS=N overrides.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_deps.sh run

mkdir -p build
log=build/run.log
echo "Building (log: $log)"
if ! { cmake --preset release && cmake --build --preset release --target helix-bench; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "run.sh: the build failed, see above and $log" >&2
  exit 1
fi

cores=$(lscpu --parse=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
usable=$(nproc)  # of this process: containers may have fewer
((usable < cores)) && cores=$usable
ranks=${HELIX_RANKS:-}
if [[ -z $ranks ]]; then
  ranks=2  # Helix needs two to be anything
  while ((ranks * 2 <= cores && ranks < 8)); do ranks=$((ranks * 2)); done
fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1  # containers have no other user
# A single core runs two ranks (Open MPI 4 and 5).
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
echo "Measuring on $ranks ranks"
mpirun -n "$ranks" build/release/bin/helix-bench sweep "$@"
