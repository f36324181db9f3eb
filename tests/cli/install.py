#!/usr/bin/env python3
"""`cmake --install` into a folder of its own, and what it leaves used from somewhere else.
install.py HELIX_BENCH MPIRUN"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

program = pathlib.Path(sys.argv[1]).resolve()
build = program.parents[1]
cache = (build / "CMakeCache.txt").read_text()


def cached(name):
    return re.search(rf"^{name}:\w+=(.*)$", cache, re.MULTILINE)[1]


cmake, source = cached("CMAKE_COMMAND"), pathlib.Path(cached("CMAKE_HOME_DIRECTORY"))
scratch = pathlib.Path(tempfile.mkdtemp())
prefix, elsewhere = scratch / "prefix", scratch / "elsewhere"
elsewhere.mkdir()
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "HELIX_PLOT_PYTHON"}


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], cwd=elsewhere, env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=200, **more)
    assert done.returncode == 0, (command, done)
    return done.stdout


run(cmake, "--install", build, "--prefix", prefix)
installed = prefix / "bin" / "helix-bench"
version = run(installed, "--version").split()[1]
assert re.match(r"\d+\.\d+\.\d+", version), version
commands = re.findall(r"^  ([a-z]+) ", run(installed, "--help"), re.MULTILINE)
assert {"sweep", "predict", "report"} <= set(commands), commands

# What it says of itself is what the program says.
page = (prefix / "share" / "man" / "man1" / "helix-bench.1").read_text()
assert f"helix\\-bench {version}" in page
for command in commands:
    assert f".SS {command}\n" in page, command
    for flag in re.findall(r"^  (--[a-z-]+)", run(installed, command, "--help"), re.MULTILINE):
        assert flag.replace("-", "\\-") in page, (command, flag)


def completed(*words):
    """What bash would offer for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    return run("bash", "-c", f"source '{prefix}/share/bash-completion/completions/helix-bench'; COMP_WORDS=({line}); "
                             f"COMP_CWORD={len(words) - 1}; _helix_bench; printf '%s\\n' \"${{COMPREPLY[@]}}\"").split()


assert completed("helix-bench", "pre") == ["predict"]
assert "--context" in completed("helix-bench", "predict", "--con")
assert completed("helix-bench", "list", "--js") == ["--json"]
assert "--strategy" in completed("helix-bench", "--stra")

# Nothing points back into the sources.
for file in prefix.rglob("*"):
    if file.is_file():
        assert str(source).encode() not in file.read_bytes(), file
slurm = prefix / "share" / "helix-bench" / "slurm"
assert {path.name for path in slurm.iterdir()} == {path.name for path in (source / "scripts" / "slurm").iterdir()}
assert f"program={installed}\n" in (slurm / "rank.sh").read_text()
for script in slurm.iterdir():
    assert os.access(script, os.X_OK), script
    run("bash", "-n", script)
assert (prefix / "share" / "doc").is_dir()

# Plots: with the Python of a .venv in the prefix.
if (source / ".venv" / "bin" / "python").exists():
    (prefix / ".venv").symlink_to(source / ".venv")
    reference = source / "results" / "reference" / "default-2-cores"
    run(installed, "report", reference, "--out", "report")
    assert (elsewhere / "report" / "report.html").stat().st_size > 100_000
    assert (elsewhere / "report" / "pareto.svg").exists()
print("install.py: passed")
