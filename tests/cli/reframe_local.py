#!/usr/bin/env python3
"""The ReFrame tests of packaging/reframe on this machine: both pass, and a figure that misses its reference fails. Ends
with 77 without ReFrame.    reframe_local.py HELIX_BENCH MPIRUN"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

program = os.path.abspath(sys.argv[1])
folder = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "reframe"
beside = folder.parents[1] / ".venv" / "bin" / "reframe"
reframe = str(beside) if beside.exists() else shutil.which("reframe")
if not reframe:
    print("no ReFrame; scripts/install_deps.sh reframe installs it")
    sys.exit(77)


def run(scratch, floor):
    """Small points on a named system: what the figures are is the machine's matter. The report, as JSON."""
    report = os.path.join(scratch, "report.json")
    done = subprocess.run(
        [reframe, "-C", folder / "local.py", "-c", folder / "helix_bench.py", "-r", "--prefix", scratch,
         "--report-file", report, "-S", f"program={program}", "-S", "model=tiny-gqa", "-S", "layers=2",
         "-S", "context=300", "-S", "flags=--max-time,0.05,--system,h100", "-S", f"lowest_fraction={floor}"],
        cwd=scratch, capture_output=True, text=True, timeout=280,
        env={**os.environ, "OMPI_MCA_rmaps_base_oversubscribe": "1",
             "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"})
    with open(report) as file:
        cases = {case["name"].split()[0]: case for session in json.load(file)["runs"] for case in session["testcases"]}
    return done, cases


with tempfile.TemporaryDirectory() as scratch:
    done, cases = run(scratch, 0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(cases) == {"HelixVerify", "HelixSweep"}, cases.keys()
    assert all(case["result"] == "pass" for case in cases.values()), cases
    figures = str(cases["HelixSweep"].get("perfvalues") or cases["HelixSweep"].get("perfvars"))
    assert "worst_roofline_fraction" in figures and "median_roofline_fraction" in figures, figures
with tempfile.TemporaryDirectory() as scratch:
    done, cases = run(scratch, 1000)
    assert done.returncode != 0, done.stdout
    assert cases["HelixVerify"]["result"] == "pass" and cases["HelixSweep"]["result"] == "fail", cases
print("reframe_local.py: passed")
