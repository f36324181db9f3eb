#!/usr/bin/env python3
"""The commands of README.md, HACKING.md and docs/ are run, tiny: code lines and `spans` that begin with helix-bench, whatever
folder it is said to lie in, with or without mpirun. Measurements take a tiny model and a moment.
docs.py HELIX_BENCH MPIRUN"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

program, mpirun = sys.argv[1:3]
source = pathlib.Path(__file__).resolve().parents[2]
scratch = pathlib.Path(tempfile.mkdtemp())
COMMAND = re.compile(r"^(?:mpirun -n (?P<ranks>\d+) )?(?:[\w./-]+/)?helix-bench(?P<arguments> .*)?$")
TINY = ["--model", "tiny-gqa", "--context", "300", "--batch", "1", "--max-time", "0.05", "--system", "h100"]
MEASURES = {"sweep": [*TINY, "--out", "{fresh}"], "verify": TINY[:6]}
REPLACED = {"--backend": "cpu", "--model": "tiny-gqa", "--context": "300", "--batch": "1", "--max-time": "0.05", "--out": "{fresh}"}


def commands(text):
    """Command lines: indented ones without their comment, and `spans`; what stands for several is the first of them."""
    joined = re.sub(r"(?<=[^`\n])\n(?=[^\n`]*`)", " ", text) if "```" not in text else text
    lines = [re.sub(r"\s+#.*", "", line[4:]) for line in text.splitlines() if line.startswith("    ")]
    for line in lines + re.findall(r"`([^`\n]+)`", joined):
        if found := COMMAND.match(line.strip()):
            arguments = re.sub(r"\[[^\]]*\]", "", found["arguments"] or "").replace("...", "")
            yield line.strip(), int(found["ranks"] or 0), [re.sub(r"^(\w+)\|.*", r"\1", word) for word in shlex.split(arguments)]


def run(arguments, ranks=0):
    launch = [mpirun, "-n", str(min(ranks, 2))] if ranks else []
    return subprocess.run([*launch, program, *arguments], cwd=scratch, capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, env={**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1",
                                                         "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                                                         "OMPI_MCA_rmaps_base_oversubscribe": "1",
                                                         "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"})


runs = ["BASE", "NEW", "B2", "B3", "B4", "B5", "N2", "N3", "N4", "N5"]
for name in runs:
    done = run(["sweep", *TINY, "--min-samples", "9", "--quiet", "--out", name])
    assert done.returncode == 0, done.stderr
identity = (scratch / "BASE/results.csv").read_text().splitlines()[1].split(",")[0]
STANDS_FOR = {"RUN": "BASE", "RUN_DIRECTORY": "BASE", "ID": identity}
seen = set()
fresh = 0
for page in [source / "README.md", source / "HACKING.md", *sorted((source / "docs").glob("*.md"))]:
    for line, ranks, words in commands(page.read_text()):
        words = [STANDS_FOR.get(word, word) for word in words]
        command = words[0] if words and not words[0].startswith("-") else "sweep"
        elsewhere = command in ("COMMAND", "calibrate") or any(re.match(r"FILE|.*\.json$", word) for word in words)
        if elsewhere or not words and not ranks:
            continue  # other tests make their files, and calibrate; or it is the bare name
        if command in MEASURES:
            for flag, value in REPLACED.items():
                if flag in words:
                    words[words.index(flag) + 1] = value
            given = {word for word in words if word.startswith("--")}
            tiny = MEASURES[command]
            words += [word for flag, value in zip(tiny[::2], tiny[1::2]) if flag not in given for word in (flag, value)]
        fresh += 1
        words = [word.format(fresh=f"run{fresh}") if "{fresh}" in word else word for word in words]
        done = run(words, ranks)
        seen.add(command)
        # 1: a comparison of runs of a moment may find anything; a file, a flag or a name that is not there is 2.
        assert done.returncode == 0 or command == "compare" and done.returncode == 1, (page.name, line, words, done.stderr)
        print(f"{page.name}: {line}")
assert {"sweep", "predict", "compare", "report", "export", "list"} <= seen, seen
