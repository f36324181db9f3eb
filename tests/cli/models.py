#!/usr/bin/env python3
"""Models by what capacity planners read: `list models`, the same columns in rows, and what is only predicted.
models.py HELIX_BENCH [unused]"""
import json
import pathlib
import subprocess
import sys
import tempfile

program = sys.argv[1]
scratch = pathlib.Path(tempfile.mkdtemp())

WINDOWED = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "vocab_size": 1000,
            "sliding_window": 128, "max_position_embeddings": 4096, "tie_word_embeddings": False}
INNER = {**WINDOWED, "sliding_window": None, "num_nextn_predict_layers": 1}
(scratch / "windowed.json").write_text(json.dumps(WINDOWED))
(scratch / "gelu.json").write_text(json.dumps({**WINDOWED, "hidden_act": "gelu"}))
(scratch / "pixtral.json").write_text(json.dumps({
    "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": INNER,
    "vision_config": {"depth": 3}, "image_token_index": 10}))
COMMAND_R = {"architectures": ["CohereForCausalLM"], "model_type": "cohere", "hidden_size": 8192, "intermediate_size": 22528,
             "num_attention_heads": 64, "num_hidden_layers": 40, "num_key_value_heads": 64, "vocab_size": 256000,
             "layer_norm_eps": 1e-05, "logit_scale": 0.0625, "rope_theta": 8000000.0, "tie_word_embeddings": True}
COMMAND_A = {**COMMAND_R, "architectures": ["Cohere2ForCausalLM"], "model_type": "cohere2", "num_key_value_heads": 8,
             "sliding_window": 4096, "sliding_window_pattern": 4, "use_parallel_block": True, "layer_switch": 4}
(scratch / "command-r.json").write_text(json.dumps(COMMAND_R))
(scratch / "command-r-plus.json").write_text(json.dumps({**COMMAND_R, "use_qk_norm": True, "num_key_value_heads": 8}))
(scratch / "command-a.json").write_text(json.dumps(COMMAND_A))
(scratch / "draft.json").write_text(json.dumps({**WINDOWED, "architectures": ["LlamaForCausalLMEagle3"]}))


def run(*arguments, expect=0):
    done = subprocess.run([program, *arguments], cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == expect, (arguments, done)
    return done.stdout if expect == 0 else done.stderr


models = json.loads(run("list", "models", "--model", "windowed.json", "--model", "pixtral.json", "--model", "GLM-5", "--json"))
assert list(models) == ["windowed", "pixtral", "glm-5"], list(models)
windowed, pixtral, glm = models.values()
attention, ffn = 256 * (256 + 2 * 128) + 256 * 256, 3 * 256 * 512
assert windowed["parameters_total"] == 2 * 256 * 1000 + 2 * (attention + ffn), windowed
assert windowed["parameters_active"] == windowed["parameters_total"] - 256 * 1000, windowed
token = 2 * 2 * 2 * 64 * 2
assert windowed["kv_bytes_per_token"] == token
assert windowed["kv_bytes_read_per_token_at"] == {"8k": 128 * token, "128k": 128 * token, "1m": 128 * token}
assert pixtral["kv_bytes_read_per_token_at"] == {"8k": token << 13, "128k": token << 17, "1m": token << 20}
assert windowed["state_bytes_per_request"] == 0 and windowed["precision"]["attention"] == "bf16", windowed
assert windowed["runnable"] and "reason" not in windowed, windowed
assert pixtral["runnable"] and "reason" not in pixtral, pixtral
assert pixtral["left_out"] == ["text_config.num_nextn_predict_layers = 1", "vision_config = an object"], pixtral
assert glm["kv_bytes_per_token"] == 78 * (576 + 128) * 2 and glm["parameters_total"] > 7.4e11, glm
commands = [f"command-{name}" for name in ("r", "r-plus", "a")]
listed = json.loads(run("list", "models", *(word for name in commands for word in ("--model", f"{name}.json")), "--json"))
assert list(listed) == commands and all(model["runnable"] for model in listed.values()), listed
assert "architectures" in run("list", "models", "--model", "draft.json", expect=2)
assert "valid: list models --model" in run("list", "systems", "--model", "glm-5", expect=2)
table = run("list", "models", "--model", "windowed.json", "--model", "qwen3.5-397b")
assert "396.3 B" in table and "predicted" in table and len(table.splitlines()) == 3, table
built_in = json.loads(run("list", "models", "--json"))
assert {"deepseek-v3.2", "glm-5", "kimi-k2.5", "qwen3.5-397b", "minimax-m2.5", "gpt-oss-20b", "llama-4-maverick"} <= set(built_in)

PREDICT = ("predict", "--system", "gb200", "--ranks", "1", "--batch", "4", "--strategy", "tp")
(row,) = json.loads(run(*PREDICT, "--model", "windowed.json", "--context", "8k", "--json"))
assert row["reason"] == "context beyond max_position_embeddings = 4096", row
assert row["kv_bytes_per_token"] == token and row["kv_read_bytes_per_token"] == 128 * token, row
assert row["active_parameters"] == windowed["parameters_active"] and row["state_bytes_per_request"] == 0, row
assert row["kv_bytes_per_rank"] == 4 * 128 * token, row
shares = [row[f"memory_{part}_share"] for part in ("weights", "kv", "state")]
assert shares[2] == 0 and 0 < shares[1] and 0.9 < sum(shares) < 1, row
assert "Not counted of pixtral.json without drafts: " in run(*PREDICT, "--model", "pixtral.json", "--context", "4k")

VERIFY = ("verify", "--context", "256", "--batch", "1", "--strategy", "helix", "--kvp", "1", "--tpa", "1", "--json")
(skipped,) = json.loads(run(*VERIFY, "--model", "gelu.json"))
assert skipped["status"] == "skipped", skipped
assert skipped["reason"] == 'predicted only: the engine does not run hidden_act = "gelu"', skipped
(verified,) = json.loads(run(*VERIFY, "--model", "windowed.json"))
assert verified["status"] == "ok", verified
(parallel,) = json.loads(run("verify", "--model", "tiny-command-r", "--context", "1k", "--batch", "2", "--strategy", "tp", "--json"))
assert parallel["status"] == "ok", parallel
