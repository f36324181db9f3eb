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
import pathlib
import shutil
import sys
import tempfile

import safetensors
import safetensors.torch
import torch
import transformers

from cases import CASES
from storage import store

HERE = pathlib.Path(__file__).resolve().parent
PROMPT, GENERATED = 18, 6
REAL_FP32 = torch.float32


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
