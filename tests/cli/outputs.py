#!/usr/bin/env python3
"""Whatever is written is there as a whole or not at all: full disks, links, pipes, a run directory that vanishes under its
sweep; rows as JSON lines while the sweep runs; memory that is not to be had.
outputs.py HELIX_BENCH MPIRUN"""
import csv
import io
import json
import os
import pathlib
import resource
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
SWEEP = [mpirun, "-n", "2", program, "--model", "tiny-gqa", "--context", "64,300", "--batch", "1,3", "--ranks", "2", "--system",
         "h100", "--rel-error", "0.000001"]
PREDICT = [program, "predict", "--model", "tiny-gqa", "--system", "h100", "--context", "1k,4k", "--batch", "1,2,4"]


def call(command, **more):
    return subprocess.run([str(part) for part in command], cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=200, **more)


def limit_files(size):
    def limit():
        # As for a shell's children: a write beyond the limit fails instead of killing.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


assert call([*SWEEP, "--max-time", "0.05", "--quiet", "--out", "run"]).returncode == 0
point = next(csv.DictReader(open(scratch / "run/results.csv")))["id"]
EXPORT = [program, "export", "run", "--point", point, "--format", "vllm"]
printed = call(EXPORT).stdout

# No room: nothing is left of the file, and an older one stays.
(scratch / "older").write_text("older\n")
for command, files in ((EXPORT + ["--out", "new"], ["new"]), (EXPORT + ["--out", "older"], []),
                       ([program, "compare", "run", "run", "--quiet", "--csv", "c.csv"], ["c.csv"]),
                       ([program, "compare", "run", "run", "--quiet", "--json", "older"], []),
                       (PREDICT + ["--quiet", "--out", "full"], ["full/results.csv", "full/pareto.csv", "full/crossover.csv",
                                                                 "full/run.json"]),
                       ([program, "report", "run", "--quiet", "--out", "page"], ["page/report.html"])):
    done = call(command, preexec_fn=limit_files(40))
    assert done.returncode in (2, 3) and len(messages(done.stderr)) == 1, (command, done)
    left = [file for file in files if (scratch / file).exists()] + list(scratch.glob("**/*.partial"))
    assert not left, (command, left)
    assert (scratch / "older").read_text() == "older\n", command

# What is no plain file is written as it is; a link stays a link.
assert call(EXPORT + ["--out", "/dev/stdout"]).stdout == printed
with open(scratch / "appended", "w") as file:
    file.write("before\n")
    file.flush()
    subprocess.run([*EXPORT, "--out", "/dev/stdout"], cwd=scratch, stdout=file, check=True, timeout=60)
assert (scratch / "appended").read_text() == "before\n" + printed
(scratch / "link").symlink_to("target")
assert call(EXPORT + ["--out", "link"]).returncode == 0
assert (scratch / "link").is_symlink() and (scratch / "target").read_text() == printed
os.mkfifo(scratch / "pipe")
reader = subprocess.Popen(["cat", "pipe"], cwd=scratch, stdout=subprocess.PIPE, text=True)
assert call(EXPORT + ["--out", "pipe"]).returncode == 0
assert reader.communicate(timeout=60)[0] == printed
done = call(EXPORT + ["--out", "/dev/full"])
assert done.returncode == 2 and len(messages(done.stderr)) == 1 and "/dev/full" in done.stderr, done


def sweeping(name, *arguments):
    job = subprocess.Popen([*SWEEP, "--max-time", "0.4", "--out", name, *arguments], cwd=scratch, env=ENVIRONMENT,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results = scratch / name / "results.csv"
    deadline = time.monotonic() + 100
    while not (results.exists() and results.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline and job.poll() is None, f"{name}: no first row"
        time.sleep(0.01)
    return job


# The directory is removed, or moved away and another one made, or its rows are rewritten: noticed with the next row.
def replace(directory):
    directory.rename(directory.with_suffix(".moved"))
    directory.mkdir()


for name, change in (("removed", shutil.rmtree), ("replaced", replace),
                     ("rewritten", lambda directory: (directory / "results.csv").write_text("mine\n"))):
    job = sweeping(name, "--quiet")
    change(scratch / name)
    stdout, stderr = job.communicate(timeout=100)
    assert job.returncode == 3 and len(messages(stderr)) == 1 and name in messages(stderr)[0], (name, stderr)
    rows = list(csv.DictReader(io.StringIO(stdout)))
    assert 1 <= len(rows) < 5 and all(row["status"] == "ok" and float(row["ttl_us"]) > 0 for row in rows), (name, stdout)

# Rows while the sweep goes on, each a line of JSON; the same ones when it is resumed.
job = sweeping("lines", "--json-lines")
first = json.loads(job.stdout.readline())
assert first["status"] == "ok" and first["ttl_us"] > 0 and first["pareto"] is None and job.poll() is None
rest, stderr = job.communicate(timeout=100)
assert job.returncode == 0, stderr
ids = [first["id"]] + [json.loads(line)["id"] for line in rest.splitlines()]
assert ids == [row["id"] for row in csv.DictReader(open(scratch / "lines/results.csv"))]
again = call([*SWEEP, "--max-time", "0.4", "--out", "lines", "--resume", "--json-lines"]).stdout
assert [json.loads(line)["id"] for line in again.splitlines()] == ids
lines = call([*PREDICT, "--json-lines", "--out", "predicted"]).stdout.splitlines()
whole = json.loads(call([*PREDICT, "--json", "--out", "whole"]).stdout)
assert [json.loads(line) for line in lines] == whole and lines
verified = call([mpirun, "-n", "2", program, "verify", "--model", "tiny-gqa", "--context", "300", "--batch", "1", "--json-lines"])
assert verified.returncode == 0 and all(json.loads(line)["id"] for line in verified.stdout.splitlines()), verified
assert call([*PREDICT, "--json", "--json-lines"]).returncode == 2

# Memory that is not to be had: how much was wanted, and what for. What libraries take of an address space differs, so that
# only some of these sizes are met by the program itself, and neither by its loader nor by the engine, whose row fails then.
told = []
for mib in range(300, 1500, 100):
    done = call([program, "--model", "llama-3.2-1b", "--context", "4k", "--batch", "1", "--ranks", "1", "--system", "h100", "--out",
                 f"memory{mib}"], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20)))
    if done.returncode == 0:
        assert "rank 0 did not get its memory: the engine takes up to" in done.stdout, done
        break
    if "out of memory: " in done.stderr:
        assert done.returncode == 3 and len(messages(done.stderr)) == 1, done
        assert " wanted in " in done.stderr and "phase " in done.stderr, done.stderr
        told.append(mib)
assert told
shutil.rmtree(scratch)
print("1 passed, 0 failed")
