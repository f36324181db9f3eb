#!/usr/bin/env bash
# One rank: pinned to the cores beside its GPU, then helix-bench. The program takes the GPU of its local rank itself; all
# GPUs of the node stay visible, since peers exchange over NVLink by way of them.
set -euo pipefail
program=build/cuda/bin/helix-bench
local_rank=${SLURM_LOCALID:-${OMPI_COMM_WORLD_LOCAL_RANK:-0}}
[[ -x $program ]] || { echo "$(hostname) rank ${SLURM_PROCID:-0}: $program is missing; build the cuda preset" >&2; exit 2; }
# Without it each task would believe that it is alone, and all of them write the same run.
if ((${SLURM_NTASKS:-1} > 1)) && [[ -z ${PMIX_RANK:-}${PMI_RANK:-}${OMPI_COMM_WORLD_RANK:-} ]]; then
  echo "$(hostname) rank ${SLURM_PROCID:-0}: srun started no MPI; 'srun --mpi=list' names its kinds (SLURM_MPI_TYPE)" >&2
  exit 2
fi

# The GPU's NUMA node, from its PCI address; without it the launcher's binding stays.
bind=()
if command -v numactl >/dev/null && command -v nvidia-smi >/dev/null; then
  address=$(nvidia-smi --id="$local_rank" --query-gpu=pci.bus_id --format=csv,noheader 2>/dev/null | tr 'A-F' 'a-f' || true)
  node=$(cat "/sys/bus/pci/devices/${address#0000}/numa_node" 2>/dev/null || echo -1)
  ((node >= 0)) && bind=(numactl --cpunodebind="$node" --membind="$node")
fi
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
exec "${bind[@]}" "$program" --backend cuda "$@"
