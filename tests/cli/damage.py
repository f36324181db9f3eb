#!/usr/bin/env python3
"""Damaged, hostile and huge files: whoever reads a run directory, a model or a measurement says what is wrong with which
line of which file, in one line, soon and in little memory; --resume mends the row in flight alone, and says so.
damage.py HELIX_BENCH MPIRUN"""
import csv
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from messages import messages

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())
SWEEP = [mpirun, "-n", "2", program, "--model", "tiny-gqa", "--context", "64,300", "--batch", "1,3", "--ranks", "2", "--system",
         "h100", "--max-time", "0.02", "--quiet", "--out"]


def call(command, **more):
    begin = time.monotonic()
    done = subprocess.run([str(part) for part in command], cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=200, **more)
    done.seconds = time.monotonic() - begin
    return done


def refused(command, *needles):
    done = call(command)
    lines = messages(done.stderr)
    assert done.returncode == 2 and len(lines) == 1 and not done.stdout, (command, done)
    assert len(lines[0]) < 1200, (command, len(lines[0]))
    for needle in needles:
        assert needle in lines[0], (needle, lines[0])


def copy(name, source="run"):
    shutil.rmtree(scratch / name, ignore_errors=True)
    return pathlib.Path(shutil.copytree(scratch / source, scratch / name))


def lines_of(path):
    return path.read_text().splitlines(keepends=True)


done = call([*SWEEP, "run"])
assert done.returncode == 0, done.stderr
point = next(csv.DictReader(open(scratch / "run/results.csv")))["id"]
READERS = (["compare", "run", "broken"], ["compare", "broken", "run"], ["report", "broken"],
           ["export", "broken", "--point", point, "--format", "vllm"])


def refused_by_all(file, *needles, readers=READERS, resume=True):
    for reader in readers:
        refused([program, *reader], f"broken/{file}", *needles)
    if resume:
        refused([*SWEEP, "broken", "--resume"], f"broken/{file}", *needles)


# An open quote swallows the rows below it.
path = copy("broken") / "results.csv"
lines = lines_of(path)
assert len(lines) >= 4
path.write_text(lines[0] + lines[1].replace(",", ',"', 1) + "".join(lines[2:]))
refused_by_all("results.csv", "line 2", "quote")
# A row is there twice.
path.write_text("".join(lines) + lines[1])
refused_by_all("results.csv", f"line {len(lines) + 1}", "second row", "line 2")
# A row has lost fields, or a figure is none.
path.write_text("".join(lines[:2]) + lines[2].split(",", 5)[5] + "".join(lines[3:]))
refused_by_all("results.csv", "line 3", "fields")
path.write_text("".join(lines[:2]) + lines[2].replace(",ok,", ",fine,", 1) + "".join(lines[3:]))
refused_by_all("results.csv", "line 3", "'fine'")
# The last row breaks off: who only reads says so, --resume measures it again.
path.write_text("".join(lines)[:-20])
refused_by_all("results.csv", f"line {len(lines)}", "breaks off", resume=False)

path = copy("broken") / "samples.csv"
samples = lines_of(path)
compares = READERS[:2]
path.write_text("".join(samples[:3]) + samples[3].replace(",", ',"', 1) + "".join(samples[4:]))
refused_by_all("samples.csv", "line 4", "quote", readers=compares)
path.write_text("".join(samples[:5]) + "".join(samples[4:]))
refused_by_all("samples.csv", "line 6", readers=compares)
path.write_text("".join(samples)[:-3])
refused_by_all("samples.csv", f"line {len(samples)}", "breaks off", readers=compares, resume=False)
path.write_text("".join(samples[:-1]))
refused([*SWEEP, "broken", "--resume"], "broken/samples.csv", "samples")

# run.json: cut, nested too deep, with too many keys, endless, gone.
path = copy("broken") / "run.json"
whole = path.read_text()
path.write_text(whole[:len(whole) // 2])
refused_by_all("run.json", "line ")
path.write_text('{"resumed": 0, "schema_version": 1, "deep": ' + "[" * 200_000 + "]" * 200_000 + "}")
refused_by_all("run.json", "deep")
path.write_text("{" + ",".join(f'"k{i}": {i}' for i in range(200_000)) + "}")
refused_by_all("run.json", "keys")
for name in ("run.json", "results.csv", "samples.csv"):
    broken = copy("broken") / name
    broken.unlink()
    broken.symlink_to("/dev/zero")
    refused_by_all(name, readers=READERS if name != "samples.csv" else compares)
    broken.unlink()
    refused_by_all(name, readers=READERS if name != "samples.csv" else compares, resume=name != "results.csv")

# What a kill leaves of the row in flight is mended, once and aloud; the row is measured again.
path = copy("mended") / "results.csv"
rows = list(csv.DictReader(open(path)))
path.write_text("".join(lines)[:-20])
done = call([*SWEEP, "mended", "--resume"])
said = messages(done.stderr)
assert done.returncode == 0 and len(said) == 2, done.stderr
assert f"mended/results.csv', line {len(lines)}" in said[0] and "mended/samples.csv', line " in said[1], said
assert [row["id"] for row in csv.DictReader(open(path))] == [row["id"] for row in rows]
# On a busy machine a row may have too few samples to judge.
assert call([program, "compare", "mended", "mended", "--allow-unjudged"]).returncode == 0
done = call([*SWEEP, "mended", "--resume"])
assert done.returncode == 0 and not messages(done.stderr), done.stderr

# Measured kernels.
for name, text, needles in (("header", "op,device,latency_us\n", ["no measured kernel"]), ("empty", "", ["empty"]),
                            ("deep", "[" * 1_000_000, ["op"]), ("endless", None, ["/dev/zero"])):
    file = "/dev/zero" if text is None else f"{name}.csv"
    if text is not None:
        (scratch / file).write_text(text)
    refused([program, "predict", "--validate", file], file, *needles)

# A bad value is shown as far as it helps.
long = "x" * 100_000
(scratch / "long.yaml").write_text(f"model: tiny-gqa\ncontext: {long}\n")
refused([program, "predict", "--sweep", "long.yaml"], "long.yaml", "context", "xxx...")
(scratch / "long.yaml").write_text(f"{long[:1000]}: 1\n")
refused([program, "predict", "--sweep", "long.yaml"], "long.yaml", "xxx...")
refused([program, "predict", "--model", "tiny-gqa", "--context", long], "--context", "xxx...")
refused([program, "predict", "--model", "tiny-gqa", "--strategy", long], "xxx...")

# Files that take yaml-cpp or nlohmann-json minutes, gigabytes or the stack.
for name, text in (("keys.yaml", "".join(f"k{i}: {i}\n" for i in range(1_000_000))), ("deep.yaml", "{a: " * 200_000),
                   ("deep.json", '{"a":' * 200_000), ("keys.json", "{" + ",".join(f'"k{i}":0' for i in range(1_500_000)) + "}")):
    (scratch / name).write_text(text)
    begin = time.monotonic()
    if name.endswith("json"):
        refused([program, "predict", "--model", name], name)
    else:
        refused([program, "predict", "--model", "tiny-gqa", "--system", name], name)
        refused([program, "predict", "--sweep", name], name)
        refused([program, "predict", "--trtllm-config", name], name)
    assert time.monotonic() - begin < 60, name

# A large results.csv is read in a fraction of the memory that it used to take.
path = copy("large") / "results.csv"
row = dict(zip(lines[0].strip().split(","), next(csv.reader([lines[1]]))))
with open(path, "w") as file:
    file.write(lines[0])
    tail = lines[1].split(",", 1)[1]
    for i in range(50_000_000 // len(lines[1])):
        file.write(f"r{i},{tail}")
done = call([program, "export", "large", "--point", "none", "--format", "vllm"],
            # The heap, not the address space, of which CUDA's libraries take half a gigabyte.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (900 << 20, 900 << 20)))
assert done.returncode == 2 and "no such row" in done.stderr, done.stderr
shutil.rmtree(scratch)
print("1 passed, 0 failed")
