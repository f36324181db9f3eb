#!/usr/bin/env python3
"""One rank in the place of one of many: what it computes is measured, what all exchange is predicted, and neither is a
ttl_us. one_rank.py HELIX_BENCH MPIRUN"""
import csv
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())
TINY = ["--context", "300", "--batch", "4", "--max-time", "0.02", "--system", "h100", "--backend", "cpu"]


def run(*arguments, code=0, launch=()):
    done = subprocess.run([*launch, program, *arguments], cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=200)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    return done


def table(name):
    with open(scratch / name, newline="") as file:
        return list(csv.DictReader(file))


sweep = ["sweep", "--as-rank-of", "8", "--model", "tiny-qwen3-moe", "--hop-b", "off,on", *TINY]
done = run(*sweep, "--out", "alone")
rows = [row for row in table("alone/results.csv") if row["status"] != "skipped"]
assert {row["strategy"] for row in rows} == {"helix", "tp"} and {row["hop_b"] for row in rows} == {"1", "2"}
samples = table("alone/samples.csv")
for row in rows:
    assert row["status"] == f"one rank of {row['ranks']}" and "not verified" in row["reason"], row
    for column in ("ttl_us", "ttl_p90_us", "ttl_min_us", "roofline_fraction", "model_error", "verify_rel_error", "pareto"):
        assert row[column] == "", (column, row)
    computed, exchanged, composed = (float(row[name]) for name in ("rank_compute_us", "predicted_exchange_us",
                                                                   "ttl_composed_us"))
    assert computed > 0 and exchanged > 0 and math.isclose(computed + exchanged, composed, rel_tol=1e-5), row
    assert math.isclose(float(row["tokens_per_s_user"]), 1e6 / composed, rel_tol=1e-5), row
    assert float(row["attn_us"]) > 0 and all(float(row[name]) == 0 for name in ("a2a_us", "attn_allreduce_us", "ffn_comm_us")), row
    if row["hop_b"] == "1":
        predicted = float(row["model_comm_us"])
        assert math.isclose(exchanged, predicted, rel_tol=1e-5), row
    assert sum(sample["id"] == row["id"] for sample in samples) == int(row["samples"]), row
    assert row["id"].split("/")[0] in done.stdout
assert table("alone/pareto.csv") == []
assert json.loads((scratch / "alone/run.json").read_text())["request"]["as-rank-of"] == 8

# A run of one rank is compared with its like, and with no other.
verdicts = json.loads(run("compare", "alone", "alone", "--allow-unjudged", "--json").stdout)
assert {row["verdict"] for row in verdicts["rows"] if row["id"] == rows[0]["id"]} <= {"unchanged", "too_few_samples"}, verdicts
whole = ["--model", "tiny-gqa", "--ranks", "2", *TINY]
run("sweep", *whole, "--out", "both", launch=(mpirun, "-n", "2"))
run("sweep", "--as-rank-of", "2", *whole, "--out", "half")
assert [row["id"] for row in table("both/results.csv")] == [row["id"] for row in table("half/results.csv")]
verdicts = json.loads(run("compare", "both", "half", "--force", "--allow-unjudged", "--json").stdout)
assert {row["verdict"] for row in verdicts["rows"]} == {"unmatched"}, verdicts

# What it cannot be.
assert "one rank runs, and this launch has 2" in run(*sweep, launch=(mpirun, "-n", "2"), code=2).stderr
wrong = run("sweep", "--as-rank-of", "4", "--model", "tiny-gqa", code=2).stderr
assert "one rank cannot measure what 4 exchange" in wrong and "--system" in wrong, wrong
assert "integers from 2" in run("sweep", "--as-rank-of", "1", code=2).stderr
assert "valid with: sweep" in run("verify", "--as-rank-of", "4", code=2).stderr
other = run("sweep", "--as-rank-of", "4", *sweep[3:], "--out", "alone", "--resume", code=2).stderr
assert "--as-rank-of 8, not 4" in other, other
run("sweep", "--as-rank-of", "4", "--model", "tiny-qwen3-moe,tiny-dsa", "--pp", "1,2", "--dp", "auto", "--strategy", "helix,tp+pp,dp+ep",
    *TINY, "--out", "others")
reasons = {row["reason"] for row in table("others/results.csv") if row["status"] == "skipped"}
for reason in ("keeps no pipeline busy", "dp+ep needs all ranks", "sparse attention needs all ranks"):
    assert any(reason in said for said in reasons), reasons
