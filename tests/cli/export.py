#!/usr/bin/env python3
"""`helix-bench export` as users call it: the TensorRT-LLM configuration of a frontier point, which --trtllm-config reads back
as the same point, vLLM's command line, and what is refused.    export.py HELIX_BENCH [unused]"""
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

program = sys.argv[1]
scratch = pathlib.Path(tempfile.mkdtemp())


def run(*arguments):
    return subprocess.run([program, *map(str, arguments)], cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)


def printed(*arguments):
    done = run(*arguments)
    assert done.returncode == 0 and not done.stderr, (arguments, done)
    return done.stdout


def refused(needles, *arguments):
    done = run(*arguments)
    assert done.returncode == 2 and not done.stdout, (arguments, done)
    assert len(done.stderr.splitlines()) == 1 and all(n in done.stderr for n in needles), (arguments, done.stderr)


SCENE = ["--model", "deepseek-v2-lite", "--system", "gb200", "--context", "64k", "--weight-dtype", "nvfp4"]
printed("predict", *SCENE, "--kv-dtype", "fp8", "--batch", "2,64", "--ranks", "8,16", "--kvp", "auto", "--tpa", "auto",
        "--tpf", "auto", "--ep", "auto", "--pp", "auto", "--dp", "auto", "--strategy", "helix,tp,tp+pp,medha,dp+ep",
        "--tokens-per-block", "64", "--top", "2", "--out", "run", "--quiet")
with open(scratch / "run/results.csv", newline="") as file:
    rows = list(csv.DictReader(file))
strategies = {row["strategy"] for row in rows}
assert strategies == {"helix", "tp", "tp+pp", "medha", "dp+ep"}, strategies

# Each row becomes a configuration that reads back as the row, or is refused in one line.
PRINTED = ("kvp", "tpa", "tpf", "ep", "pp", "dp", "context", "tokens_per_block", "kv_dtype", "weight_dtype", "model_ttl_us")
exported = refusals = 0
for row in rows:
    arguments = ("export", "run", "--point", row["id"], "--format", "trtllm")
    if row["strategy"] == "medha":
        refused(["TensorRT-LLM", "medha"], *arguments)
        refusals += 1
        continue
    printed(*arguments, "--out", "point.yaml")
    assert printed(*arguments) == (scratch / "point.yaml").read_text()
    back = json.loads(printed("predict", *SCENE, "--batch", row["batch"], "--trtllm-config", "point.yaml", "--json",
                              "--out", f"back-{exported}"))
    # Several micro-batches have no key, so the same layout comes back without them.
    columns = PRINTED if row["hop_b"] == "1" else PRINTED[:-1]
    assert len(back) == 1 and all(str(back[0][c]) == row[c] or float(back[0][c]) == float(row[c]) for c in columns), (
        row["id"], back)
    exported += 1
assert exported >= 8 and refusals >= 1, (exported, refusals)

# As JSON it is read as well.
(scratch / "point.json").write_text(json.dumps({
    "tensor_parallel_size": 1, "context_parallel_size": 4, "moe_expert_parallel_size": 4,
    "cp_config": {"cp_type": "HELIX", "tokens_per_block": 64}, "kv_cache_config": {"tokens_per_block": 64, "dtype": "fp8"}}))
(back,) = json.loads(printed("predict", *SCENE, "--batch", "4", "--trtllm-config", "point.json", "--json", "--out", "json"))
assert (back["kvp"], back["ep"], back["tokens_per_block"], back["kv_dtype"]) == (4, 4, 64, "fp8")

# vLLM: a command that a shell takes, or one line that says why not.
commands = 0
for row in rows:
    done = run("export", "run", "--point", row["id"], "--format", "vllm")
    if done.returncode:
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "valid:" in done.stderr, done
        continue
    commands += 1
    shell = subprocess.run(["bash", "-c", "vllm() { printf '%s\\n' \"$@\"; }\n" + done.stdout], capture_output=True,
                           text=True, env={**os.environ, "MODEL": "my checkpoint"})
    words = shell.stdout.split("\n")
    assert shell.returncode == 0 and words[:2] == ["serve", "my checkpoint"], shell
    given = dict(zip(words, words[1:]))
    ranks = int(given["--tensor-parallel-size"]) * int(given.get("--data-parallel-size", 1)) * int(
        given.get("--pipeline-parallel-size", 1))
    assert ranks == int(row["ranks"]) and given["--kv-cache-dtype"] == "fp8" and given["--block-size"] == "64"
    assert given.get("--decode-context-parallel-size", "1") == row["kvp"]
    assert ("--dcp-comm-backend" in words) == (row["kvp"] != "1")
    assert ("--enable-expert-parallel" in words) == (row["ep"] != "1")
assert commands >= 3, commands

point = rows[0]["id"]
refused(["no-such-point", "pareto.csv", "/"], "export", "run", "--point", "no-such-point", "--format", "trtllm")
refused(["none", "run directory"], "export", "none", "--point", point, "--format", "trtllm")
refused(["--point"], "export", "run", "--format", "trtllm")
refused(["--format"], "export", "run", "--point", point)
refused(["sglang", "vllm"], "export", "run", "--point", point, "--format", "sglang")
refused(["cannot write"], "export", "run", "--point", point, "--format", "vllm", "--out", scratch / "none/below")
printed("predict", *SCENE, "--batch", "8192", "--ranks", "2", "--kvp", "2", "--strategy", "helix", "--out", "full",
        "--quiet")
with open(scratch / "full/results.csv", newline="") as file:
    skipped = next(csv.DictReader(file))
refused(["skipped", "memory"], "export", "full", "--point", skipped["id"], "--format", "trtllm")
print("1 passed, 0 failed")
