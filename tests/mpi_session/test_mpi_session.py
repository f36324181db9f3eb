#!/usr/bin/env python3
"""However ranks end, the job ends: with the right exit code, the right message, and soon.
test_mpi_session.py PROGRAM MPIRUN"""
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from messages import messages

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
    lines = messages(done.stderr)
    if done.returncode != code or len(lines) != times or not all(message in line for line in lines) or took > seconds:
        failures += 1
        print(f"{ending}: exit code {done.returncode} instead of {code}, {took:.1f} s, messages {lines}\n{done.stderr}")

# A launcher that is not our MPI's: each process is alone in a world of its own.
STRANGERS = [({"PMI_SIZE": "4", "PMI_RANK": "0"}, "PMI_SIZE=4"), ({"PMIX_RANK": "1"}, "PMIX_RANK=1"),
             ({"SLURM_NTASKS": "8"}, "SLURM_NTASKS=8"), ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2"),
             ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "0", "SLURM_NTASKS": "3"}, "SLURM_STEP_NUM_TASKS=3")]
FINE = [{}, {"SLURM_NTASKS": "1"}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"}, {"PMI_SIZE": "1", "PMI_RANK": "0"},
        {"PMIX_RANK": "0"}]
for variables, named in STRANGERS + [(variables, "") for variables in FINE]:
    done = subprocess.run([program, "nothing-special"], env={**ENVIRONMENT, **variables}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    lines = messages(done.stderr)
    if done.returncode != (2 if named else 0) or len(lines) != (1 if named else 0) or named not in "".join(lines):
        failures += 1
        print(f"{variables}: exit code {done.returncode}\n{done.stderr}")
# Inside a batch job our own mpirun of one rank is what it says.
done = subprocess.run([mpirun, "-n", "1", program, "nothing-special"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                      env={**ENVIRONMENT, "PMI_SIZE": "4"}, timeout=60)
if done.returncode != 0:
    failures += 1
    print(f"mpirun -n 1 under PMI_SIZE: exit code {done.returncode}\n{done.stderr}")
CASES += STRANGERS + FINE + [None]
print(f"{len(CASES) - failures} passed, {failures} failed")
sys.exit(failures > 0)
