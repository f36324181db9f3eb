#!/usr/bin/env python3
"""However ranks end, the job ends: with the right exit code, the right message, and soon.
test_mpi_session.py PROGRAM MPIRUN"""
import os
import subprocess
import sys
import time

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
#        ending                 ranks  exit code  message of the program, how often  seconds at most
CASES = [("nothing-special",     3,    0,         "", 0,                             10),
         ("code-1",              3,    1,         "", 0,                             10),
         ("usage-before-mpi",    3,    2,         "helix-bench: no MPI yet", 1,      5),
         ("usage-everywhere",    3,    2,         "helix-bench: all ranks agree", 1, 10),
         ("usage-on-root",       3,    2,         "helix-bench: only root knows", 1, 10),
         ("usage-on-one",        3,    2,         "rank 1: rank 1 alone", 1,         20),
         ("throw-on-one",        3,    3,         "rank 1: rank 1 broke", 1,         10),
         ("throw-nothing-known", 3,    3,         "rank 1: unknown error", 1,        10),
         ("failure-on-root",     3,    3,         "helix-bench: root broke", 1,      10)]

failures = 0
for ending, ranks, code, message, times, seconds in CASES:
    start = time.monotonic()
    done = subprocess.run([mpirun, "-n", str(ranks), program, ending], env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    took = time.monotonic() - start
    lines = [line for line in done.stderr.splitlines() if line.startswith("helix-bench: ")]
    if done.returncode != code or len(lines) != times or not all(message in line for line in lines) or took > seconds:
        failures += 1
        print(f"{ending}: exit code {done.returncode} instead of {code}, {took:.1f} s, messages {lines}\n{done.stderr}")
print(f"{len(CASES) - failures} passed, {failures} failed")
sys.exit(failures > 0)
