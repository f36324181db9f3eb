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

from two_nodes import TwoNodes

program, mpirun = sys.argv[1:3]
scratch = pathlib.Path(tempfile.mkdtemp())
TIMEOUT = 5


def broken_link(nodes, name, timeout, then):
    results = scratch / name / "results.csv"
    with open(scratch / f"{name}.err", "w") as errors:
        job = subprocess.Popen(
            **nodes.launch(program, "sweep", "--model", "tiny-gqa", "--context", "64,300", "--batch", "1,3", "--ranks", "2",
                           "--system", "h100", "--max-time", "2", "--rel-error", "0.000001", "--stall-timeout", str(timeout),
                           "--quiet", "--out", str(scratch / name)),
            stdout=subprocess.DEVNULL, stderr=errors)
        deadline = time.monotonic() + 100
        while not (results.exists() and results.read_text().count("\n") > 1):
            assert time.monotonic() < deadline and job.poll() is None, (scratch / f"{name}.err").read_text()
            time.sleep(0.01)
        nodes.network("ip", "-n", nodes.spaces[0], "link", "set", nodes.links[0], "down")
        begin = time.monotonic()
        then(job)
        job.wait(timeout=120)
    seconds = time.monotonic() - begin
    nodes.network("ip", "-n", nodes.spaces[0], "link", "set", nodes.links[0], "up")
    with open(results, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["status"] == "ok" for row in rows), rows
    stderr = (scratch / f"{name}.err").read_text()
    return job.returncode, seconds, [line for line in stderr.splitlines() if line.startswith("helix-bench: ")]


try:
    with TwoNodes(mpirun, scratch) as nodes:
        code, seconds, lines = broken_link(nodes, "down", TIMEOUT, lambda job: None)
        print(f"down: exit code {code} after {seconds:.1f} s, {lines}")
        assert code != 0 and len(lines) == 1 and seconds < TIMEOUT + 60, (code, seconds, lines)
        for needle in (os.uname().nodename, "rank 0", "row 'tiny-gqa/", "phase "):
            assert needle in lines[0], lines

        def interrupt(job):
            time.sleep(1)
            os.kill(job.pid, signal.SIGINT)

        code, seconds, _ = broken_link(nodes, "interrupted", 100, interrupt)
        print(f"interrupted: exit code {code} after {seconds:.1f} s")
        assert code != 0 and seconds < 40, (code, seconds)
finally:
    shutil.rmtree(scratch)
