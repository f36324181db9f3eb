#!/usr/bin/env python3
"""A program built with the CUDA backend, on a machine without a driver: it starts, says in one line that no device is
there, and falls back to the CPU where it may.    cuda_absent.py HELIX_BENCH MPIRUN"""
import os
import pathlib
import subprocess
import sys
import tempfile

from messages import messages

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1",
               "CUDA_VISIBLE_DEVICES": ""}  # so that the test means the same on a machine with a GPU
SWEEP = ["--model", "tiny-gqa", "--context", "300", "--batch", "1", "--max-time", "0.05", "--system", "h100"]
scratch = pathlib.Path(tempfile.mkdtemp())
failures = []


def run(arguments, ranks):
    launch = [mpirun, "-n", str(ranks)] if ranks else []
    return subprocess.run(launch + [program, *arguments], cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120)


def check(what, holds, done):
    if not holds:
        failures.append(f"{what}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


# Nothing but a call of the runtime may look for the driver.
needed = subprocess.run(["readelf", "-d", program], capture_output=True, text=True).stdout
if "libcuda.so" in needed or "libnvidia" in needed:
    failures.append("the program is linked with the driver")

for ranks in (0, 2):
    done = run(["--backend", "cuda", *SWEEP], ranks)
    lines = messages(done.stderr)
    check("--backend cuda", done.returncode == 2 and len(lines) == 1 and not done.stdout, done)
    check("the message names host, rank and reason",
          len(lines) == 1 and os.uname().nodename in lines[0] and "rank 0" in lines[0] and "no CUDA device" in lines[0],
          done)
    done = run(["--backend", "auto", "--csv", *SWEEP], ranks)
    check("--backend auto", done.returncode == 0 and ",cpu," in done.stdout, done)

done = run(["predict", "--model", "llama-3.1-8b", "--system", "gb200", "--context", "64k", "--ranks", "8"], 0)
check("predict", done.returncode == 0, done)

print("\n".join(failures) or "cuda_absent.py: passed")
sys.exit(1 if failures else 0)
