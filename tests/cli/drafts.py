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


tiny_gqa = json.loads((pathlib.Path(__file__).resolve().parents[2] / "roofline/models/tiny-gqa.json").read_text())


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

# An Eagle-3 head: predicted, by its name not measured, and told to engines.
HEAD = {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 1, "rms_norm_eps": 1e-5, "vocab_size": 128256,
        "draft_vocab_size": 32000}
(scratch / "eagle3").mkdir()
(scratch / "eagle3/config.json").write_text(json.dumps(HEAD))


def helix_bench(*arguments, expect=0):
    done = subprocess.run([program, *arguments], cwd=scratch, capture_output=True, text=True, timeout=60)
    assert done.returncode == expect, done
    return done.stdout if expect == 0 else done.stderr


PLAN = ["predict", "--model", "llama-3.1-8b", "--system", "h200", "--context", "64k", "--batch", "8", "--strategy", "tp", "--ranks", "4",
        "--draft-tokens", "3", "--acceptance", "2.5"]
(bare,) = json.loads(helix_bench(*PLAN, "--json"))
(headed,) = json.loads(helix_bench(*PLAN, "--draft-model", "eagle3", "--json", "--out", "headed"))
assert "making drafts is not counted" in bare["reason"] and headed["reason"] is None, (bare, headed)
assert headed["draft_model"] == "eagle3" and headed["id"].endswith("/draft3+eagle3/accept2.5"), headed
assert headed["model_ttl_us"] > bare["model_ttl_us"] and headed["memory_bytes_per_rank"] > bare["memory_bytes_per_rank"], headed
for engine, told in {"trtllm": f"speculative_model: {scratch / 'eagle3'}", "vllm": '"method": "eagle3"',
                     "sglang": "--speculative-algorithm EAGLE3"}.items():
    exported = helix_bench("export", "headed", "--point", headed["id"], "--format", engine)
    assert told in exported and str(scratch / "eagle3") in exported, exported
    if engine == "trtllm":
        (scratch / "point.yaml").write_text(exported)
(back,) = json.loads(helix_bench("predict", "--model", "llama-3.1-8b", "--system", "h200", "--trtllm-config", "point.yaml", "--json"))
assert (back["id"], back["model_ttl_us"]) == (headed["id"], headed["model_ttl_us"]), (back, headed)
message = helix_bench("predict", "--model", "llama-3.1-70b", "--draft-model", "eagle3", "--draft-tokens", "1", expect=2)
assert message.count("\n") == 1 and "not the head of llama-3.1-70b" in message, message
TINY_HEAD = {**HEAD, **{key: tiny_gqa[key] for key in ("hidden_size", "vocab_size")}, "head_dim": 128, "draft_vocab_size": 100}
(scratch / "tiny.json").write_text(json.dumps(TINY_HEAD))
(unmade,) = sweep("unmade", "--model", "tiny-gqa", "--draft-tokens", "2", "--draft-model", "tiny.json")
assert unmade["status"] == "skipped" and "does not run Eagle-3 heads" in unmade["reason"], unmade

(unknown,) = sweep("unknown", "--model", "tiny-gqa", "--draft-tokens", "1")
assert unknown["status"] == "ok" and float(unknown["ttl_us"]) > 0 and unknown["tokens_per_s_user"] == "", unknown
assert "tokens/s are not known without --acceptance" in unknown["reason"], unknown

(sparse,) = sweep("sparse", "--model", "tiny-dsa", "--draft-tokens", "1")
assert sparse["status"] == "skipped" and "does not check drafted tokens in sparse attention" in sparse["reason"], sparse

shutil.rmtree(scratch)
print("1 passed, 0 failed")
