#!/usr/bin/env python3
"""A link between two nodes goes down and stays down: the run ends with one line and its rows, and Ctrl-C ends it within
seconds before that. mpirun cannot end as it would by itself: it waits for its daemon behind the link, and is ended.
link_down.py HELIX_BENCH MPIRUN; ends with 77 (skipped) where namespaces are not to be had."""
import csv
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
from messages import messages
from two_nodes import TwoNodes

program, mpirun = sys.argv[1:3]
folder = pathlib.Path(tempfile.mkdtemp())
TIMEOUT = 5


def broken_link(name, timeout, then):
    """Exit code, seconds from the cut to the end, and the program's lines. On nodes of its own, since what a job leaves
    behind on nodes that it could not reach must not meet the next one."""
    scratch = folder / name
    scratch.mkdir()
    results, errors = scratch / "run" / "results.csv", scratch / "stderr"
    with TwoNodes(mpirun, scratch) as nodes:
        with open(errors, "w") as file:
            job = subprocess.Popen(
                **nodes.launch(program, "sweep", "--model", "tiny-gqa", "--context", "64,300", "--batch", "1,3", "--ranks",
                               "2", "--system", "h100", "--max-time", "2", "--rel-error", "0.000001", "--stall-timeout",
                               str(timeout), "--quiet", "--out", str(scratch / "run")),
                stdout=subprocess.DEVNULL, stderr=file)
        deadline = time.monotonic() + 100
        while not (results.exists() and results.read_text().count("\n") > 1):
            assert time.monotonic() < deadline and job.poll() is None, errors.read_text()
            time.sleep(0.01)
        nodes.network("ip", "-n", nodes.spaces[0], "link", "set", nodes.links[0], "down")
        begin = time.monotonic()
        then(job)
        job.wait(timeout=120)
        seconds = time.monotonic() - begin
    with open(results, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["status"] == "ok" for row in rows), rows
    return job.returncode, seconds, messages(errors.read_text())


def interrupt(job):
    time.sleep(1)
    os.kill(job.pid, signal.SIGINT)


try:
    code, seconds, lines = broken_link("down", TIMEOUT, lambda job: None)
    print(f"down: exit code {code} after {seconds:.1f} s, {lines}")
    assert code != 0 and len(lines) == 1 and seconds < TIMEOUT + 60, (code, seconds, lines)
    for needle in (os.uname().nodename, "rank 0", "row 'tiny-gqa/", "phase "):
        assert needle in lines[0], lines

    code, seconds, _ = broken_link("interrupted", 100, interrupt)
    print(f"interrupted: exit code {code} after {seconds:.1f} s")
    assert code != 0 and seconds < 40, (code, seconds)
finally:
    shutil.rmtree(folder)
