# Sourced by the helix-bench and run.sh of a bundle, with `bundle` set: where its programs find their libraries, and in the
# array `loader` what starts them.

die() {
  echo "helix-bench bundle: $1" >&2
  exit 2
}

# Of cuBLASLt and NCCL, the directories that have them: where the loader looks anyway, a toolkit, Python's wheels.
cuda_folders() {
  local soname place found named=${LD_LIBRARY_PATH:-}
  for soname in "$@"; do
    if ldconfig -p 2>/dev/null | grep -q "$soname "; then continue; fi
    found=""
    for place in ${named//:/ } "${CUDA_HOME:-/usr/local/cuda}"/{lib64,lib} /usr/local/cuda*/{lib64,lib} \
      /opt/nvidia/*/lib /usr/{local/,}lib/python3*/{site,dist}-packages/nvidia/*/lib \
      "${VIRTUAL_ENV:-/nonexistent}"/lib/python3*/site-packages/nvidia/*/lib "${HOME:-/root}"/.local/lib/python3*/site-packages/nvidia/*/lib \
      /opt/*/lib/python3*/site-packages/nvidia/*/lib; do
      if [[ -e $place/$soname ]]; then found=$place && break; fi
    done
    [[ -n $found ]] || die "$soname was not found: load a CUDA toolkit, or pip install nvidia-cublas nvidia-nccl-cu13; \
LD_LIBRARY_PATH or CUDA_HOME may name where it lies"
    printf '%s:' "$found"
  done
}

libraries=$bundle/lib:$(cuda_folders libcublasLt.so.13 libnccl.so.2) || exit 2
export OPAL_PREFIX=$bundle PMIX_INSTALL_PREFIX=$bundle PRTE_PREFIX=$bundle
[[ ! -d $bundle/lib/openmpi ]] || export OMPI_MCA_mca_base_component_path=$bundle/lib/openmpi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1  # containers have no other user
# A lone process of one node: no network, no launcher.
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_btl_base_warn_component_unused=0

# The node's C library if it is new enough, else the bundle's, which only its own loader can load.
newest=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/^glibc /GLIBC_/')
if [[ -z ${HELIX_BUNDLE_LIBC:-} ]] && sort -CV <<<"$(<"$bundle/libc/needed")"$'\n'"${newest:-GLIBC_0}"; then
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  loader=()
else
  loader=("$bundle/libc/ld.so" --library-path "$bundle/libc:$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
fi
