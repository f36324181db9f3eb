"""How a checkpoint stores its tensors: in bf16, fp16 or fp32, in fp8, in NVFP4, in one file or several."""
import json

import safetensors.torch
import torch

BLOCK = 16  # of block-wise fp8: small, that the small matrices have several
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


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
