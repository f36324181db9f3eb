#!/usr/bin/env bash
# A directory that runs on a GPU node which has a driver and nothing else: the program, its kernel benchmarks and tests with
# the libraries they need, Open MPI's plugins, and a run.sh that does what gpu_check.sh does. Only cuBLASLt and NCCL, ten
# times as large as all the rest, are looked for on the node (a CUDA toolkit, or Python's wheels).
#   scripts/gpu_bundle.sh [--from BUILD] [--out DIR] [ARCHITECTURE...]
# ARCHITECTURE: 90a (H100, H200) by default, 100a (B200), 103a (B300), 120a, ...; --from takes the programs of a build
# that is there. DIR: build/gpu-bundle. Ends with 1 if the bundle grows beyond 48 MiB.
set -euo pipefail
cd "$(dirname "$0")/.."

most_mib=48
from="" out=build/gpu-bundle architectures=()
while (($#)); do
  case $1 in
    --from | --out)
      (($# > 1)) || { echo "gpu_bundle.sh: $1 wants a directory" >&2; exit 2; }
      [[ $1 == --from ]] && from=$2 || out=$2
      shift
      ;;
    [1-9]*) architectures+=("$1-real") ;;
    *)
      echo "gpu_bundle.sh: '$1' is not known; valid: --from BUILD, --out DIR, architectures like 90a" >&2
      exit 2
      ;;
  esac
  shift
done

if [[ -z $from ]]; then
  from=build/gpu-bundle-build
  ((${#architectures[@]})) || architectures=(90a-real)
  mkdir -p build
  { cmake -G Ninja -S . -B "$from" -DCMAKE_BUILD_TYPE=Release -DHELIX_CUDA=ON -DHELIX_BUILD_MICROBENCH=OFF \
      -DCMAKE_CUDA_ARCHITECTURES="$(IFS=';'; echo "${architectures[*]}")" &&
    cmake --build "$from" -j "$(nproc)" --target helix-bench helix-gpubench test_gpu; } >build/gpu-bundle.log 2>&1 || {
    tail -n 30 build/gpu-bundle.log >&2
    echo "gpu_bundle.sh: the build failed, see build/gpu-bundle.log" >&2
    exit 1
  }
fi
programs=(helix-bench helix-gpubench test_gpu)
for program in "${programs[@]}"; do
  [[ -x $from/bin/$program ]] || { echo "gpu_bundle.sh: $from/bin/$program is missing: build it first" >&2; exit 1; }
done

rm -rf "$out"
mkdir -p "$out/bin" "$out/lib" "$out/libc" "$out/share"
for program in "${programs[@]}"; do
  cp "$from/bin/$program" "$out/bin/"
  strip "$out/bin/$program"
done

# needed FILE...: the libraries that these load, by the loader's own account, as "NAME PATH".
needed() {
  ldd "$@" 2>/dev/null | sed -n 's/^\t\([^ ]*\) => \(\/[^ ]*\) .*/\1 \2/p' | sort -u
}
plugins=$(dirname "$(find /usr/lib /usr/lib64 /usr/local/lib -name 'mca_pml_ob1.so' 2>/dev/null | head -n 1)")
# Plugins of networks and launchers need libraries of their own, which a lone node has no use for; Open MPI 5 has most of
# its plugins inside its library.
plugin_kinds='mca_(allocator|bml|btl_(self|sm|vader|tcp)|coll|ess_(env|singleton)|errmgr|grpcomm|mpool|oob_tcp|op|osc_(pt2pt|rdma|sm)|patcher|pml_ob1|pmix|pstat|rcache|reachable|rml|routed|rte|schizo|sec|shmem|state|threads|topo|vprotocol)[^/]*\.so$'
if [[ $plugins != . ]]; then
  mkdir -p "$out/lib/openmpi"
  find "$plugins" -maxdepth 1 -name 'mca_*.so' | grep -E "$plugin_kinds" | xargs cp -Lt "$out/lib/openmpi"
fi
while read -r name path; do
  case $name in
    libcuda.so* | libcublas* | libnccl.so*) ;;
    # The C library, for nodes whose own is older than that of the build: used with its own loader or not at all.
    libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | libresolv.so.2 | libutil.so.1) cp -L "$path" "$out/libc/" ;;
    *) cp -L "$path" "$out/lib/$name" ;;
  esac
done < <(needed "$out"/bin/* "$out"/lib/openmpi/*.so)
cp -L "$(ldd "$out/bin/helix-bench" | sed -n 's/^\t\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p')" "$out/libc/ld.so"
# The texts that Open MPI looks up when something goes wrong.
for texts in /usr/share/openmpi /usr/share/pmix /usr/share/pmix2 "$plugins"/../../share/openmpi; do
  [[ -d $texts ]] && cp -RL "$texts" "$out/share/"
done
grep -h -o 'GLIBC_2\.[0-9]*' < <(objdump -T "$out"/bin/* "$out"/lib/*.so*) | sort -uV | tail -n 1 >"$out/libc/needed"
cp packaging/gpu-bundle/helix-bench packaging/gpu-bundle/run.sh packaging/gpu-bundle/environment.sh scripts/gpu_steps.sh "$out/"
"$from/bin/helix-bench" --version >"$out/version"

kib=$(du -sk --apparent-size "$out" | cut -f 1)  # what is to be sent, whatever the blocks of this disk
printf '%s: %d.%d MiB\n' "$out" $((kib / 1024)) $((kib % 1024 * 10 / 1024))
((kib <= most_mib * 1024)) || { echo "gpu_bundle.sh: that is more than $most_mib MiB: fewer architectures" >&2; exit 1; }
