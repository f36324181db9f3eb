#!/usr/bin/env python3
"""Small random checkpoints of every architecture that the engine runs, written by Hugging Face transformers, and what
transformers computes with them: the witness of tests/hf that is not ours.

    python3 -m venv build/hf-venv && build/hf-venv/bin/pip install -r tests/hf/requirements.txt
    build/hf-venv/bin/python tests/hf/make_checkpoints.py [--out DIR] [CASE...]
    build/hf-venv/bin/python tests/hf/make_checkpoints.py --check        # are the committed ones what it computes today?

Each case is a directory as a user has it (config.json, safetensors) and golden.safetensors:
    tokens   I64 [T]              a prompt and the tokens that greedy decoding adds
    prompt   I64 [1]              how many of them are the prompt
    logits   F64 [T, vocab]
    experts  I64 [moe layers, T, top_k]   where the class has a router that tells them, each token's in rising order
All arithmetic of transformers is done in fp64, also where it asks for fp32 (norms, softmax, rotary angles); only the
rotary frequencies are rounded to fp32, as every engine keeps them.
"""
import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import safetensors
import safetensors.torch
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
PROMPT, GENERATED = 18, 6
REAL_FP32 = torch.float32

COMMON = dict(vocab_size=61, hidden_size=48, num_hidden_layers=2, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
MLA = dict(num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32, qk_rope_head_dim=32, qk_nope_head_dim=16, v_head_dim=16,
           intermediate_size=48, moe_intermediate_size=16, num_experts_per_tok=2, first_k_dense_replace=1)
GROUPED = dict(n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3, n_shared_experts=1,
               num_nextn_predict_layers=0, num_mtp_layers=0)


def yarn(**scales):
    return dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=8, beta_fast=32.0,
                beta_slow=1.0, **scales)


# name: (class of the configuration, its values, storage)
CASES = {
    # Tied embeddings, Llama 3's rotary scaling, an index of several files.
    "llama-tied": ("LlamaConfig", dict(COMMON, num_attention_heads=12, num_key_value_heads=4, head_dim=16, intermediate_size=48,
                                       tie_word_embeddings=True, rope_parameters=LLAMA3), "bf16 sharded"),
    # Head counts that are no powers of two, heads wider than hidden / heads, linear scaling, fp32 files.
    "llama-odd": ("LlamaConfig", dict(COMMON, num_attention_heads=6, num_key_value_heads=3, head_dim=16, intermediate_size=36,
                                      rms_norm_eps=1e-2, rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=3.0)),
                  "f32"),
    "mistral-mqa": ("MistralConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=1, head_dim=16, intermediate_size=48,
                                          sliding_window=None), "f16"),
    "qwen3": ("Qwen3Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48), "bf16"),
    "qwen3-moe": ("Qwen3MoeConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=4, head_dim=16,
                                         moe_intermediate_size=16, num_experts=6, num_experts_per_tok=3, norm_topk_prob=True),
                  "bf16"),
    "mixtral": ("MixtralConfig", dict(COMMON, num_attention_heads=8, num_key_value_heads=2, head_dim=16, intermediate_size=16,
                                      num_local_experts=4, num_experts_per_tok=2), "bf16"),
    # norm_topk_prob is there, and transformers does not look at it.
    "deepseek-v2-lite": ("DeepseekV2Config", dict(COMMON | MLA, q_lora_rank=None, n_routed_experts=4, n_shared_experts=2,
                                                  norm_topk_prob=True, rope_parameters=yarn(mscale=0.7, mscale_all_dim=0.7)),
                         "bf16"),
    # Norms inside of the attention keep their own epsilon; one mscale alone does not scale the rotation.
    "deepseek-v2-q-lora": ("DeepseekV2Config", dict(COMMON | MLA, q_lora_rank=24, n_routed_experts=4, n_shared_experts=1,
                                                    rms_norm_eps=1e-2, routed_scaling_factor=1.5,
                                                    rope_parameters=yarn(mscale_all_dim=0.9)), "bf16"),
    # The best experts of the groups that have the best ones.
    "deepseek-v2-groups": ("DeepseekV2Config", dict(COMMON | MLA | GROUPED, q_lora_rank=24, topk_method="group_limited_greedy",
                                                    routed_scaling_factor=2.0), "bf16"),
    "deepseek-v3": ("DeepseekV3Config", dict(COMMON | MLA | GROUPED, q_lora_rank=24, rms_norm_eps=1e-2,
                                             rope_parameters=yarn(mscale=1.0, mscale_all_dim=0.8)), "bf16"),
    "deepseek-v3-mscale": ("DeepseekV3Config", dict(COMMON | MLA | GROUPED, q_lora_rank=None, rope_interleave=True,
                                                    rope_parameters=yarn(mscale=0.7)), "bf16 sharded"),
    "deepseek-v3-fp8": ("DeepseekV3Config", dict(COMMON | MLA | GROUPED, q_lora_rank=24), "fp8 blocks"),
    # Biases of queries, keys and values.
    "qwen2": ("Qwen2Config", dict(COMMON, num_attention_heads=6, num_key_value_heads=2, hidden_size=96, intermediate_size=48),
              "bf16"),
    # And a shared expert whose output a sigmoid scales, a dense layer before.
    "qwen2-moe": ("Qwen2MoeConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=4, hidden_size=64,
                                         intermediate_size=48, moe_intermediate_size=16, shared_expert_intermediate_size=32,
                                         num_experts=6, num_experts_per_tok=2, mlp_only_layers=[0]), "bf16"),
    # Biases of all products.
    "llama-biases": ("LlamaConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                         attention_bias=True, mlp_bias=True), "bf16"),
    "seed-oss": ("SeedOssConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                       attention_bias=True, attention_out_bias=False, mlp_bias=False), "bf16"),
    # Half of each head rotated: in neighbouring pairs, in halves behind norms.
    "glm": ("GlmConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                              attention_bias=True, pad_token_id=None), "bf16"),
    "glm4": ("Glm4Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                attention_bias=True, pad_token_id=None), "bf16"),  # norms behind the blocks
    "glm4-moe": ("Glm4MoeConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                       moe_intermediate_size=16, n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=1,
                                       first_k_dense_replace=1, attention_bias=True, use_qk_norm=True,
                                       rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)),
                 "bf16"),
    "glm4-moe-lite": ("Glm4MoeLiteConfig", dict(COMMON | MLA | GROUPED, q_lora_rank=24, n_group=1, topk_group=1,
                                                mlp_layer_types=["dense", "sparse"], pad_token_id=None), "bf16"),
    "phi3-partial": ("Phi3Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64,
                                        intermediate_size=48, pad_token_id=None,
                                        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.75)),
                     "bf16"),
    # A factor for each pair's wavelength beyond 8 tokens.
    "phi3-longrope": ("Phi3Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64,
                                         intermediate_size=48, pad_token_id=None, original_max_position_embeddings=8,
                                         rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                                                              short_factor=[1.0, 1.0, 1.5, 2.0, 2.0, 3.0],
                                                              long_factor=[1.0, 1.25, 3.0, 9.0, 20.0, 45.0])), "bf16"),
    # Queries that grow with their position, under YaRN.
    "ministral3": ("Ministral3Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                            rope_parameters=yarn(mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)),
                   "bf16"),
    "mistral4": ("Mistral4Config", dict(COMMON | MLA, q_lora_rank=24, n_routed_experts=6, n_shared_experts=1, n_group=1,
                                        topk_group=1, rope_parameters=yarn(mscale=1.0, mscale_all_dim=1.0,
                                                                           llama_4_scaling_beta=0.3)), "bf16"),
    # Norms over all heads.
    "minimax-m2": ("MiniMaxM2Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=16,
                                           num_local_experts=6, num_experts_per_tok=2,
                                           rope_parameters=dict(rope_type="default", rope_theta=10000.0,
                                                                partial_rotary_factor=0.5)), "bf16"),
    # Layers without RoPE.
    "smollm3": ("SmolLM3Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, intermediate_size=48,
                                      no_rope_layers=[1, 0], pad_token_id=None), "bf16"),
    # Factors on embedding, scores, blocks and logits.
    "granite": ("GraniteConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, intermediate_size=48,
                                      embedding_multiplier=12.0, attention_multiplier=0.125, residual_multiplier=0.22,
                                      logits_scaling=6.0), "bf16"),
    "granite-moe": ("GraniteMoeSharedConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64,
                                                   intermediate_size=16, num_local_experts=4, num_experts_per_tok=2,
                                                   shared_intermediate_size=32, embedding_multiplier=6.0,
                                                   attention_multiplier=0.25, residual_multiplier=0.5, logits_scaling=2.0), "bf16"),
    "ernie4-5": ("Ernie4_5Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                        use_bias=False), "bf16"),
    # A bias on the choice of experts by their softmax; a dense layer before.
    "ernie4-5-moe": ("Ernie4_5_MoeConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                                                intermediate_size=48, moe_intermediate_size=16, moe_num_experts=6, moe_k=3,
                                                moe_num_shared_experts=2, tie_word_embeddings=False), "bf16"),
    "dots1": ("Dots1Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                  moe_intermediate_size=16, n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=1,
                                  first_k_dense_replace=1, n_group=1, topk_group=1), "bf16"),
    # Sparse attention: 7 of up to 24 tokens. Heads enough that no score is 0, since topk breaks ties as it likes.
    "deepseek-v32": ("DeepseekV32Config", dict(COMMON | MLA | GROUPED, q_lora_rank=24, index_topk=7, index_head_dim=64,
                                               index_n_heads=16, rope_parameters=yarn(mscale=1.0, mscale_all_dim=0.8)), "bf16"),
    "glm-moe-dsa": ("GlmMoeDsaConfig", dict(COMMON | MLA | GROUPED, q_lora_rank=24, index_topk=5, index_head_dim=32,
                                            index_n_heads=16, rms_norm_eps=1e-5), "bf16"),
    # Windows of fewer tokens than the prompt: in all layers, in those from max_window_layers on.
    "mistral-window": ("MistralConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                                             intermediate_size=48, sliding_window=7), "bf16"),
    "qwen3-window": ("Qwen3Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
                                         use_sliding_window=True, sliding_window=5, max_window_layers=1), "bf16"),
    # Sinks, biases, clamped SwiGLU, experts in tensors of their own layout; the window in every other layer.
    "gpt-oss": ("GptOssConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=16,
                                     num_hidden_layers=3, num_local_experts=6, num_experts_per_tok=2, sliding_window=7,
                                     swiglu_limit=1.5, rope_parameters=yarn(truncate=False)), "bf16"),
    "gpt-oss-rounded": ("GptOssConfig", dict(COMMON, num_attention_heads=8, num_key_value_heads=2, head_dim=16,
                                             intermediate_size=16, num_local_experts=4, num_experts_per_tok=1, sliding_window=64,
                                             rms_norm_eps=1e-2, swiglu_alpha=1.25, rope_parameters=yarn()), "f32"),
    # Gains of 1 + w, norms on both sides of a block, GeGLU, a rotation of its own and a window in every layer but each second;
    # hidden of which the root is exact.
    "gemma3": ("Gemma3TextConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, head_dim=16,
                                        intermediate_size=48, num_hidden_layers=4, sliding_window=7, query_pre_attn_scalar=32,
                                        pad_token_id=None,
                                        layer_types=["sliding_attention", "full_attention"] * 2,
                                        rope_parameters=dict(
                                            full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
                                            sliding_attention=dict(rope_type="default", rope_theta=1e4))), "bf16"),
    # Attention and FFN of one LayerNorm, factors on the logits; odd head counts, norms of heads with gains of their own.
    "cohere": ("CohereConfig", dict(COMMON, num_attention_heads=6, num_key_value_heads=3, hidden_size=96, intermediate_size=48,
                                    pad_token_id=None), "bf16"),
    "cohere-qk-norm": ("CohereConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64,
                                            intermediate_size=48, use_qk_norm=True, attention_bias=True, logit_scale=0.8333333333333334,
                                            layer_norm_eps=1e-2, pad_token_id=None), "f32"),
    # And windows with RoPE between layers that have neither.
    "cohere2": ("Cohere2Config", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, intermediate_size=48,
                                      num_hidden_layers=4, sliding_window=7, sliding_window_pattern=2, logit_scale=0.25,
                                      pad_token_id=None), "bf16"),
    "llama-fp8": ("LlamaConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48),
                  "fp8 tensors"),
    "qwen3-moe-nvfp4": ("Qwen3MoeConfig", dict(COMMON, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                                               moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2), "nvfp4"),
}
BLOCK = 16  # of block-wise fp8: small, that the small matrices have several
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def random_weights(model):
    """Unit-variance products, scores that make the softmax choose, gains and biases that matter; all exact in bf16 and fp16."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "inv_freq" in name:
            continue
        values = torch.randn(tensor.shape, generator=generator)
        if "embed_scale" in name:
            continue
        if "norm" in name:
            values = 1 + 0.3 * values
            if "Gemma" in type(model).__name__:  # stored without the 1, and with it a gain that bf16 holds
                values = ((values - 1).clamp(-0.9, 0.9) * 128).round() / 128
        elif "embed" in name and "Gemma" in type(model).__name__:  # multiplied by the root of hidden
            values = values / tensor.shape[-1] ** 0.5
        elif "e_score_correction_bias" in name:
            values = 0.1 * values
        elif any(part in name for part in ("gate.weight", "mlp.router.weight", "q_proj", "q_b_proj")):
            values = 2.0 * values / tensor.shape[-1] ** 0.5
        elif "embed" not in name and name.endswith(("weight", "proj")):
            values = values / tensor.shape[-1] ** 0.5
        elif name.endswith("bias"):
            values = 0.5 * values
        values = values.bfloat16().float()
        tensor.data.copy_(torch.where(values.abs() < 2.0 ** -14, torch.zeros(()), values))


def is_matrix(name, tensor):
    wide = ("embed", "lm_head", "norm", "gate.weight")
    return tensor.dim() == 2 and not any(part in name for part in wide)


def fp8(values, scale):
    return (values / scale).clamp(-448, 448).to(torch.float8_e4m3fn)


def quantise(name, tensor, storage):
    """Tensors of the file, and what they stand for in bf16, as transformers dequantises them."""
    values = tensor.float()
    if storage == "fp8 tensors":
        scale = values.abs().max() / 448
        stored = fp8(values, scale)
        return {name: stored, name + "_scale": scale, name.replace("weight", "input_scale"): torch.ones(())}, stored.float() * scale
    n, k = values.shape
    if storage == "fp8 blocks":
        rows, cols = -(-n // BLOCK), -(-k // BLOCK)
        scale = torch.stack([torch.stack([block.abs().max() / 448 for block in row.split(BLOCK, 1)])
                             for row in values.split(BLOCK, 0)])
        spread = scale.repeat_interleave(BLOCK, 0)[:n].repeat_interleave(BLOCK, 1)[:, :k]
        assert scale.shape == (rows, cols)
        stored = fp8(values, spread)
        return {name: stored, name + "_scale_inv": scale}, stored.float() * spread
    blocks = values.view(n, k // 16, 16)
    tensor_scale = values.abs().max() / (6 * 448)
    scale = (blocks.abs().amax(-1) / 6 / tensor_scale).to(torch.float8_e4m3fn)
    unit = scale.float() * tensor_scale
    magnitude = (blocks.abs() / unit[..., None]).clamp(max=6)
    code = (magnitude[..., None] - E2M1).abs().argmin(-1)
    held = torch.where(blocks < 0, -E2M1[code], E2M1[code]) * unit[..., None]
    nibbles = (code + 8 * (blocks < 0)).view(n, k // 2, 2).to(torch.uint8)
    packed = nibbles[..., 0] | nibbles[..., 1] << 4
    return {name: packed, name + "_scale": scale, name + "_scale_2": tensor_scale}, held.view(n, k)


QUANTIZATION = {
    "fp8 blocks": dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic", weight_block_size=[BLOCK, BLOCK]),
    "fp8 tensors": dict(quant_method="modelopt", quant_algo="FP8", ignore=["lm_head"]),
    "nvfp4": dict(quant_method="modelopt", quant_algo="NVFP4", ignore=["lm_head", "*mlp.gate"]),
}


def store(plain, case, storage):
    """The checkpoint as a user has it, of the plain one in fp32; the plain one becomes what the stored one stands for."""
    dtype = {"f32": torch.float32, "f16": torch.float16}.get(storage, torch.bfloat16)
    tensors, held = {}, {}
    for name, tensor in sorted(safetensors.torch.load_file(plain / "model.safetensors").items()):
        if storage in QUANTIZATION and is_matrix(name, tensor):
            stored, meaning = quantise(name, tensor, storage)
            tensors |= stored
            held[name] = meaning.bfloat16().float()
        else:
            held[name] = tensor
            tensors[name] = tensor if "e_score_correction_bias" in name else tensor.to(dtype)
    safetensors.torch.save_file(held, plain / "model.safetensors", {"format": "pt"})
    case.mkdir(parents=True)
    config = json.loads((plain / "config.json").read_text())
    config["dtype"] = {"f32": "float32", "f16": "float16"}.get(storage, "bfloat16")
    if storage in QUANTIZATION:
        config["quantization_config"] = QUANTIZATION[storage]
    (case / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    parts = [tensors]
    if "sharded" in storage:
        names = sorted(tensors)
        parts = [{name: tensors[name] for name in names[at::3]} for at in range(3)]
    files = ["model.safetensors" if len(parts) == 1 else f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))]
    for file, part in zip(files, parts):
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in part.items()}, case / file, {"format": "pt"})
    if len(parts) > 1:
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        index = {"metadata": {"total_size": total},
                 "weight_map": {name: file for file, part in zip(files, parts) for name in sorted(part)}}
        (case / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


class InFp64:
    """Where transformers asks for fp32, it gets fp64."""

    def __enter__(self):
        self.saved = torch.float32, torch.float, torch.Tensor.float
        torch.set_default_dtype(torch.float64)
        torch.float32 = torch.float = torch.float64
        torch.Tensor.float = torch.Tensor.double

    def __exit__(self, *_):
        torch.float32, torch.float, torch.Tensor.float = self.saved
        torch.set_default_dtype(torch.float32)


def golden(model_class, plain):
    model = model_class.from_pretrained(plain, dtype=REAL_FP32, attn_implementation="eager", experts_implementation="eager").eval()
    experts = []

    def note(_module, _inputs, output):
        experts.append(output[-1].sort(-1).values)

    for module in model.modules():
        if type(module).__name__.lower().endswith("topkrouter"):
            module.register_forward_hook(note)
    tokens = torch.randint(2, model.config.vocab_size, (1, PROMPT), generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        single = model(tokens, use_cache=False).logits
        model = model.double()
        with InFp64():
            rotary = type(model.model.rotary_emb)(config=model.config)
            for buffer in [name for name, _ in rotary.named_buffers() if name.endswith("inv_freq")]:
                setattr(rotary, buffer, getattr(rotary, buffer).to(REAL_FP32).to(torch.float64))
            if hasattr(rotary, "rope_type") and rotary.rope_type == "longrope":
                beyond = model.config.rope_parameters["original_max_position_embeddings"] + 1
                long, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["longrope"](model.config, None, seq_len=beyond)
                rotary.long_inv_freq = long.to(REAL_FP32).to(torch.float64)
            model.model.rotary_emb = rotary
            for _ in range(GENERATED + 1):
                experts.clear()
                logits = model(tokens, use_cache=False).logits[0]
                last = logits[-1].topk(2).values
                assert last[0] - last[1] > 1e-3, "a tie: take another seed"
                if tokens.shape[1] < PROMPT + GENERATED:
                    tokens = torch.cat([tokens, logits[-1].argmax().view(1, 1)], dim=1)
    assert logits.dtype == torch.float64
    difference = (logits[:PROMPT] - single[0].double()).norm() / logits[:PROMPT].norm()
    assert difference < 1e-4, f"fp32 and fp64 differ by {difference}"
    tensors = {"tokens": tokens[0], "prompt": torch.tensor([PROMPT]), "logits": logits.contiguous()}
    if experts:
        tensors["experts"] = torch.stack(experts).contiguous()
    return tensors


def make(name, out):
    config_class, values, storage = CASES[name]
    torch.manual_seed(1)
    # Not all are known to AutoModelForCausalLM.
    model_class = getattr(transformers, config_class.replace("TextConfig", "Config").replace("Config", "ForCausalLM"))
    model = model_class(getattr(transformers, config_class)(**values))
    random_weights(model)
    with tempfile.TemporaryDirectory() as scratch:
        plain = pathlib.Path(scratch)
        model.save_pretrained(plain)
        shutil.rmtree(out / name, ignore_errors=True)
        store(plain, out / name, storage)
        tensors = golden(model_class, plain)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    safetensors.torch.save_file(tensors, out / name / "golden.safetensors", versions)
    for file in (out / name).iterdir():
        file.chmod(0o644)


def differs(name, fresh):
    """How today's golden file of a case differs from the committed one; empty: it does not."""
    committed = safetensors.torch.load_file(HERE / "checkpoints" / name / "golden.safetensors")
    made = safetensors.torch.load_file(fresh / name / "golden.safetensors")
    for key, before in committed.items():
        now = made[key]
        if before.dtype == torch.float64:
            error = (now - before).norm() / before.norm()
            if not error < 1e-12:
                return f"{key}: relative difference {error:.3g}"
        elif not torch.equal(now, before):
            return f"{key} are others"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "checkpoints", metavar="DIR")
    parser.add_argument("--check", action="store_true", help="make them elsewhere and compare with the committed ones")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="of " + ", ".join(CASES))
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    names = arguments.cases or list(CASES)
    for name in names:
        if name not in CASES:
            sys.exit(f"make_checkpoints.py: unknown case '{name}'; valid: {', '.join(CASES)}")
    if not arguments.check:
        for name in names:
            make(name, arguments.out)
            print(f"made {name}", flush=True)
        return
    failures = 0
    with tempfile.TemporaryDirectory() as fresh:
        for name in names:
            make(name, pathlib.Path(fresh))
            difference = differs(name, pathlib.Path(fresh))
            failures += bool(difference)
            print(f"{name}: {difference or 'the same'}", flush=True)
    print(f"{len(names) - failures} passed, {failures} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
