#!/usr/bin/env bash
# Installs what is missing on this machine for one or more purposes:
#   scripts/install_deps.sh [run] [microbench] [test] [plot] [style] [debootstrap] [reframe] [disassemble] [trtllm-gen]
# Without any: the first five.
# On Debian and its descendants with apt, as root; without root it says what to ask an administrator for. On another
# system it looks for the commands and headers themselves and names those that are missing.
# Ends with 0 if all is there in the end, else with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

# PURPOSE PACKAGE SIGN...: the Debian package (the same in Debian 12 and 13), and the command, <header> or module.py by
# which it is known to be there. With a `?` the purpose is only smaller without it.
needs() {
  cat <<'END'
run         g++                      g++
run         cmake                    cmake
run         ninja-build              ninja
run         libopenmpi-dev           mpicxx
run         openmpi-bin              mpirun
run         libcli11-dev             <CLI/CLI.hpp>
run         libfmt-dev               <fmt/format.h>
run         libyaml-cpp-dev          <yaml-cpp/yaml.h>
run         nlohmann-json3-dev       <nlohmann/json.hpp>
run         libpugixml-dev           <pugixml.hpp>
run         libhwy-dev               <hwy/highway.h>
microbench  libbenchmark-dev         <benchmark/benchmark.h>
microbench  libdnnl-dev              <oneapi/dnnl/dnnl.hpp>
test        catch2                   <catch2/catch.hpp> <catch2/catch_all.hpp>
test        libboost-context-dev     <boost/context/fiber.hpp>
test        python3                  python3
test        git                      git
test        iproute2                 ip
test?       chromium-headless-shell  chromium-headless-shell
plot        python3                  python3
plot        python3-venv             ensurepip.py
reframe     python3                  python3
reframe     python3-venv             ensurepip.py
disassemble python3                  python3
disassemble python3-venv             ensurepip.py
trtllm-gen  python3                  python3
trtllm-gen  python3-venv             ensurepip.py
style       git                      git
debootstrap debootstrap              debootstrap
style?      clang-format-14          clang-format-14
END
}
# From PyPI into .venv, by purpose. Vega-Lite: drawn as SVG and PNG, and its JavaScript for the report's page. The
# disassembler: what toolkits leave out that are packaged in parts.
declare -A from_pypi=([plot]=vl-convert-python==1.9.0.post1 [reframe]=reframe-hpc==4.10.4
  [disassemble]="nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37")
declare -A module=([plot]=vl_convert [reframe]=reframe [disassemble]=nvidia.cu13.bin)

purposes=("$@")
(($# > 0)) || purposes=(run microbench test plot style)
for purpose in "${purposes[@]}"; do
  [[ $purpose =~ ^(run|microbench|test|plot|style|debootstrap|reframe|disassemble|trtllm-gen)$ ]] || {
    echo "install_deps.sh: '$purpose' is no purpose; valid: run, microbench, test, plot, style, debootstrap, reframe, disassemble, trtllm-gen" >&2
    exit 2
  }
done

compiles() {  # a header, also below the prefixes that CMake searches
  local flags=() prefix prefixes=${CMAKE_PREFIX_PATH:-}
  for prefix in ${prefixes//[:;]/ }; do flags+=("-I$prefix/include"); done
  echo "#include $1" | "${CXX:-g++}" -std=c++20 -E -x c++ "${flags[@]}" -o /dev/null - 2>/dev/null
}
present() {  # PACKAGE SIGN...
  [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == "install ok installed" ]] && return
  local sign
  for sign in "${@:2}"; do
    case $sign in
      "<"*) compiles "$sign" && return ;;
      *.py) python3 -c "import ${sign%.py}" 2>/dev/null && return ;;
      *) command -v "$sign" >/dev/null && return ;;
    esac
  done
  return 1
}

missing=() missing_signs=() unneeded=()
while read -r purpose package signs; do
  [[ " ${purposes[*]} " == *" ${purpose%\?} "* ]] || continue
  read -ra signs <<<"$signs"
  present "$package" "${signs[@]}" && continue
  if [[ $purpose == *\? ]]; then
    unneeded+=("$package")
  elif [[ " ${missing[*]} " != *" $package "* ]]; then
    missing+=("$package")
    missing_signs+=("${signs[0]}")
  fi
done < <(needs)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
attempt() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1; }
# The package lists of a fresh machine are empty or old: fetched only if the first attempt needs them.
install() { attempt "$@" || { apt-get update -qq >"$log" 2>&1 && attempt "$@"; }; }

if ((${#missing[@]} > 0)); then
  if ! command -v apt-get >/dev/null; then
    system=$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-}")
    echo "install_deps.sh: only Debian's packages are known here, and this is ${system:-another system}." \
      "Please install what brings: ${missing_signs[*]} (Debian's names: ${missing[*]})" >&2
    exit 1
  fi
  if [[ $EUID -ne 0 ]]; then
    echo "install_deps.sh: missing packages, and only root installs them. Please ask an administrator for:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  echo "Installing ${missing[*]}"
  if ! install "${missing[@]}"; then
    cat "$log" >&2
    echo "install_deps.sh: apt-get failed, see above" >&2
    exit 1
  fi
fi
for package in "${unneeded[@]}"; do
  if ! command -v apt-get >/dev/null || [[ $EUID -ne 0 ]] || ! install "$package"; then
    echo "install_deps.sh: no $package to be had here: what needs it is left out" >&2
  else
    echo "Installed $package"
  fi
done

python=/usr/bin/python3  # the one that Debian's package completes, whatever stands before it on the path
[[ -x $python ]] || python=python3
for purpose in "${purposes[@]}"; do
  read -ra libraries <<<"${from_pypi[$purpose]:-}"
  ((${#libraries[@]} > 0)) || continue
  .venv/bin/python -c "import ${module[$purpose]}" 2>/dev/null && continue
  echo "Installing ${libraries[*]} into .venv"
  if ! { { [[ -x .venv/bin/pip ]] || "$python" -m venv .venv; } &&
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "${libraries[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "install_deps.sh: ${libraries[*]} could not be installed, see above" >&2
    exit 1
  fi
done

# NVIDIA's attention kernels (--kernels trtllm-gen), 16 MB out of a wheel of 458 MB that is not kept.
if [[ " ${purposes[*]} " == *" trtllm-gen "* && ! -f build/trtllm-gen/kernels.csv ]]; then
  echo "Fetching the kernels of flashinfer-cubin 0.6.13 (458 MB) for build/trtllm-gen"
  wheels=$(mktemp -d)
  trap 'rm -rf "$log" "$wheels"' EXIT
  if ! { "$python" -m venv "$wheels/venv" &&
    "$wheels/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" flashinfer-cubin==0.6.13 &&
    "$python" scripts/trtllm_gen.py unpack "$wheels"/flashinfer_cubin-*.whl build/trtllm-gen; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "install_deps.sh: flashinfer-cubin could not be fetched, see above" >&2
    exit 1
  fi
fi
