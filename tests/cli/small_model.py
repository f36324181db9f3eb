#!/usr/bin/env python3
"""docs/models.md: scripts/small_model.sh fetches a real model, which answers a question alike on 3 ranks as KVP 3 and as TPA 3.
small_model.py HELIX_BENCH MPIRUN; exit code 77 where PyPI is not to be reached."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

program, mpirun = sys.argv[1:3]
SCRIPTS = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}


def run(*arguments, **more):
    return subprocess.run([*map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True, timeout=400, **more)


fetched = run(SCRIPTS / "small_model.sh")
if fetched.returncode != 0:
    if "No matching distribution" in fetched.stderr:  # what pip says of an index that does not answer
        print("not run: PyPI is not to be reached")
        sys.exit(77)
    sys.exit("small_model.sh: " + fetched.stderr[-1500:])
model = fetched.stdout.strip().splitlines()[-1]
python = SCRIPTS.parent / "build/small-model-venv/bin/python"
prompt = pathlib.Path(tempfile.mkdtemp()) / "prompt"
prompt.write_text(run(python, SCRIPTS / "tokens.py", "chat", model, "What is the capital of France?", check=True).stdout)
answers = []
for layout in (("--kvp", 3), ("--tpa", 3, "--strategy", "tp")):
    done = run(mpirun, "-n", 3, program, "generate", "--weights", model, "--prompt-file", prompt, "--json", *layout)
    if done.returncode != 0:
        sys.exit(f"{layout}: exit code {done.returncode}: {done.stderr[-1500:]}")
    answers.append(run(python, SCRIPTS / "tokens.py", "decode", model, input=done.stdout, check=True).stdout.strip())
    print(json.loads(done.stdout)["id"], answers[-1])
sys.exit(0 if answers[0] == answers[1] and "Paris" in answers[0] else "the answers differ, or are wrong")
