#!/usr/bin/env python3
"""scripts/ci_compare.sh as the CI workflows call it, with programs that are already built: the order of its runs, its
verdicts and what it leaves.    ci_compare.py HELIX_BENCH MPIRUN"""
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

program, mpirun = map(os.path.abspath, sys.argv[1:3])
script = pathlib.Path(__file__).resolve().parents[2] / "scripts/ci_compare.sh"
scratch = pathlib.Path(tempfile.mkdtemp())
SWEEP = ["--model", "tiny-gqa", "--context", "300", "--batch", "1,3", "--max-time", "0.02"]

# A program that really measures, notes what it was asked for, and replaces the samples by SPEED times known ones: what
# the script makes of runs is to be tested, not how busy this machine is.
WRAPPER = f"""#!{sys.executable}
import csv, os, pathlib, subprocess, sys
done = subprocess.run([{program!r}, *sys.argv[1:], *(["--rounds", "1"] if sys.argv[1] == "calibrate" else [])])
if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
    with open({str(scratch / "calls")!r}, "a") as calls:
        calls.write(f"SIDE {{sys.argv[1]}}\\n")
    if sys.argv[1] == "sweep":
        out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
        with open(out / "results.csv", newline="") as file:
            ids = [row["id"] for row in csv.DictReader(file)]
        (out / "samples.csv").write_text("id,sample,ttl_us\\n" + "".join(
            f"{{name}},{{i}},{{SPEED * (1000 + i % 7 + int(out.name[-1]))}}\\n" for name in ids for i in range(20)))
sys.exit(done.returncode)
"""


def wrapper(side, speed):
    path = scratch / f"{side}-{speed}"
    path.write_text(WRAPPER.replace("SIDE", side).replace("SPEED", str(speed)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def run(out, *arguments, **environment):
    (scratch / "calls").unlink(missing_ok=True)
    done = subprocess.run([script, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                          env={**os.environ, "HELIX_OUT": str(scratch / out), "HELIX_LAUNCH": f"{mpirun} -n 2",
                               "OMPI_MCA_hwloc_base_binding_policy": "none", **environment})
    calls = (scratch / "calls").read_text().split("\n")[:-1] if (scratch / "calls").exists() else []
    return done, [call for call in calls if not call.endswith(" report")]


base, same, slower = wrapper("base", 1.0), wrapper("head", 1.0), wrapper("head", 1.1)

# Two runs a side, taken in turn; the calibration of the base holds for all of them.
done, calls = run("same", "main", "topic", *SWEEP, HELIX_BASE_BENCH=base, HELIX_HEAD_BENCH=same, HELIX_REPEATS="2")
assert done.returncode == 0, done
assert calls == ["base calibrate", "base sweep", "head sweep", "head sweep", "base sweep", "head compare"], calls
assert "no regression" in done.stdout
assert (scratch / "same/report/report.html").exists(), done
verdict = json.loads((scratch / "same/comparison.json").read_text())
assert [pathlib.Path(d).name for d in verdict["base"]["directories"]] == ["base-1", "base-2"]
assert [pathlib.Path(d).name for d in verdict["new"]["directories"]] == ["head-1", "head-2"]
systems = {json.loads((scratch / "same" / run_name / "run.json").read_text())["system"]
           for run_name in ("base-1", "head-2")}
assert systems == {str(scratch / "same/system.yaml")}, systems

# A slower head. Given a system nothing is calibrated.
done, calls = run("slower", "main", "topic", *SWEEP, "--system", "h100", HELIX_BASE_BENCH=base,
                  HELIX_HEAD_BENCH=slower, HELIX_REPEATS="1")
assert done.returncode == 1 and "REGRESSION" in done.stdout and "base calibrate" not in calls, (done, calls)
assert (scratch / "slower/comparison.md").read_text().startswith("### helix-bench: REGRESSION")
suite = xml.etree.ElementTree.parse(scratch / "slower/comparison.junit.xml").getroot().find("testsuite")
assert int(suite.attrib["failures"]) == len(verdict["rows"])
entries = json.loads((scratch / "slower/comparison.benchmark-action.json").read_text())
assert len(entries) == len(verdict["rows"])
done, _ = run("tolerant", "main", "topic", *SWEEP, "--system", "h100", HELIX_BASE_BENCH=base, HELIX_HEAD_BENCH=slower,
              HELIX_REPEATS="1", HELIX_COMPARE_FLAGS="--threshold 20")
assert done.returncode == 0, done

# What cannot run.
built = {"HELIX_BASE_BENCH": base, "HELIX_HEAD_BENCH": same}
for code, says, arguments, environment in (
        (2, "HEAD_REF", ["main"], built),
        (2, "HELIX_REPEATS", ["a", "b"], {**built, "HELIX_REPEATS": "0"}),
        (2, "not empty", ["a", "b"], {**built, "HELIX_OUT": str(scratch / "same")}),
        (2, "nowhere", ["a", "b"], {**built, "HELIX_HEAD_BENCH": "nowhere"}),
        (2, "no-such-ref", ["no-such-ref", "b"], {"HELIX_HEAD_BENCH": same}),
        (3, "run 1 of base", ["a", "b", "--system", "h100", "--no-such-flag"], built)):
    done, _ = run(f"refused-{says.split()[0]}", *arguments, **environment)
    assert done.returncode == code and says in done.stderr, (says, done)

# A job that is killed while it builds leaves a worktree that git knows of. The next one runs all the same, both in the
# directory as the kill left it and after somebody removed that. In a repository of its own, with a `cmake` that only
# copies a program that is already built, or waits to be killed.
repository, tools = scratch / "repository", scratch / "tools"
(repository / "scripts").mkdir(parents=True)
tools.mkdir()
shutil.copy(script, repository / "scripts")
(tools / "cmake").write_text(f"""#!/bin/bash
[[ $1 == --build ]] || exit 0
if [[ -e {scratch}/wait ]]; then touch {scratch}/building; exec sleep 300; fi
mkdir -p build/release/bin && cp {same} build/release/bin/helix-bench
""")
(tools / "cmake").chmod(0o755)
GIT = ["git", "-C", repository, "-c", "user.name=t", "-c", "user.email=t@localhost"]
for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "a"]):
    subprocess.run([*GIT, *command], check=True)
script = repository / "scripts/ci_compare.sh"
building = {"HELIX_BASE_BENCH": base, "HELIX_REPEATS": "1", "PATH": f"{tools}:{os.environ['PATH']}"}


def killed_while_building():
    (scratch / "wait").touch()
    (scratch / "building").unlink(missing_ok=True)
    job = subprocess.Popen([script, "main", "main", *SWEEP], start_new_session=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           env={**os.environ, **building, "HELIX_OUT": str(scratch / "killed")})
    end = time.monotonic() + 60
    while not (scratch / "building").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert (scratch / "building").exists()
    done, _ = run("killed", "main", "main", **building)  # a second one beside it
    assert done.returncode == 2 and "in use" in done.stderr, done
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    (scratch / "wait").unlink()


def worktrees():
    listing = subprocess.run([*GIT, "worktree", "list"], capture_output=True, text=True, check=True).stdout
    return len(listing.splitlines())


killed_while_building()
assert worktrees() == 2
done, _ = run("killed", "main", "main", *SWEEP, "--system", "h100", **building)
assert done.returncode == 0 and "was killed" in done.stdout, done
assert worktrees() == 1 and not (scratch / "killed/.unfinished").exists()
assert (scratch / "killed/comparison.json").exists() and len(list(scratch.glob("killed.killed-*"))) == 1
shutil.rmtree(scratch / "killed")
killed_while_building()
shutil.rmtree(scratch / "killed")
assert worktrees() == 2
done, _ = run("killed", "main", "main", *SWEEP, "--system", "h100", **building)
assert done.returncode == 0 and worktrees() == 1, done
shutil.rmtree(scratch)
print("1 passed, 0 failed")
