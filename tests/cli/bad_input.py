#!/usr/bin/env python3
"""Drives helix-bench as users do: unusable input ends with exit code 2 and one line on stderr, quickly, however many
ranks were launched; what is no error exits 0.    bad_input.py HELIX_BENCH MPIRUN"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from messages import messages

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())
failures = []
runs = 0


def write(name, text):
    (scratch / name).write_text(text)
    return str(scratch / name)


def run(arguments, ranks):
    global runs
    runs += 1
    launch = [mpirun, "-n", str(ranks)] if ranks else []
    start = time.monotonic()
    done = subprocess.run(launch + [program, *arguments], cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    return done, time.monotonic() - start


def refused(arguments, *needles, ranks=(0,)):
    """Each needle has to be in the one line of the message."""
    for n in ranks:
        done, seconds = run(arguments, n)
        lines = messages(done.stderr)
        problems = [f"exit code {done.returncode}"] if done.returncode != 2 else []
        if len(lines) != 1:
            problems.append(f"{len(lines)} messages")
        if n == 0 and len(done.stderr.splitlines()) != 1:
            problems.append("more than one line on stderr")
        if done.stdout:
            problems.append("something on stdout")
        if seconds > 15:
            problems.append(f"{seconds:.1f} s")
        problems += [f"'{needle}' not in the message" for needle in needles if needle not in "".join(lines)]
        if problems:
            failures.append(f"{n} ranks, {arguments}: {', '.join(problems)}\n{done.stderr}")


def accepted(arguments, *needles, ranks=0):
    done, _ = run(arguments, ranks)
    problems = [f"exit code {done.returncode}"] if done.returncode != 0 else []
    problems += [f"'{needle}' not in the output" for needle in needles if needle not in done.stdout]
    if problems:
        failures.append(f"{ranks} ranks, {arguments}: {', '.join(problems)}\n{done.stderr}")
    return done.stdout


# Decided before MPI starts; three of them also with a launcher, where rank 0 alone must print.
several = (0, 1, 3)
refused(["--no-such-flag"], "--no-such-flag", "--context", ranks=several)
refused(["--context", "-5"], "--context", "-5", "1024", ranks=several)
refused(["frobnicate"], "frobnicate", "sweep", "predict", "verify", "calibrate", "list", ranks=several)
refused(["--context", "12q"], "12q")
refused(["--context", "99999999999999999999"], "99999999999999999999")
refused(["--context"], "--context")
refused(["--context", "1,,2"], "empty entry")
for flag in ("--batch", "--kvp", "--tokens-per-block", "--layers", "--ranks", "--tpa", "--tpf", "--ep", "--pp", "--dp"):
    refused([flag, "0"], flag, "from 1")
refused(["--weight-dtype", "int3"], "--weight-dtype", "int3", "bf16")
refused(["--strategy", "best"], "best", "helix")
refused(["--hop-b", "maybe"], "--hop-b", "maybe", "off")
refused(["--backend", "tpu"], "--backend", "cpu")
refused(["--max-time", "0"], "--max-time")
refused(["--rel-error", "nan"], "--rel-error")
refused(["--seed", "-1"], "--seed")
refused(["--json", "--csv"], "--json", "--csv")
refused(["--resume"], "--out")
refused(["sweep", "stray"], "stray")
refused(["list"], "list models")
refused(["list", "cars"], "cars", "list systems")
refused(["compare", "a", "b"], "'a'", "directory")
refused(["predict", "--ttl-budget", "-1"], "--ttl-budget")
refused(["predict", "--system", "no-such"], "no-such")
refused(["--model", "no-such-model"], "no-such-model", "llama-3.2-1b", ranks=(0, 3))
refused(["--model", write("bad.json", '{"hidden_size": "many"')], "bad.json")
refused(["--model", write("empty.json", '{"model_type": "llama"}')], "empty.json")
refused(["--model", str(scratch)], "directory")
refused(["--sweep", str(scratch / "none.yaml")], "none.yaml", "default")
for flag in ("--model", "--sweep", "--trtllm-config"):
    refused([flag, "/dev/zero"], "/dev/zero", "16 MiB")
refused(["--sweep", write("bad.yaml", "model: [a\n")], "bad.yaml", "malformed")
refused(["--sweep", write("key.yaml", "modell: llama-3.2-1b\n")], "modell", "model")
refused(["--sweep", write("empty.yaml", "")], "empty.yaml")
refused(["--trtllm-config", write("trt.yaml", "context_parallel_size: 2\ncp_config: {cp_type: HELIX, tokens_per_block: "
                                  "32}\nkv_cache_config: {tokens_per_block: 64}\n")], "32", "64")
refused(["--trtllm-config", write("ring.json", json.dumps({"cp_config": {"cp_type": "RING"}}))], "RING", "HELIX")

# Decided when the world is known: on all ranks alike, or on rank 0 for all.
world = (1, 3)
refused(["--ranks", "64"], "--ranks", "64 MPI ranks", ranks=world)
refused(["--layers", "99"], "--layers", "16", ranks=(3,))
refused(["--out", write("file", "") + "/x"], "--out", ranks=world)
(scratch / "full").mkdir()
write("full/notes.txt", "mine")
refused(["--out", str(scratch / "full")], "not empty", "--resume", ranks=(3,))
refused(["--out", str(scratch / "full"), "--resume"], "results.csv", ranks=(3,))
if sorted(p.name for p in (scratch / "full").iterdir()) != ["notes.txt"]:
    failures.append("a refused --out was written to")
if (scratch / "results").exists():
    failures.append("a refused request left a run directory")

# What a command does not use is refused, not ignored.
for flag in ("--max-time", "--min-samples", "--rel-error", "--seed", "--layers", "--backend"):
    refused(["predict", flag, "1"], flag, "valid with", "sweep")
refused(["predict", "--resume"], "--resume", "sweep")
for flag in ("--max-time", "--rel-error", "--min-samples", "--system", "--ttl-budget", "--out", "--expert-skew"):
    refused(["verify", flag, "1"], flag, "valid with")
refused(["verify", "--resume"], "--resume")
refused(["sweep", "--expert-skew", "1"], "--expert-skew", "predict")
refused(["sweep", "--top", "1"], "--top", "predict")
refused(["sweep", "--power", "auto"], "--power auto", "a calibration states no board power", ranks=(0, 2))
refused(["sweep", "--contxt", "4k"], "--contxt", "did you mean --context")
refused(["predict", "--top", "-1"], "--top")
refused(["predict", "--top", "some"], "--top", "some")
refused(["predict", "--system", "auto"], "--system auto", "gb200", "calibrate")
refused(["predict", "--memory-fraction", "1.5"], "--memory-fraction", "1")
refused(["predict", "--validate", "x.csv", "--model", "tiny-gqa"], "--model", "--validate")
refused(["predict", "--bench", "--ttl-budget", "5"], "--ttl-budget", "--bench")
refused(["--system", "h100,h200"], "h100,h200", "predict", ranks=(1, 3))
# Under another library's launcher nothing is measured, while predicting needs no launcher at all.
for variable, value in (("PMI_SIZE", "4"), ("SLURM_NTASKS", "4")):
    ENVIRONMENT[variable] = value
    refused(["--model", "tiny-gqa", "--context", "64", "--max-time", "0.05"], variable, "mpirun")
    refused(["verify", "--model", "tiny-gqa", "--context", "64"], variable, "mpirun")
    accepted(["predict", "--model", "tiny-gqa", "--system", "h100", "--context", "64", "--batch", "1", "--ranks", "2"], "tp")
    del ENVIRONMENT[variable]

accepted(["--help"], "sweep", "predict", "verify", "calibrate", "compare", "list")
accepted(["--version"], "helix-bench")
if "--seed" in accepted(["predict", "--help"]) or "--top" in accepted(["sweep", "--help"]):
    failures.append("help lists a flag that the command does not use")
for command in ("sweep", "predict", "verify"):
    accepted([command, "--help"], "--context", "--kvp", "--cp", "--tpa", "--tp", "--trtllm-config", "--json")
accepted(["calibrate", "--help"], "--out")
accepted(["list", "models"], "llama-3.2-1b", "deepseek-v2-lite")
accepted(["list", "systems"], "gb200")
accepted(["list", "sweeps"], "default")
if "llama-3.1-405b" not in json.loads(accepted(["list", "models", "--json"])):
    failures.append("list models --json lacks a model")
if accepted(["list", "sweeps"], ranks=3).count("default") != 1:
    failures.append("ranks other than 0 print")

print(f"{runs} runs, {len(failures)} failed")
print("\n".join(failures))
sys.exit(bool(failures))
