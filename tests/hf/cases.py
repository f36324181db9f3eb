"""Small models of every architecture that the engine runs, odd ones among them."""
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
