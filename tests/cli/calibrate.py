#!/usr/bin/env python3
"""The file that calibrate writes says what it should, and predict and sweep take it.
calibrate.py HELIX_BENCH MPIRUN"""
import csv
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

from messages import messages

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())


def run(*arguments, ranks=0):
    return subprocess.run(([mpirun, "-n", str(ranks)] if ranks else []) + [program, *arguments], cwd=scratch,
                          env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)


def done(*arguments, ranks=0):
    result = run(*arguments, ranks=ranks)
    assert result.returncode == 0, (arguments, result.stderr)
    return result.stdout


# Every group size that divides the ranks, for each collective; two rounds are enough to know a spread.
for ranks, groups in ((2, {"2"}), (3, {"3"}), (4, {"2", "4"})):
    printed = done("calibrate", "--rounds", "2", "--force", "--out", f"{ranks}.yaml", ranks=ranks)
    assert f"{ranks}.yaml" in printed, printed
    text = (scratch / f"{ranks}.yaml").read_text()
    lines = text.splitlines()
    for op in ("all_reduce", "all_gather", "all_to_all"):
        assert {re.search(r"group: (\d+)", line)[1] for line in lines if f"op: {op}" in line} == groups, text
    kernels = [line for line in lines if "family: " in line]
    assert {re.search(r"family: (\w+), dtype: (\w+)", line).groups() for line in kernels} >= {
        ("gemm", "bf16"), ("moe", "bf16"), ("elementwise", "bf16"), ("gqa_attention", "bf16"),
        ("gqa_attention", "fp8"), ("mla_attention", "bf16"), ("mla_attention", "fp8"), ("indexer", "bf16"), ("indexer", "fp8")}, text
    # Each kernel, each collective, DRAM and matrix peak say how well they are known.
    assert text.count("spread: ") == len(kernels) + text.count("op: ") + 2, text
    for name, value in re.findall(r"(\w+_per_s|fixed_us|alpha_us|bf16): ([0-9.e+-]+)", text):
        assert float(value) > 0, (name, text)
    clock_hz = float(re.search(r"core_clock_hz: ([0-9.e+-]+)", text)[1])
    assert clock_hz > 0 or platform.machine() not in ("x86_64", "aarch64"), text

predicted = json.loads(done("predict", "--system", "4.yaml", "--model", "tiny-gqa,tiny-mla,tiny-dsa", "--context", "4k", "--batch",
                            "2", "--kv-dtype", "bf16,fp8", "--ranks", "1,2,4", "--json", "--out", "predicted"))
with open(scratch / "predicted/results.csv", newline="") as file:
    assert {row["ranks"] for row in csv.DictReader(file) if row["status"] == "ok"} == {"1", "2", "4"}
# What two ranks measured is a guess for more, and says so.
guessed = json.loads(done("predict", "--system", "2.yaml", "--model", "tiny-gqa", "--context", "4k", "--batch", "2", "--ranks", "2,4",
                          "--strategy", "tp", "--json"))
assert {(row["ranks"], "calibrated with 2 ranks" in (row["reason"] or "")) for row in guessed} == {(2, False), (4, True)}
assert all(row["model_ttl_us"] > 0 and row["roofline_ttl_us"] > 0 for row in predicted)
swept = json.loads(done("sweep", "--system", "2.yaml", "--model", "tiny-gqa", "--context", "64", "--batch", "2",
                        "--max-time", "0.02", "--json", "--out", "swept", ranks=2))
assert swept and all(row["status"] == "ok" and row["system"].endswith("-r2") for row in swept)

# What cannot be written is refused before anything is measured.
for out in ("no/such/directory.yaml", "."):
    refused = run("calibrate", "--out", out, ranks=2)
    lines = messages(refused.stderr)
    assert refused.returncode == 2 and len(lines) == 1 and out in lines[0], refused
print("1 passed, 0 failed")
