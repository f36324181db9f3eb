#!/usr/bin/env python3
"""A real sweep of a tiny model on two ranks: what it writes, what it prints, and that a killed run is continued.
run_directory.py HELIX_BENCH MPIRUN"""
import csv
import fcntl
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())
# A system that is given saves the seconds of calibration; ranks 4 does not fit the launch.
SWEEP = ["--model", "tiny-gqa", "--context", "64,300", "--batch", "1,3", "--ranks", "1,2,4", "--max-time", "0.05",
         "--system", "h100"]


def launch(*arguments):
    return [mpirun, "-n", "2", program, *SWEEP, *arguments]


def run(*arguments):
    done = subprocess.run(launch(*arguments), cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(name):
    with open(scratch / name, newline="") as file:
        return list(csv.DictReader(file))


# Types that no kernel runs: a row that says so, though there is nothing to calibrate for.
subprocess.run([mpirun, "-n", "2", program, "--model", "tiny-gqa", "--context", "64", "--batch", "1",
                "--weight-dtype", "nvfp4", "--out", "unmeasured"], cwd=scratch, env=ENVIRONMENT,
               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=240)
for row in table("unmeasured/results.csv"):
    assert row["status"] == "skipped" and "nvfp4" in row["reason"] and not row["ttl_us"], row

# A whole run.
printed = run("--out", "whole")
rows = table("whole/results.csv")
assert len({row["id"] for row in rows}) == len(rows)
measured = [row for row in rows if row["status"] == "ok"]
skipped = [row for row in rows if row["status"] == "skipped"]
assert {row["strategy"] for row in measured} == {"helix", "tp"}
assert len(measured) + len(skipped) == len(rows) and skipped
for row in skipped:
    assert "needs 4 MPI ranks, this launch has 2" in row["reason"] and not row["ttl_us"], row
for row in measured:
    for column in ("ttl_us", "model_ttl_us", "roofline_ttl_us", "verify_rel_error", "attn_us", "kv_bytes_per_rank"):
        assert math.isfinite(float(row[column])), (row["id"], column)
    assert float(row["verify_rel_error"]) <= 1e-2, row
    ttl = float(row["ttl_us"])
    assert math.isclose(float(row["tokens_per_s_user"]), 1e6 / ttl, rel_tol=1e-5)
    assert math.isclose(float(row["model_error"]), float(row["model_ttl_us"]) / ttl - 1, rel_tol=1e-4, abs_tol=1e-5)
    assert float(row["ttl_min_us"]) <= ttl <= float(row["ttl_p90_us"]) <= float(row["ttl_p99_us"])
assert not any(value.lower().strip("-") in ("nan", "inf") for row in rows for value in row.values())
assert [row["id"] for row in table("whole/pareto.csv")] == [row["id"] for row in rows if row["pareto"] == "1"]
samples = table("whole/samples.csv")
for row in measured:
    assert sum(sample["id"] == row["id"] for sample in samples) == int(row["samples"])
run_json = json.loads((scratch / "whole/run.json").read_text())
assert run_json["complete"] and run_json["resumed"] == 0 and run_json["start_time"] <= run_json["end_time"]
assert run_json["command_line"][1:] == ["sweep", *SWEEP, "--out", "whole"]
for name in ("results.csv", "pareto.csv", "samples.csv", "run.json"):
    assert f"whole/{name}" in printed, printed

# A run killed after some rows.
killed = subprocess.Popen(launch("--out", "killed", "--quiet"), cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
results = scratch / "killed/results.csv"
deadline = time.monotonic() + 120
while time.monotonic() < deadline and not (results.exists() and results.read_text().count("\n") >= 3):
    time.sleep(0.01)
os.killpg(killed.pid, signal.SIGKILL)
killed.wait()
# Without mpirun its ranks die, too, but not at once: they hold the directory's lock until then.
directory = os.open(scratch / "killed", os.O_RDONLY)
fcntl.flock(directory, fcntl.LOCK_EX)
os.close(directory)
before = table("killed/results.csv")
assert 2 <= len(before) <= len(rows), len(before)
assert json.loads((scratch / "killed/run.json").read_text())["complete"] in (False, len(before) == len(rows))
with open(results, "a") as file:
    file.write("tiny-gqa/torn")
assert run("--out", "killed", "--resume", "--quiet") == ""
after = table("killed/results.csv")
assert [row["id"] for row in after] == [row["id"] for row in rows]
for old, new in zip(before, after):
    assert {**old, "pareto": ""} == {**new, "pareto": ""}
resumed = json.loads((scratch / "killed/run.json").read_text())
assert resumed["resumed"] == 1 and resumed["complete"]
assert [(part["first_row"], part["rows"]) for part in resumed["parts"]] == [(0, len(before)), (len(before), len(rows) - len(before))]

# Another seed, model, type, rule or number of ranks is another run: refused, naming what differs, and nothing is written.
untouched = results.read_bytes()
for flags, ranks, needle in ((["--seed", "7"], 2, "--seed 1, not 7"), (["--max-time", "9"], 2, "--max-time 0.05, not 9"),
                             (["--kv-dtype", "fp8"], 2, "--kv-dtype bf16, not fp8"), ([], 4, "2 ranks, not 4"),
                             (["--model", "tiny-mla"], 2, "--model tiny-gqa, not tiny-mla")):
    command = [mpirun, "-n", str(ranks), program, *SWEEP]
    for flag, value in zip(flags[::2], flags[1::2]):
        if flag in command:
            command[command.index(flag) + 1] = value
        else:
            command += [flag, value]
    refused = subprocess.run([*command, "--out", "killed", "--resume"], cwd=scratch, env=ENVIRONMENT,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and needle in refused.stderr, refused
    assert results.read_bytes() == untouched

# A budget: every row stays in results.csv, with whether it meets it; frontier and output know those that do.
budget = sorted(float(row["ttl_us"]) for row in measured)[len(measured) // 2] / 1e3
printed = json.loads(run("--out", "budget", "--ttl-budget", str(budget), "--json"))
kept = table("budget/results.csv")
assert len(kept) == len(rows)
for row in kept:
    if row["status"] == "ok":
        assert row["meets_budget"] == str(int(float(row["ttl_us"]) <= budget * 1e3)), row
assert {row["id"] for row in printed} == {row["id"] for row in kept if row["status"] == "ok" and row["meets_budget"] == "1"}
assert all(row["meets_budget"] == "1" for row in table("budget/pareto.csv"))
# What the model puts at more than twice the budget is not measured.
run("--out", "hopeless", "--ttl-budget", "0.0001", "--quiet")
for row in table("hopeless/results.csv"):
    assert row["status"] == "skipped" and ("twice the budget" in row["reason"] or "MPI ranks" in row["reason"]), row
assert not table("hopeless/pareto.csv")

# Every strategy, and HOP-B, on two ranks.
EVERY = ["--model", "tiny-qwen3-moe", "--context", "100", "--batch", "3", "--ranks", "2", "--strategy",
         "helix,tp,tp+pp,medha,dp+ep", "--kvp", "1,2", "--dp", "1,2", "--hop-b", "1,2"]
subprocess.run([mpirun, "-n", "2", program, "sweep", *EVERY, "--system", "h100", "--max-time", "0.05", "--out", "every", "--quiet"],
               cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=True, timeout=240)
every = table("every/results.csv")
assert {row["strategy"] for row in every if row["status"] == "ok"} == {"helix", "tp", "tp+pp", "medha", "dp+ep"}
assert {(row["dp"], row["hop_b"]) for row in every if row["strategy"] == "helix" and row["status"] == "ok"} >= {
    ("1", "1"), ("1", "2")}, every
# Helix without KV parallelism is a baseline, which stands there alone.
assert not [row for row in every if row["strategy"] == "helix" and row["kvp"] == "1" and row["dp"] == "2"], every
assert not [row for row in every if row["status"] in ("failed", "wrong")], every
verified = subprocess.run([mpirun, "-n", "2", program, "verify", *EVERY, "--json"], cwd=scratch, env=ENVIRONMENT,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=240)
checks = json.loads(verified.stdout)
assert {row["id"] for row in checks if row["status"] == "ok"} == {row["id"] for row in every if row["status"] == "ok"}

# Rows for other programs.
assert [row["id"] for row in json.loads(run("--out", "json", "--json"))] == [row["id"] for row in rows]
assert run("--out", "csv", "--csv").splitlines()[0].startswith("id,status,reason,strategy,model,")

# Without --out each run has a directory of its own.
run("--quiet")
run("--quiet")
made = sorted(path for path in (scratch / "results").iterdir() if not path.is_symlink())
assert len(made) == 2
assert (scratch / "results/latest").resolve() == made[-1].resolve()
print("1 passed, 0 failed")
