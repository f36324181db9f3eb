#!/usr/bin/env python3
"""`helix-bench export` as users call it: the TensorRT-LLM configuration of a frontier point, which --trtllm-config reads back
as the same point, vLLM's and SGLang's command lines, and what is refused.    export.py HELIX_BENCH [unused]"""
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
printed("predict", *SCENE, "--kv-dtype", "fp8", "--batch", "2,64,1024", "--ranks", "8,16", "--kvp", "auto", "--tpa", "auto",
        "--tpf", "auto", "--ep", "auto", "--pp", "auto", "--dp", "auto", "--strategy", "helix,tp,tp+pp,medha,dp+ep",
        "--tokens-per-block", "64", "--top", "2", "--out", "run", "--quiet")
with open(scratch / "run/results.csv", newline="") as file:
    rows = list(csv.DictReader(file))
strategies = {row["strategy"] for row in rows}
assert strategies == {"helix", "tp", "tp+pp", "medha", "dp+ep"}, strategies

# Each row becomes a configuration that reads back as the row, or is refused in one line.
BACK = [flag for flag in SCENE if flag not in ("--context", "64k")]  # batch and context are in the file
PRINTED = ("kvp", "tpa", "tpf", "ep", "pp", "dp", "context", "batch", "tokens_per_block", "kv_dtype", "weight_dtype", "model_ttl_us")
exported = refusals = 0
for row in rows:
    arguments = ("export", "run", "--point", row["id"], "--format", "trtllm")
    if row["strategy"] == "medha":
        refused(["TensorRT-LLM", "medha"], *arguments)
        refusals += 1
        continue
    printed(*arguments, "--out", "point.yaml")
    assert printed(*arguments) == (scratch / "point.yaml").read_text()
    # max_batch_size is of a rank's micro-batch: a batch that does not fill all of them has to be said.
    batch = ["--batch", row["batch"]] if int(row["batch"]) % (int(row["pp"]) * int(row["dp"])) else []
    back = json.loads(printed("predict", *BACK, *batch, "--trtllm-config", "point.yaml", "--json", "--out", f"back-{exported}"))
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

# What is not used of a file is named; what the engine refuses is refused.
(scratch / "more.yaml").write_text("max_batch_size: 4\nspeculative_config: {decoding_type: MTP}\n"
                                   "kv_cache_config: {free_gpu_memory_fraction: 0.8}\n")
done = run("predict", *SCENE, "--trtllm-config", "more.yaml", "--json", "--out", "more")
assert done.returncode == 0 and done.stderr.splitlines() == [
    "helix-bench: more.yaml: not used: speculative_config, kv_cache_config.free_gpu_memory_fraction"], done
assert [(r["tpa"], r["batch"]) for r in json.loads(done.stdout)] == [(1, 4)], done.stdout
(scratch / "bad.yaml").write_text("enable_attention_dp: yes please\n")
refused(["bad.yaml", "enable_attention_dp", "yes please"], "predict", *SCENE, "--trtllm-config", "bad.yaml")


# vLLM and SGLang: a command that a shell takes, or one line that says why not.
def shell_words(command, **environment):
    shell = subprocess.run(["bash", "-c", "vllm() { printf '%s\\n' \"$@\"; }\npython3() { vllm \"$@\"; }\n" + command],
                           capture_output=True, text=True, env={**os.environ, **environment})
    assert shell.returncode == 0, (command, shell)
    return shell.stdout.split("\n")


commands = {"vllm": 0, "sglang": 0}
for row in rows:
    for engine in commands:
        done = run("export", "run", "--point", row["id"], "--format", engine)
        if done.returncode:
            assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "valid:" in done.stderr, done
            continue
        commands[engine] += 1
        words = shell_words(done.stdout, MODEL="my checkpoint")
        given = dict(zip(words, words[1:]))
        width = {name: int(row[name]) for name in ("ranks", "kvp", "tpa", "tpf", "ep", "pp", "dp", "context")}
        if engine == "vllm":
            assert words[:2] == ["serve", "my checkpoint"], words
            ranks = int(given["--tensor-parallel-size"]) * int(given.get("--data-parallel-size", 1)) * int(
                given.get("--pipeline-parallel-size", 1))
            assert ranks == width["ranks"] and given["--kv-cache-dtype"] == "fp8", (row["id"], words)
            assert int(given.get("--decode-context-parallel-size", "1")) == width["kvp"]
            assert ("--enable-expert-parallel" in words) == (width["ep"] != 1)
            assert "--block-size" not in words and "--cp-kv-cache-interleave-size" not in words  # the model has MLA
            assert int(given["--max-model-len"]) == width["context"]
        else:
            assert words[:3] == ["-m", "sglang.launch_server", "--model-path"] and words[3] == "my checkpoint", words
            assert int(given["--tp-size"]) * int(given.get("--pp-size", 1)) == width["ranks"]
            assert int(given.get("--dcp-size", 1)) == width["kvp"] and int(given.get("--dp-size", 1)) == width["dp"]
            assert int(given.get("--ep-size", 1)) == width["ep"] and given["--kv-cache-dtype"] == "fp8_e4m3"
            assert int(given["--context-length"]) == width["context"]
        assert ("--dcp-comm-backend" in words) == (width["kvp"] != 1)
assert commands["vllm"] >= 3 and commands["sglang"] >= 3, commands

# A model given as config.json: what the engines need of it is known, and its folder is what is served.
(scratch / "My-Model").mkdir()
(scratch / "My-Model/config.json").write_text(json.dumps({
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "vocab_size": 1000,
    "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 4096}))
printed("predict", "--model", "My-Model/config.json", "--system", "gb200", "--context", "8k", "--batch", "4", "--ranks",
        "8", "--strategy", "helix", "--kvp", "2,4", "--tpa", "2,4", "--dp", "1", "--pp", "1", "--hop-b", "off", "--out", "mine",
        "--quiet")
with open(scratch / "mine/results.csv", newline="") as file:
    mine = {int(row["tpa"]): row["id"] for row in csv.DictReader(file)}
assert set(mine) == {2, 4}, mine
refused(["TPA 2", "TPA = 4"], "export", "mine", "--point", mine[2], "--format", "vllm")
command = printed("export", "mine", "--point", mine[4], "--format", "vllm")
words = shell_words(command)
assert words[:2] == ["serve", str(scratch / "My-Model")], words
assert "max_position_embeddings = 4096" in command and words[words.index("--block-size") + 1] == "32", command
assert "moe_expert_parallel_size" not in printed("export", "mine", "--point", mine[4], "--format", "trtllm")

point = next(row["id"] for row in rows if row["strategy"] == "tp" and "1" in (row["tpf"], row["ep"]))  # any engine has it
refused(["no-such-point", "pareto.csv", "/"], "export", "run", "--point", "no-such-point", "--format", "trtllm")
refused(["none", "run directory"], "export", "none", "--point", point, "--format", "trtllm")
refused(["--point"], "export", "run", "--format", "trtllm")
refused(["--format"], "export", "run", "--point", point)
refused(["tgi", "vllm", "sglang"], "export", "run", "--point", point, "--format", "tgi")
refused(["none/below"], "export", "run", "--point", point, "--format", "vllm", "--out", scratch / "none/below")
printed("predict", *SCENE, "--batch", "8192", "--ranks", "2", "--kvp", "2", "--strategy", "helix", "--out", "full",
        "--quiet")
with open(scratch / "full/results.csv", newline="") as file:
    skipped = next(csv.DictReader(file))
refused(["skipped", "memory"], "export", "full", "--point", skipped["id"], "--format", "trtllm")
print("1 passed, 0 failed")
