#!/usr/bin/env python3
"""However a sweep is broken off, it ends soon, with the right exit code and at most one line of its own; what was
measured is on disk, well-formed, and --resume completes it.    broken_off.py HELIX_BENCH MPIRUN"""
import csv
import json
import os
import pathlib
import resource
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
# Rows that take a while, so that there is one in flight when the run is told to stop; and the same in no time.
SLOW = ["--max-time", "0.4", "--rel-error", "0.000001"]
QUICK = ["--max-time", "0.02", "--rel-error", "1"]


def table(name):
    with open(scratch / name, newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments, rule=QUICK):
    return subprocess.run([mpirun, "-n", "2", program, *SWEEP, *rule, *arguments], cwd=scratch, env=ENVIRONMENT,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def ranks_of(launcher):
    """The pids of its ranks, by rank."""
    ranks = {}
    for pid in pathlib.Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        for variable in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                ranks[int(variable.split(b"=")[1])] = int(pid)
    return [ranks[rank] for rank in sorted(ranks)]


def broken_off(name, break_it):
    """Starts a sweep, breaks it when its first row is on disk; exit code, its own messages, rows that it left."""
    job = subprocess.Popen([mpirun, "-n", "2", program, *SWEEP, *SLOW, "--out", name], cwd=scratch, env=ENVIRONMENT,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    results = scratch / name / "results.csv"
    deadline = time.monotonic() + 60
    while not (results.exists() and results.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline and job.poll() is None, f"{name}: no first row"
        time.sleep(0.01)
    break_it(job.pid, ranks_of(job.pid), results)
    stderr = job.communicate(timeout=60)[1]
    assert results.read_text().endswith("\n"), name
    rows = table(f"{name}/results.csv")
    assert 1 <= len(rows) and all(None not in row.values() and row["status"] == "ok" for row in rows), rows
    samples = table(f"{name}/samples.csv")
    for row in rows:
        assert sum(sample["id"] == row["id"] for sample in samples) == int(row["samples"]), row["id"]
    assert json.loads((scratch / name / "run.json").read_text())["complete"] is False
    return job.returncode, messages(stderr), rows


def resumed(name, before, expected):
    done = run("--out", name, "--resume", "--quiet", rule=SLOW)  # a run goes on by the rule that it began with
    assert done.returncode == 0, done.stderr
    after = table(f"{name}/results.csv")
    assert [row["id"] for row in after] == expected, name
    for old, new in zip(before, after):
        assert {**old, "pareto": ""} == {**new, "pareto": ""}, old["id"]
    run_json = json.loads((scratch / name / "run.json").read_text())
    assert run_json["complete"] and run_json["resumed"] == 1 and "broken_off_by" not in run_json
    assert not list((scratch / name).glob("*.partial"))


def limit_files_of_rank_0(launcher, ranks, results):
    # Half a row's room: what a full disk does to the row in flight, without one.
    room = results.stat().st_size + 100
    resource.prlimit(ranks[0], resource.RLIMIT_FSIZE, (room, room))


assert run("--out", "whole", "--quiet").returncode == 0
all_ids = [row["id"] for row in table("whole/results.csv")]
assert len(all_ids) >= 4

# Slurm signals every process of a step, batch scripts often one; mpirun hands SIGUSR1 on to its ranks.
for kind, to_whom in ((signal.SIGTERM, lambda launcher, ranks: ranks), (signal.SIGINT, lambda launcher, ranks: ranks[1:]),
                      (signal.SIGUSR1, lambda launcher, ranks: [launcher])):
    name = kind.name
    code, lines, rows = broken_off(name, lambda launcher, ranks, _: [os.kill(p, kind) for p in to_whom(launcher, ranks)])
    assert code == 3, (name, code)
    assert len(lines) == 1 and name in lines[0] and f"--resume --out {name}" in lines[0], lines
    assert json.loads((scratch / name / "run.json").read_text())["broken_off_by"] == name
    assert len(rows) < len(all_ids), f"{name}: it went on to the end"
    resumed(name, rows, all_ids)

# What gives nobody time to finish: a rank dies, mpirun is told to end (it kills its ranks a second later).
for name, break_it in (("kill-rank-0", lambda launcher, ranks, _: os.kill(ranks[0], signal.SIGKILL)),
                       ("kill-rank-1", lambda launcher, ranks, _: os.kill(ranks[1], signal.SIGKILL)),
                       ("end-mpirun", lambda launcher, ranks, _: os.kill(launcher, signal.SIGTERM))):
    code, lines, rows = broken_off(name, break_it)
    assert code != 0 and len(lines) <= 1, (name, code, lines)
    resumed(name, rows, all_ids)

# The disk is full in the middle of a row.
code, lines, rows = broken_off("disk-full", limit_files_of_rank_0)
assert code == 3 and len(lines) == 1 and "cannot write" in lines[0], (code, lines)
resumed("disk-full", rows, all_ids)

# A directory that cannot be written is found out before anything is measured. /proc is one for root, too.
locked = scratch / "locked"
locked.mkdir(mode=0o555)
for directory in ("/proc/helix",) + (() if os.geteuid() == 0 else (str(locked), str(locked / "below"))):
    done = run("--out", directory)
    assert done.returncode == 2 and len(messages(done.stderr)) == 1 and "--out" in done.stderr, (directory, done.stderr)

# Standard output on a full disk.
with open("/dev/full", "w") as full:
    done = subprocess.run([program, "list", "models"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
assert done.returncode == 3 and len(messages(done.stderr)) == 1, done
print("1 passed, 0 failed")
