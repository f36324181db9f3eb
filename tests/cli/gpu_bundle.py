#!/usr/bin/env python3
"""A bundle of the programs of this build starts on a bare Debian: scripts/gpu_bundle.sh, scripts/fresh_machine.sh.
gpu_bundle.py HELIX_BENCH [unused]; ends with 77 (skipped) where no such Debian can be made."""
import pathlib
import subprocess
import sys

source = pathlib.Path(__file__).resolve().parents[2]
build = pathlib.Path(sys.argv[1]).resolve().parents[1]
made = subprocess.run([source / "scripts/gpu_bundle.sh", "--from", build], capture_output=True, text=True, timeout=300)
print(made.stdout, made.stderr)
assert made.returncode == 0, made.returncode
started = subprocess.run([source / "scripts/fresh_machine.sh", "bookworm", "bundle"], capture_output=True, text=True, timeout=900)
print(started.stdout, started.stderr)
sys.exit(started.returncode)
