#!/usr/bin/env python3
"""The checkpoint's own precision as users meet it: the default of predict, --weight-dtype for all or some of the parts,
--kv-dtype, and what a row says of it.    precision.py HELIX_BENCH [unused]"""
import json
import pathlib
import subprocess
import sys
import tempfile

program = sys.argv[1]
scratch = pathlib.Path(tempfile.mkdtemp())

FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61,
    "first_k_dense_replace": 3, "num_attention_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432,
    "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "moe_intermediate_size": 2048,
    "n_group": 8, "topk_group": 4, "vocab_size": 129280, "max_position_embeddings": 163840}


def model(name, **changes):
    (scratch / name).mkdir()
    (scratch / name / "config.json").write_text(json.dumps({**DEEPSEEK, **changes}))
    return f"{name}/config.json"


def run(*arguments):
    return subprocess.run([program, "predict", "--system", "gb200", "--context", "128k", "--batch", "1", "--strategy", "helix",
                           "--kvp", "8", "--tpa", "1", "--json", *arguments], cwd=scratch, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)


def row(*arguments):
    done = run(*arguments)
    assert done.returncode == 0 and not done.stderr, (arguments, done)
    (only,) = json.loads(done.stdout)
    return only


def refused(needles, *arguments):
    done = run(*arguments)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
    assert all(needle in done.stderr for needle in needles), done.stderr


fp8 = model("fp8", quantization_config=FP8)
own = row("--model", fp8)
assert own["weight_dtype"] == "fp8" and own["kv_dtype"] == "bf16" and own["precision_source"] == "file", own
assert own["precision"] == "attention=fp8 ffn=fp8 experts=fp8 shared=fp8 router=bf16 embedding=bf16 head=bf16", own
wide = row("--model", fp8, "--weight-dtype", "bf16")
assert wide["precision_source"] == "flag" and "experts=bf16" in wide["precision"], wide
# 671 GB instead of 1343 on 8 GPUs: room for several times as many requests, in half the time of reading.
assert own["max_batch"] > 3 * wide["max_batch"] > 0, (own["max_batch"], wide["max_batch"])
assert own["weight_bytes_per_rank"] < 0.52 * wide["weight_bytes_per_rank"], (own, wide)
assert own["model_ttl_us"] < wide["model_ttl_us"]
assert own["id"] != wide["id"] and row("--model", fp8, "--weight-dtype", "auto")["id"] == own["id"]

parts = row("--model", fp8, "--weight-dtype", "experts=nvfp4,attention=bf16")
assert parts["precision_source"] == "file+flag", parts
assert parts["precision"] == "attention=bf16 ffn=fp8 experts=nvfp4 shared=fp8 router=bf16 embedding=bf16 head=bf16", parts
two = run("--model", fp8, "--weight-dtype", "fp8,nvfp4,head=bf16")
assert [r["weight_dtype"] for r in json.loads(two.stdout)] == ["fp8", "nvfp4"], two

table = subprocess.run([program, "predict", "--system", "gb200", "--context", "128k", "--batch", "1", "--strategy", "helix",
                        "--kvp", "8", "--tpa", "1", "--model", fp8], cwd=scratch, capture_output=True, text=True, timeout=60)
assert "mixed fp8/bf16" in table.stdout and f"mixed fp8 of fp8: {own['precision']} (from file)" in table.stdout, table

# A KV cache of the checkpoint's type, and NVIDIA's file beside a config.json without quantization_config.
kv = model("kv", quantization_config={**FP8, "kv_cache_scheme": {"type": "float", "num_bits": 8}})
assert row("--model", kv)["kv_dtype"] == "fp8" and row("--model", kv, "--kv-dtype", "bf16")["kv_dtype"] == "bf16"
nvidia = model("nvidia")
(scratch / "nvidia/hf_quant_config.json").write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": {
    "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head", "*self_attn*"]}}))
beside = row("--model", nvidia)
assert beside["precision"] == "attention=bf16 ffn=nvfp4 experts=nvfp4 shared=nvfp4 router=bf16 embedding=bf16 head=bf16", beside
assert beside["kv_dtype"] == "fp8", beside

refused(["--weight-dtype", "int5", "mxfp4"], "--model", fp8, "--weight-dtype", "int5")
refused(["--weight-dtype", "expert", "experts"], "--model", fp8, "--weight-dtype", "expert=fp8")
refused(["--kv-dtype", "int4", "nvfp4"], "--model", fp8, "--kv-dtype", "int4")
refused(["quant_method", "hqq", "compressed-tensors"], "--model", model("hqq", quantization_config={"quant_method": "hqq"}))
print("1 passed, 0 failed")
