#!/usr/bin/env python3
"""verify with default flags, whatever --context, --batch and --tokens-per-block a user gives: requests whose last block
is almost full, full or just begun, in blocks of 1 to a million tokens.    verify_room.py HELIX_BENCH MPIRUN"""
import json
import os
import subprocess
import sys
import tempfile

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = tempfile.mkdtemp()
failures = []


def verify(ranks, *flags):
    """The rows of a run; each is right or says why it is not run, and none may take the program down."""
    done = subprocess.run([mpirun, "-n", str(ranks), program, "verify", "--json", *flags], cwd=scratch, env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=240)
    where = f"{ranks} ranks, verify {' '.join(flags)}"
    if done.returncode != 0:
        failures.append(f"{where}: exit code {done.returncode}\n{done.stderr[-2000:]}{done.stdout[-2000:]}")
        return []
    rows = json.loads(done.stdout)
    failures.extend(f"{where}: {row}" for row in rows if row["status"] in ("failed", "wrong"))
    return rows


def verified(ranks, least, *flags):
    rows = [row for row in verify(ranks, *flags) if row["status"] == "ok"]
    if len(rows) < least:
        failures.append(f"{ranks} ranks, verify {' '.join(flags)}: {len(rows)} rows verified, expected {least}")
    return rows


# As it was reported.
verified(1, 1, "--model", "tiny-gqa", "--context", "64", "--batch", "1")
for block in (1, 4, 16, 32, 64, 128):
    common = ("--tokens-per-block", str(block), "--context", "127,128,129")
    verified(1, 3, "--model", "tiny-mla-lite", "--batch", "1", *common)
    verified(2, 12, "--model", "tiny-gqa", "--batch", "3", "--strategy", "helix,tp,tp+pp,medha", *common)
    verified(2, 3, "--model", "tiny-qwen3-moe", "--batch", "2", "--strategy", "dp+ep", *common)
    verified(2, 6, "--model", "tiny-gqa,tiny-mla", "--batch", "3", "--strategy", "helix", "--draft-tokens", "3",
             "--tokens-per-block", str(block), "--context", "127,128,129")
# A page of a million tokens: verified in seconds, or skipped for the memory that it takes.
rows = verify(2, "--model", "tiny-gqa", "--context", "64", "--batch", "1", "--tokens-per-block", "1048576")
if any(row["status"] == "skipped" and "memory" not in row["reason"] for row in rows) or not rows:
    failures.append(f"a block of a million tokens: {rows}")
# One request leaves stages without work, and groups without a request.
verified(2, 1, "--model", "tiny-gqa", "--context", "32", "--batch", "1", "--pp", "2", "--strategy", "tp+pp")
for row in verify(2, "--model", "tiny-mla-lite", "--context", "32", "--batch", "1", "--dp", "2", "--strategy", "dp+ep"):
    if row["status"] != "skipped" or "dp=2" not in row["reason"]:
        failures.append(f"a batch of 1 in 2 groups: {row}")

print("\n".join(failures) or "verified in any room")
sys.exit(1 if failures else 0)
