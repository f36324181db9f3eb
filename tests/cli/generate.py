#!/usr/bin/env python3
"""generate, verify --weights and sweep --weights with the small checkpoints of tests/hf, as users call them: answers are
those of transformers in every sharding, and what cannot be used is one line.
generate.py HELIX_BENCH MPIRUN"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

program, mpirun = sys.argv[1:3]
CHECKPOINTS = pathlib.Path(__file__).resolve().parent.parent / "hf/checkpoints"
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())
failures = []


def run(ranks, *arguments):
    return subprocess.run([mpirun, "-n", str(ranks), program, *map(str, arguments)], cwd=scratch, env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=240)


def golden(name):
    """The prompt, and the tokens that transformers adds."""
    file = (CHECKPOINTS / name / "golden.safetensors").read_bytes()
    length = struct.unpack_from("<Q", file)[0]
    header = json.loads(file[8:8 + length])

    def whole_numbers(key):
        begin, end = header[key]["data_offsets"]
        return list(struct.unpack_from(f"<{(end - begin) // 8}q", file, 8 + length + begin))

    tokens, prompt = whole_numbers("tokens"), whole_numbers("prompt")[0]
    return tokens[:prompt], tokens[prompt:]


def expect(what, condition, done):
    if not condition:
        failures.append(f"{what}: exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")


def generates(name, ranks, *flags):
    prompt, answer = golden(name)
    done = run(ranks, "generate", "--weights", CHECKPOINTS / name, "--prompt-tokens", ",".join(map(str, prompt)),
               "--max-new-tokens", len(answer), "--json", *flags)
    what = f"generate {name} on {ranks} ranks {' '.join(flags)}"
    expect(what, done.returncode == 0, done)
    if done.returncode == 0:
        result = json.loads(done.stdout)
        expect(what, result["prompt_tokens"] == prompt and result["text"] is None, done)
        expect(what, result["tokens"] == answer[:len(result["tokens"])] and result["tokens"], done)
        # Shorter only where the model ends its answer: token 1 in these configurations.
        expect(what, len(result["tokens"]) == len(answer) or result["tokens"][-1] == 1, done)


def refused(what, *arguments):
    done = run(1, *arguments)
    lines = done.stderr.strip().splitlines()
    expect(f"{' '.join(map(str, arguments))}: expected '{what}'",
           done.returncode == 2 and what in done.stderr and sum("helix-bench:" in line for line in lines) == 1, done)


generates("llama-tied", 1)
generates("llama-tied", 2, "--kvp", "2")
generates("llama-tied", 3, "--kvp", "3", "--tokens-per-block", "4")
generates("llama-odd", 3, "--tpa", "3", "--strategy", "tp")
generates("cohere", 3, "--kvp", "3", "--tokens-per-block", "4")
generates("cohere2", 2, "--kvp", "2", "--tokens-per-block", "4")
generates("deepseek-v3", 2, "--kvp", "2", "--tokens-per-block", "4")
generates("qwen3-moe", 2, "--pp", "2", "--strategy", "tp+pp")
generates("mixtral", 2, "--dp", "2", "--strategy", "dp+ep")
# Matrices in fp8 or NVFP4 beside a head in bf16: all of it in bf16, as transformers computes.
generates("deepseek-v3-fp8", 2, "--kvp", "2", "--tokens-per-block", "4")
generates("llama-fp8", 1)
generates("qwen3-moe-nvfp4", 1)

prompt, answer = golden("qwen3")
(scratch / "prompt").write_text(json.dumps(prompt))
common = ("generate", "--weights", CHECKPOINTS / "qwen3", "--prompt-file", scratch / "prompt", "--max-new-tokens", "4")
plain = run(1, *common, "--quiet")
expect("plain tokens", plain.returncode == 0 and plain.stdout.split() == [str(t) for t in answer[:4]], plain)
drawn = [run(1, *common, "--quiet", "--temperature", "5", "--seed", str(seed)).stdout for seed in (1, 1, 2)]
expect("drawn tokens", drawn[0] == drawn[1] and drawn[0] != drawn[2], plain)
top = run(1, *common, "--quiet", "--temperature", "5", "--top-p", "1e-6")
expect("the most likely token alone", top.stdout == plain.stdout, top)

done = run(2, "verify", "--weights", CHECKPOINTS / "deepseek-v2-lite", "--json", "--tokens-per-block", "8",
           "--weight-dtype", "bf16")
expect("verify --weights", done.returncode == 0, done)
if done.returncode == 0:
    rows = json.loads(done.stdout)
    verified = [row for row in rows if row["status"] == "ok"]
    expect("verify --weights", len(verified) >= 2 and all(row["positions"] == 96 for row in verified), done)
    expect("perplexities", all(abs(row["perplexity"] / row["reference_perplexity"] - 1) < 0.05 for row in verified), done)
done = run(2, "sweep", "--weights", CHECKPOINTS / "qwen3", "--context", "256", "--batch", "1", "--csv", "--system", "h100",
           "--min-samples", "3", "--max-time", "0.05", "--kvp", "2")
expect("sweep --weights", done.returncode == 0 and ",ok," in done.stdout, done)

weights = ("--weights", CHECKPOINTS / "qwen3")
refused("needs --weights", "generate", "--prompt-tokens", "1")
refused("needs --prompt-tokens", "generate", *weights)
refused("no such directory", "generate", "--weights", scratch / "none", "--prompt-tokens", "1")
refused("'two' is no token", "generate", *weights, "--prompt-tokens", "1,two")
refused("the vocabulary of qwen3 has 61", "generate", *weights, "--prompt-tokens", "61")
refused("--model: with --weights", "sweep", *weights, "--model", "tiny-gqa")
refused("--context: with --weights verify", "verify", *weights, "--context", "64")
refused("--weights DIR is missing", "verify", "--model", "tiny-gqa", "--prompt-tokens", "1,2")
refused("valid with: generate", "sweep", *weights, "--max-new-tokens", "3")
refused("weights of several types", "generate", "--weights", CHECKPOINTS / "deepseek-v3-fp8", "--prompt-tokens", "1",
        "--weight-dtype", "attention=bf16")
of_nothing = scratch / "of_nothing"
shutil.copytree(CHECKPOINTS / "qwen3", of_nothing)
file = of_nothing / "model.safetensors"
content = bytearray(file.read_bytes())
length = struct.unpack_from("<Q", content)[0]
begin = 8 + length + json.loads(content[8:8 + length])["lm_head.weight"]["data_offsets"][0]
content[begin:begin + 2] = b"\xc0\x7f"  # a NaN of bf16
file.write_bytes(content)
for layout in ((1,), (2, "--kvp", "2")):
    done = run(layout[0], "generate", "--weights", of_nothing, "--prompt-tokens", "1", "--max-new-tokens", "2", *layout[1:])
    expect("a weight that is no number", done.returncode == 3 and not done.stdout and
           sum("its logits are no numbers" in line for line in done.stderr.splitlines()) == 1, done)

damaged = scratch / "damaged"
shutil.copytree(CHECKPOINTS / "qwen3", damaged)
file = damaged / "model.safetensors"
file.write_bytes(file.read_bytes()[:-100])
refused("model.safetensors: tensor", "generate", "--weights", damaged, "--prompt-tokens", "1")
file.unlink()
refused("holds no checkpoint", "generate", "--weights", damaged, "--prompt-tokens", "1")

print("\n".join(failures) or "answers, texts and sweeps with weights of checkpoints")
sys.exit(1 if failures else 0)
