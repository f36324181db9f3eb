#!/usr/bin/env python3
"""Steps that check drafted tokens as users meet them: measured once for all acceptances, tokens/s of an acceptance only, and
no drafting in the prediction beside them.    drafts.py HELIX_BENCH MPIRUN"""
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())


def sweep(out, *flags):
    done = subprocess.run([mpirun, "-n", "2", program, "sweep", "--context", "300", "--batch", "2", "--strategy", "helix", "--kvp",
                           "2", "--max-time", "0.2", "--system", "h100", "--quiet", "--out", out, *flags], cwd=scratch, env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done
    with open(scratch / out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


rows = sweep("known", "--model", "tiny-gqa", "--draft-tokens", "0,3", "--acceptance", "1,2.5")
assert [row["status"] for row in rows] == ["ok"] * 3, rows
plain, one, more = rows
assert (plain["draft_tokens"], one["draft_tokens"], more["acceptance"]) == ("0", "3", "2.5"), rows
assert one["ttl_us"] == more["ttl_us"] and one["samples"] == more["samples"] and one["ttl_us"] != plain["ttl_us"], rows
for row in (one, more):
    expected = float(row["acceptance"]) * 1e6 / float(row["ttl_us"])
    assert abs(float(row["tokens_per_s_user"]) / expected - 1) < 1e-3, row
    assert "the time of making drafts is not counted" in row["reason"] and float(row["verify_rel_error"]) > 0, row

(made,) = sweep("made", "--model", "tiny-mtp", "--draft-tokens", "2", "--acceptance", "1.5")
assert made["status"] == "ok" and "making drafts" not in made["reason"] and float(made["verify_rel_error"]) > 0, made
(given,) = sweep("given", "--model", "tiny-mla", "--draft-tokens", "2", "--acceptance", "1.5")
assert "the time of making drafts is not counted" in given["reason"], given
assert float(made["model_ttl_us"]) > float(given["model_ttl_us"]), (made, given)  # the same model but for the draft layer

(local,) = sweep("local", "--model", "tiny-mtp", "--draft-tokens", "2", "--draft-kv", "local")
assert local["status"] == "skipped" and "--draft-kv sharded" in local["reason"] and local["id"].endswith("/draft2.local"), local
plans = [json.loads(subprocess.run([program, "predict", "--model", "deepseek-r1", "--system", "gb300", "--context", "1m", "--batch", "4",
                                    "--kvp", "8", "--strategy", "helix", "--hop-b", "off", "--ep", "8", "--draft-tokens", "3",
                                    "--acceptance", "2.4", "--draft-kv", draft_kv, "--json"],
                                   cwd=scratch, capture_output=True, text=True, timeout=60, check=True).stdout)
         for draft_kv in ("sharded", "local")]
(there,), (here,) = plans
assert (there["draft_kv"], here["draft_kv"]) == ("sharded", "local"), plans
assert here["model_ttl_us"] < there["model_ttl_us"] and here["comm_bytes_per_rank"] < there["comm_bytes_per_rank"], plans
assert here["kv_bytes_per_rank"] == there["kv_bytes_per_rank"] and "fewer are accepted" in here["reason"], plans

(unknown,) = sweep("unknown", "--model", "tiny-gqa", "--draft-tokens", "1")
assert unknown["status"] == "ok" and float(unknown["ttl_us"]) > 0 and unknown["tokens_per_s_user"] == "", unknown
assert "tokens/s are not known without --acceptance" in unknown["reason"], unknown

(sparse,) = sweep("sparse", "--model", "tiny-dsa", "--draft-tokens", "1")
assert sparse["status"] == "skipped" and "does not check drafted tokens in sparse attention" in sparse["reason"], sparse

shutil.rmtree(scratch)
print("1 passed, 0 failed")
