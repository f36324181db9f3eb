#!/usr/bin/env python3
"""A llama model in a GGUF file as a Hugging Face checkpoint: config.json, model.safetensors in bf16, tokenizer.json.
    gguf_checkpoint.py FILE.gguf DIR        needs gguf and tokenizers from PyPI
Quantised tensors are dequantised; the rows of Q and K, which llama.cpp interleaves for its rotation, go back in order."""
import json
import pathlib
import struct
import sys

import gguf
import numpy
import tokenizers

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def checkpoint_name(name):
    parts = name.removesuffix(".weight").split(".")
    if len(parts) == 1:
        return WHOLE[parts[0]] + ".weight"
    _, layer, kind = parts
    return f"model.layers.{layer}.{NAMES[kind]}.weight"


def in_order(rows, heads):
    """Rows (pair, half) of each head, as llama.cpp has them, as (half, pair)."""
    width = rows.shape[0] // heads
    return rows.reshape(heads, width // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def bf16(values):
    bits = values.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype("<u2")


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())


def write_tokenizer(path, field):
    if field("tokenizer.ggml.model") != "gpt2":
        sys.exit("gguf_checkpoint.py: only byte-level BPE tokenizers are known")
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    merges = [tuple(pair.split(" ")) for pair in field("tokenizer.ggml.merges")]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    split = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = split.Sequence([split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = 3
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds) if kind == control])
    tokenizer.save(str(path))


def main():
    source, target = sys.argv[1], pathlib.Path(sys.argv[2])
    reader = gguf.GGUFReader(source)

    def field(name):
        return reader.fields[name].contents()

    if field("general.architecture") != "llama":
        sys.exit(f"gguf_checkpoint.py: {source} is no llama model")
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            values = in_order(values, heads if ".attn_q." in tensor.name else kv_heads)
        tensors[checkpoint_name(tensor.name)] = bf16(values)
    target.mkdir(parents=True, exist_ok=True)
    write_safetensors(target / "model.safetensors", tensors)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
              "num_hidden_layers": field("llama.block_count"), "hidden_size": field("llama.embedding_length"),
              "intermediate_size": field("llama.feed_forward_length"), "num_attention_heads": heads,
              "num_key_value_heads": kv_heads, "head_dim": field("llama.rope.dimension_count"),
              "vocab_size": field("llama.vocab_size"), "max_position_embeddings": field("llama.context_length"),
              "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
              "rope_theta": field("llama.rope.freq_base"), "tie_word_embeddings": "lm_head.weight" not in tensors,
              "bos_token_id": field("tokenizer.ggml.bos_token_id"), "eos_token_id": field("tokenizer.ggml.eos_token_id")}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_tokenizer(target / "tokenizer.json", field)


if __name__ == "__main__":
    main()
