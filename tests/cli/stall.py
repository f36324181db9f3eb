#!/usr/bin/env python3
"""A run that has come to a standstill ends with exit code 3, one line that says who is stuck in what, and its rows kept:
a rank that is stopped, a link that goes down. A run that takes long goes on.
stall.py HELIX_BENCH MPIRUN"""
import csv
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from messages import messages

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())
SWEEP = ["--model", "tiny-gqa", "--context", "64,300", "--batch", "1,3", "--ranks", "2", "--system", "h100"]
SLOW = ["--max-time", "0.4", "--rel-error", "0.000001"]
TIMEOUT = 4


def start(*arguments, launch=("-n", "2")):
    return subprocess.Popen([mpirun, *launch, program, *arguments], cwd=scratch, env=ENVIRONMENT,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ranks_of(launcher):
    ranks = {}
    for pid in pathlib.Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        for variable in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                ranks[int(variable.split(b"=")[1])] = int(pid)
    return [ranks[rank] for rank in sorted(ranks)]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # in user mode and in the kernel


def wait_for_rows(job, name, rows=1):
    results = scratch / name / "results.csv"
    deadline = time.monotonic() + 100
    while not (results.exists() and results.read_text().count("\n") > rows):
        assert time.monotonic() < deadline and job.poll() is None, f"{name}: no first row"
        time.sleep(0.01)


def rows_of(name):
    with open(scratch / name / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def stalled(name, stopped, arguments=SWEEP):
    job = start(*arguments, *SLOW, "--stall-timeout", TIMEOUT.__str__(), "--out", name)
    wait_for_rows(job, name)
    victims = [pid for rank, pid in enumerate(ranks_of(job.pid)) if rank in stopped]
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    stderr = job.communicate(timeout=100)[1]
    assert time.monotonic() - begin < TIMEOUT + 60, name
    lines = messages(stderr)
    assert job.returncode == 3 and len(lines) == 1, (name, job.returncode, stderr)
    deadline = time.monotonic() + 20
    while any(pathlib.Path(f"/proc/{pid}").exists() for pid in victims):
        assert time.monotonic() < deadline, f"{name}: a stopped rank is left"
        time.sleep(0.1)
    rows = rows_of(name)
    assert rows and all(row["status"] == "ok" for row in rows), rows
    return lines[0], rows


for rank in (0, 1):
    line, rows = stalled(f"stop-{rank}", {rank})
    for needle in (os.uname().nodename, f"rank {rank}", "row 'tiny-gqa/", "phase ", f"--resume --out stop-{rank}"):
        assert needle in line, (needle, line)
# The only rank that measures is stopped; the other one is idle meanwhile.
line, rows = stalled("alone", {0}, ["--model", "tiny-gqa", "--context", "64,300", "--batch", "1,3", "--ranks", "1", "--system",
                                    "h100"])
assert "rank 0" in line, line

# Ctrl-C on a run that stands still, and one without a watchdog.
for name, timeout in (("interrupted", "100"), ("unwatched", "0")):
    job = start(*SWEEP, *SLOW, "--stall-timeout", timeout, "--out", name)
    wait_for_rows(job, name)
    os.kill(ranks_of(job.pid)[1], signal.SIGSTOP)
    time.sleep(1)
    os.kill(job.pid, signal.SIGINT)
    job.communicate(timeout=30)
    assert job.returncode != 0 and rows_of(name), name

# All ranks stopped and continued, as by Ctrl-Z and fg, is no standstill; nor is a reader who takes his time.
job = start(*SWEEP, *SLOW, "--stall-timeout", "5", "--json", "--out", "paused")
wait_for_rows(job, "paused")
pids = ranks_of(job.pid)
for pid in pids:
    os.kill(pid, signal.SIGSTOP)
time.sleep(8)
for pid in pids:
    os.kill(pid, signal.SIGCONT)
stdout, stderr = job.communicate(timeout=100)
assert job.returncode == 0 and len(rows_of("paused")) >= 4, stderr

# The other commands that use ranks have the same flag.
for command in (["verify", "--model", "tiny-gqa", "--context", "300,3000,10000", "--batch", "1,2,3,4", "--kvp", "1,2"],
                ["calibrate", "--rounds", "1000"]):
    job = start(*command, "--stall-timeout", "8")
    deadline = time.monotonic() + 60
    while len(ranks_of(job.pid)) < 2:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    try:
        # Stopped in MPI_Init it would not be watched yet; that takes longer on a busy machine, but no more work.
        while cpu_seconds(ranks_of(job.pid)[1]) < 0.4:
            time.sleep(0.01)
        time.sleep(0 if command[0] == "verify" else 12)
        os.kill(ranks_of(job.pid)[1], signal.SIGSTOP)
    except (IndexError, FileNotFoundError, ProcessLookupError):  # verified already
        job.communicate(timeout=60)
        assert command[0] == "verify" and job.returncode == 0, (command, job.returncode)
        continue
    stderr = job.communicate(timeout=100)[1]
    assert job.returncode == 3 and len(messages(stderr)) == 1 and "rank 1" in stderr, (command, job.returncode, stderr)
done = start("--stall-timeout", "-1", launch=("-n", "1"))
assert "--stall-timeout" in done.communicate(timeout=60)[1] and done.returncode == 2
shutil.rmtree(scratch)
print("1 passed, 0 failed")
