#!/usr/bin/env bash
# Installs the Debian packages that building, testing and plotting need, and the plotting library, which Debian does not
# have, into .venv; with the argument `test` also the browser that tests the report's page. Nothing to do if they are
# there. Without root it prints what to ask an administrator for and ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  g++ cmake ninja-build git                 # build
  libopenmpi-dev openmpi-bin                # ranks
  libcli11-dev libfmt-dev libyaml-cpp-dev nlohmann-json3-dev libpugixml-dev
  libhwy-dev                                # SIMD
  libboost-context-dev                      # tests: emulated GPU threads
  libbenchmark-dev libdnnl-dev              # micro-benchmarks and what they compare with
  catch2 clang-format-14                    # tests
  python3 python3-venv                      # plots, tests of the command line
  iproute2                                  # a slow link between two ranks, for a test
)
[[ ${1:-} == test ]] && packages+=(chromium-headless-shell)
plotting=vl-convert-python==1.9.0.post1     # Vega-Lite: drawn as SVG and PNG, and its JavaScript for the page

if ! command -v dpkg-query >/dev/null; then
  echo "install_deps.sh: no Debian packages on this system; needed are the equivalents of: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [[ $status == "install ok installed" ]] || missing+=("$package")
done

install_plotting() {
  .venv/bin/python -c 'import vl_convert' 2>/dev/null && return
  echo "Installing $plotting into .venv"
  if ! { /usr/bin/python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check "$plotting"; }; then
    echo "install_deps.sh: without $plotting 'helix-bench report' is not built; everything else is" >&2
  fi
}
if [[ ${#missing[@]} -eq 0 ]]; then
  install_plotting
  exit 0
fi

if [[ $EUID -ne 0 ]]; then
  echo "install_deps.sh: missing packages, and only root installs them. Please ask an administrator for:" >&2
  echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Installing ${missing[*]}"
# The package lists of a fresh machine are empty or old: fetched only if the first attempt needs them.
if ! install >"$log" 2>&1 && ! { apt-get update -qq && install; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "install_deps.sh: apt-get failed, see above" >&2
  exit 1
fi
install_plotting
