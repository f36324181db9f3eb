#!/usr/bin/env python3
"""Predictions as planners ask for them: budgets, several systems, memory, paths.    predict.py HELIX_BENCH MPIRUN"""
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

program = sys.argv[1]
scratch = pathlib.Path(tempfile.mkdtemp())


def predict(*arguments, code=0):
    done = subprocess.run([program, "predict", *arguments], cwd=scratch, env=os.environ, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == code, (arguments, done.stderr)
    return done.stdout if code == 0 else done.stderr


def rows(*arguments):
    return json.loads(predict(*arguments, "--json"))


def table(name):
    with open(scratch / name, newline="") as file:
        return list(csv.DictReader(file))


def table_of(*arguments):
    """Every row, by way of a run directory."""
    shutil.rmtree(scratch / "rows", ignore_errors=True)
    predict(*arguments, "--quiet", "--out", "rows")
    return table("rows/results.csv")


SCENE = ["--model", "deepseek-r1", "--context", "256k", "--weight-dtype", "nvfp4", "--kv-dtype", "fp8", "--ranks", "8:64",
         "--batch", "1:256", "--strategy", "helix,tp,dp+ep", "--kvp", "auto", "--tpa", "auto", "--tpf", "auto", "--ep",
         "auto", "--dp", "auto"]


def at_batch(batch):
    return [str(batch) if word == "1:256" else word for word in SCENE]


# One meaning of a budget: every row is kept, frontier, crossover and output know those that meet it.
BUDGET = 15
printed = rows(*SCENE, "--system", "gb200", "--ttl-budget", str(BUDGET), "--out", "budget")
kept = table("budget/results.csv")
fits = [row for row in kept if row["status"] == "ok"]
assert {row["meets_budget"] for row in fits} == {"0", "1"}
for row in fits:
    assert (row["meets_budget"] == "1") == (float(row["model_ttl_us"]) <= BUDGET * 1e3), row
assert printed and all(row["meets_budget"] == 1 and row["model_ttl_us"] <= BUDGET * 1e3 for row in printed)
for name in ("pareto.csv", "crossover.csv"):
    column = "model_ttl_us" if name == "pareto.csv" else "ttl_us"
    lines = table(f"budget/{name}")
    assert lines and all(float(line[column]) <= BUDGET * 1e3 for line in lines), name
assert all(row["meets_budget"] == "1" for row in kept if row["pareto"] == "1")
assert "None is within 0.001 ms" in predict(*SCENE, "--system", "gb200", "--ttl-budget", "0.001")
assert not any(row["meets_budget"] for row in rows(*at_batch(8), "--system", "gb200"))

# Helix wins by what it adds: no layout without KV parallelism beats the baseline that it is.
for field in table("budget/crossover.csv"):
    assert field["winner"] != "helix" or field["kvp"] != "1" or (field["tpa"] != "1" and field["dp"] != "1"), field

# --top 0: the frontiers alone.
predict(*SCENE, "--system", "gb200", "--top", "0", "--out", "top0", "--quiet")
predict(*SCENE, "--system", "gb200", "--top", "5", "--out", "top5", "--quiet")
assert 0 < len(table("top0/results.csv")) < len(table("top5/results.csv")) < len(kept)

# Several systems in one table, a frontier each.
TWO = ["--model", "llama-3.1-70b", "--context", "64k", "--batch", "1,8", "--ranks", "4,8", "--system"]
both = rows(*TWO, "h200,b200", "--out", "two")
assert {row["system"] for row in both} == {"h200", "b200"}
assert len({row["id"] for row in both}) == len(both)
for system in ("h200", "b200"):
    (alone, among) = (rows(*TWO, system), [row for row in both if row["system"] == system])
    assert [{**row, "id": ""} for row in alone] == [{**row, "id": ""} for row in among]
    assert any(row["pareto"] == 1 for row in among)
assert {field["system"] for field in table("two/crossover.csv")} == {"h200", "b200"}

# A path with a comma is one file.
config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024, "num_hidden_layers": 2,
          "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 4096, "vocab_size": 32000,
          "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu", "max_position_embeddings": 8192}
(scratch / "a,b.json").write_text(json.dumps(config))
SMALL = ["--system", "h100", "--context", "4k", "--batch", "1", "--ranks", "2"]
assert len({row["model"] for row in rows("--model", "a,b.json", *SMALL)}) == 1
assert len({row["model"] for row in rows("--model", "tiny-gqa,a,b.json", *SMALL)}) == 2
assert "'a'" in predict("--model", "a,c.json", *SMALL, code=2)

# Memory: the driver's capacity, and the fraction that bounds what fits.
MIB = 1 << 20
for system, mib in (("h100", 81559), ("h200", 143771), ("b200", 183359), ("gb200", 189471), ("b300", 275040),
                    ("gb300", 284208), ("rtx-pro-6000", 97887)):
    (row, *_) = rows("--model", "tiny-gqa", "--system", system, "--context", "4k", "--batch", "1", "--ranks", "1", "--strategy",
                     "tp")
    assert row["memory_capacity_bytes"] == mib * MIB and row["memory_fraction"] == 0.92, row
ONE = ["--model", "llama-3.1-70b", "--system", "h200", "--context", "4k", "--batch", "1", "--ranks", "1", "--strategy", "tp"]
(refused,) = rows(*ONE)
assert refused["status"] == "skipped" and "does not fit memory: needs 132.66 GiB per rank, has 129.17 (0.92 of 140.40" in refused["reason"], refused
assert "--memory-fraction 0.9" in refused["reason"], refused
(fitting,) = rows(*ONE, "--memory-fraction", "1")
assert fitting["status"] == "ok" and fitting["max_context"] >= 4096, fitting
# DeepSeek-R1 on 8 H200, all of the device's memory: 109 requests of 128K tokens, and not one more.
EIGHT = ["--model", "deepseek-r1", "--system", "h200", "--kvp", "8", "--tpa", "1", "--strategy", "helix", "--context", "128k",
         "--weight-dtype", "fp8", "--kv-dtype", "fp8", "--memory-fraction", "1", "--batch"]
(most,) = rows(*EIGHT, "109")
assert most["status"] == "ok" and most["max_batch"] == 109, most
(more,) = rows(*EIGHT, "110")
assert more["status"] == "skipped", more
for row in rows(*at_batch(64), "--system", "gb200"):
    if row["status"] == "ok":
        assert row["memory_bytes_per_rank"] <= 0.92 * row["memory_capacity_bytes"], row
        assert row["max_batch"] >= row["batch"] and row["max_context"] >= row["context"], row
row = next(row for row in rows(*at_batch(64), "--system", "gb200") if row["strategy"] == "helix" and row["kvp"] > 1)
BASE = ["--model", "deepseek-r1", "--weight-dtype", "nvfp4", "--kv-dtype", "fp8", "--system", "gb200", "--strategy", "helix",
        "--batch", str(row["batch"]), "--hop-b", str(row["hop_b"])]
WIDTHS = [word for width in ("kvp", "tpa", "tpf", "ep", "dp", "pp") for word in (f"--{width}", str(row[width]))]
(at_limit,) = rows(*BASE, *WIDTHS, "--context", str(row["max_context"]))
assert at_limit["status"] == "ok" and at_limit["max_context"] == row["max_context"], at_limit
(beyond,) = rows(*BASE, *WIDTHS, "--context", str(row["max_context"] + 32 * row["kvp"]))
assert beyond["status"] == "skipped" and "does not fit memory" in beyond["reason"], beyond

# By default every strategy and legal width is tried, HOP-B off and on, and one line says what was not.
ASK = ["--model", "deepseek-r1", "--system", "gb200", "--weight-dtype", "nvfp4", "--kv-dtype", "fp8"]
everything = {row["strategy"] for row in table_of(*ASK, "--context", "256k", "--batch", "64", "--ranks", "64")}
assert everything == {"helix", "tp", "tp+pp", "medha", "dp+ep"}, everything
assert "Not tried: " in predict(*ASK, "--context", "256k", "--batch", "64", "--ranks", "64")
assert "medha" in predict(*ASK, "--context", "256k", "--batch", "64", "--ranks", "64", "--strategy", "helix,tp").split("Not tried")[1]
assert {row["strategy"] for row in table_of(*ASK, "--context", "256k", "--batch", "64", "--ranks", "64", "--strategy", "all")} == everything | {"dcp"}
assert {row["batch"] for row in table_of(*ASK, "--context", "256k", "--batch", "4:12:4", "--ranks", "8")} == {"4", "8", "12"}

# The largest batch and the longest context that fit, of each layout its own.
for row in rows(*ASK, "--context", "256k", "--batch", "max", "--ranks", "8", "--strategy", "helix", "--hop-b", "off"):
    assert row["status"] != "ok" or row["batch"] == row["max_batch"], row
for row in rows(*ASK, "--context", "max", "--batch", "8", "--ranks", "8", "--strategy", "helix", "--hop-b", "off"):
    assert row["status"] != "ok" or row["context"] == row["max_context"], row

# HOP-B `on` is the best number of pieces, never worse than any other.
PIECES = [*ASK, "--context", "256k", "--batch", "32", "--ranks", "16", "--kvp", "16", "--strategy", "helix", "--hop-b"]
(on,) = rows(*PIECES, "on", "--dp", "1", "--pp", "1", "--tpf", "1", "--ep", "16")
for pieces in ("2", "4", "32"):
    (fixed,) = rows(*PIECES, pieces, "--dp", "1", "--pp", "1", "--tpf", "1", "--ep", "16")
    assert on["model_ttl_us"] <= fixed["model_ttl_us"], (on, fixed)

# The question people have: so many GPUs, so many milliseconds.
answers = rows(*ASK, "--gpus", "64", "--ttl-budget", "15", "--context", "256k,1m")
for context in (262144, 1048576):
    of_context = [row for row in answers if row["context"] == context]
    assert len({row["strategy"] for row in of_context}) >= 3, of_context
    best = of_context[0]
    assert best["plan_tokens_per_s_gpu"] == max(row["plan_tokens_per_s_gpu"] for row in of_context)
    for row in of_context:
        assert row["meets_budget"] == 1 and row["model_ttl_us"] <= 15e3 and row["instances"] * row["ranks"] <= 64, row
        assert row["memory_bytes_per_rank"] <= 0.92 * row["memory_capacity_bytes"], row
        # No grid finds a better one of the same strategy; Helix without KV parallelism counts for its baseline.
        if row["strategy"] == "helix" and row["kvp"] == 1:
            continue
        grid = rows(*ASK, "--context", str(context), "--batch", "1:1024", "--ranks", "1:64", "--strategy", row["strategy"],
                    "--ttl-budget", "15")
        best_of_grid = max((r["tokens_per_s_gpu"] for r in grid if r["strategy"] != "helix" or r["kvp"] > 1), default=0)
        assert row["plan_tokens_per_s_gpu"] >= best_of_grid * 0.9999, (row, grid)
(fastest, *more) = rows(*ASK, "--gpus", "64", "--ttl-budget", "0.5", "--context", "1m")
assert not more and fastest["meets_budget"] == 0, fastest
assert "the fastest there is" in predict(*ASK, "--gpus", "64", "--ttl-budget", "0.5", "--context", "1m")
assert "knee" in predict(*ASK, "--gpus", "64", "--context", "1m")
assert "--batch" in predict(*ASK, "--gpus", "64", "--batch", "8", code=2)

# Money and energy of all 13 GPUs, five of which no instance of 8 runs on; tables show what was asked for.
BILL = ["--context", "256k", "--gpu-hour", "3", "--power", "auto"]
paid = rows(*ASK, "--gpus", "13", *BILL)
assert any(row["instances"] * row["ranks"] < 13 for row in paid), paid
for row in paid:
    assert abs(row["usd_per_mtok"] * row["plan_tokens_per_s_gpu"] * 3600 / 3e6 - 1) < 1e-4, row
    assert abs(row["joules_per_token"] * row["plan_tokens_per_s_gpu"] / 1200 - 1) < 1e-4, row
for question in (["--gpus", "13"], ["--batch", "8", "--ranks", "8"]):
    heads = [next(line for line in predict(*ASK, *question, *flags).splitlines() if "tok/s/GPU" in line and "ms" in line)
             for flags in (BILL, BILL[:2])]
    assert [("USD/Mtok" in head, "J/tok" in head) for head in heads] == [(True, True), (False, False)], heads
assert "not auto" in predict(*ASK, *BILL[:-1], "much", code=2)

# Tables fit the terminal.
for columns in (80, 120, 200):
    for question in (["--gpus", "64", "--ttl-budget", "15", "--context", "256k,1m"], ["--context", "256k", "--ttl-budget", "15"],
                     ["--context", "4m", "--batch", "512", "--ranks", "8"]):
        done = subprocess.run([program, "predict", *ASK, *question], cwd=scratch, env={**os.environ, "COLUMNS": str(columns)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if "deepseek-r1/" not in line]
        assert max(map(len, lines)) <= columns, max(lines, key=len)

# Names as Hugging Face writes them, and a checkpoint's directory.
assert {row["model"] for row in rows("--model", "Qwen/Qwen3-235B-A22B", *SMALL)} == {"qwen3-235b-a22b"}
(scratch / "checkpoint").mkdir()
(scratch / "checkpoint/config.json").write_text(json.dumps(config))
assert {row["model"] for row in rows("--model", "checkpoint", *SMALL)} == {"checkpoint"}
assert "did you mean 'deepseek-r1'" in predict("--model", "deepsek-r1", *SMALL, code=2)
assert "config.json" in predict("--model", "someone/Unknown-7B", *SMALL, code=2)
assert "did you mean 'gb200'" in predict("--model", "tiny-gqa", "--system", "gb20", code=2)
assert "nvfp4" in predict("--model", "tiny-gqa", "--kv-dtype", "fp44", code=2)

# How fast it answers: the first time, and once more.
speed = json.loads(predict(*SCENE, "--system", "gb200", "--bench", "--json"))
assert 0 < speed["configurations_per_second"] and speed["repriced_configurations_per_second"] > 0
printed = predict(*SCENE, "--system", "gb200", "--bench")
assert "the first time" in printed and "priced again" in printed

# Only --out writes a run directory.
assert not (scratch / "results").exists()
shutil.rmtree(scratch)
print("1 passed, 0 failed")
