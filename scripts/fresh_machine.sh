#!/usr/bin/env bash
# What a new user meets: a command of the README on a bare Debian, with nothing but what the project's own scripts
# install. The Debian is a root that debootstrap makes (kept in build/fresh_machine, copied for each use); the sources are
# those of the commit that is checked out.
#   scripts/fresh_machine.sh [bookworm|trixie] [run|test|bundle]      default: bookworm run
# bundle: starts build/gpu-bundle (scripts/gpu_bundle.sh) there, with the CUDA toolkit of this machine and nothing else,
# once with that Debian's C library and once with the bundle's.
# Ends with 0 if the command did its work, 1 if not, 2 for arguments it does not know, and 77, saying why, where no such
# root can be made: it needs root, debootstrap, and the right to mount.
set -euo pipefail
cd "$(dirname "$0")/.."

release=bookworm command=run
for argument in "$@"; do
  case $argument in
    bookworm | trixie) release=$argument ;;
    run | test | bundle) command=$argument ;;
    *)
      echo "fresh_machine.sh: '$argument' is not known; valid: bookworm, trixie, run, test, bundle" >&2
      exit 2
      ;;
  esac
done

cannot() {
  echo "fresh_machine.sh: no bare Debian can be made here: $1" >&2
  exit 77
}
[[ $EUID -eq 0 ]] || cannot "only root may install and change into one"
# In a mount namespace of its own: whatever ends this script, nothing stays mounted.
if [[ -z ${HELIX_FRESH_NAMESPACE:-} ]]; then
  unshare --mount true 2>/dev/null || cannot "mounts are not permitted (a container without CAP_SYS_ADMIN?)"
  HELIX_FRESH_NAMESPACE=1 exec unshare --mount "$0" "$@"
fi
PATH=$PATH:/usr/sbin
scripts/install_deps.sh debootstrap || cannot "debootstrap is missing"

work=$PWD/build/fresh_machine
base=$work/$release root=$work/root.$$ log=$work/$release-$command.log
mkdir -p "$work"
# From where this machine has its packages, if it says so, else from debootstrap's own default.
mirror=$(sed -n -e 's/^URIs: *\([^ ]*\).*/\1/p' -e 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' \
  /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1 || true)
if [[ ! -f $base.complete ]]; then
  echo "Making a bare $release (log: $base.log)"
  rm -rf "$base"
  debootstrap --variant=minbase --include=ca-certificates,git "$release" "$base" ${mirror:+"$mirror"} >"$base.log" 2>&1 ||
    cannot "debootstrap failed: $(tail -n 1 "$base.log"), see $base.log"
  touch "$base.complete"
fi
trap 'rm -rf --one-file-system "$root"' EXIT
cp -a --reflink=auto "$base" "$root"

# The network as this machine has it: names, proxies and certificates; nothing that is installed.
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -RLn /etc/ssl/certs/. "$root/etc/ssl/certs/" 2>/dev/null || true  # links that lead nowhere
{
  echo 'Acquire::Check-Valid-Until "false";'  # the archive may be a dated copy
  apt-config dump | grep -i '^Acquire::.*proxy' || true
} >"$root/etc/apt/apt.conf.d/90network"
[[ ! -f /etc/pip.conf ]] || cp -L /etc/pip.conf "$root/etc/"
environment=(HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin)
for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_CERT SSL_CERT_FILE; do
  [[ -z ${!name:-} ]] || environment+=("$name=${!name}")
done

mount --bind "$root" "$root"  # a mount point, as the root of a machine is: `ip netns` asks for that
for folder in dev proc sys; do mount --rbind "/$folder" "$root/$folder"; done
if [[ $command == bundle ]]; then
  what=build/gpu-bundle
  [[ -x $what/helix-bench ]] || { echo "fresh_machine.sh: no $what: scripts/gpu_bundle.sh makes it" >&2; exit 1; }
  nvcc=$(PATH=$PATH:/usr/local/cuda/bin command -v nvcc) || cannot "no CUDA toolkit, from which a node would have cuBLASLt"
  mkdir -p "$root/usr/local/cuda"
  mount --bind "$(dirname "$(dirname "$(readlink -f "$nvcc")")")" "$root/usr/local/cuda"
  cp -a "$what" "$root/srv/helix-bench"
  sweep="./helix-bench sweep --backend cpu --ranks 1 --model tiny-gqa --context 300 --batch 1 --max-time 0.1 --system h200 --out"
  run="$sweep own && HELIX_BUNDLE_LIBC=1 $sweep bundled && grep -q ',ok,' own/results.csv && grep -q ',ok,' bundled/results.csv &&
    { ./run.sh; ((\$? == 2)); }"  # it names what a machine without a GPU lacks
else
  what=scripts/$command.sh
  git clone --quiet . "$root/srv/helix-bench"
  [[ -z $(git status --porcelain) ]] || echo "fresh_machine.sh: changes that are not committed are left out" >&2
  run=$what
fi

echo "$what on a bare $release (log: $log)"
begin=$SECONDS outcome=0
env -i "${environment[@]}" chroot "$root" bash -c "cd /srv/helix-bench && $run" >"$log" 2>&1 </dev/null || outcome=$?
umount --lazy "$root"  # and all that is mounted below
if ((outcome != 0)); then
  tail -n 30 "$log" >&2
  echo "fresh_machine.sh: $what ended with $outcome on a bare $release after $((SECONDS - begin)) s, see $log" >&2
  exit 1
fi
rows=""
if [[ $command == run ]]; then
  count=$(cat "$root"/srv/helix-bench/results/latest/results.csv | grep -c ',ok,' || true)
  if ((${count:-0} < 8)); then
    echo "fresh_machine.sh: scripts/run.sh measured ${count:-0} points on a bare $release instead of 8 or more, see $log" >&2
    exit 1
  fi
  rows=", $count points measured"
fi
grep -E 'tests passed' "$log" || true
echo "$what on a bare $release: done in $((SECONDS - begin)) s$rows"
