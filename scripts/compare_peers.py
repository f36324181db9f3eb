#!/usr/bin/env python3
"""Times PyTorch's CPU attention and matrix products, and ONNX Runtime's attention, beside helix-microbench; prints a
Markdown table.

    compare_peers.py --install     once: both from PyPI into build/peers-venv (5 GB: PyTorch's CUDA libraries come along)
    compare_peers.py [--filter TEXT] [--threads N] [--rounds N] [--lock FILE]

One decode step's work with bf16 data that no cache holds: all sides rotate over 1.5 GiB. They take turns for every
shape, and the table has the median over the rounds of each round's median.

PyTorch's time is that of its fastest formulation, which the table names:
  gqa       scaled_dot_product_attention(enable_gqa=True), one query token, K and V as [heads, tokens, dim]
  folded    the same with a group's query heads as query tokens of its KV head, which reads K and V once
  composed  softmax(q k^T) v of two matrix products, which is how MLA is written: K and V share their memory
  linear    torch.nn.functional.linear
ONNX Runtime's is that of com.microsoft.GroupQueryAttention, which its CPU provider has in fp32 and fp16, not in bf16;
the new token's K and V are appended in place, as with helix. It has nothing for MLA.
"""
import argparse
import contextlib
import datetime
import fcntl
import functools
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "build/peers-venv"
VENV_PYTHON = VENV / "bin/python"
MICROBENCH = ROOT / "build/release/bin/helix-microbench"
COLD_BYTES = 3 << 29

# Named as in bench/micro/bench_attention.cpp: query heads, KV heads, width of K and of V, tokens.
ATTENTION = [
    ("llama_3_2_1b", 32, 8, 64, 64, 4096),
    ("llama_3_2_1b", 32, 8, 64, 64, 65536),
    ("llama_3_1_8b", 32, 8, 128, 128, 65536),
    ("group_16", 16, 1, 128, 128, 65536),
    ("mla_16_heads", 16, 1, 576, 512, 65536),
    ("mla_128_heads", 128, 1, 576, 512, 65536),
]
# Outputs and inputs of a matrix.
LINEAR = [
    ("Llama-3.2-1B qkv", 3072, 2048),
    ("Llama-3.2-1B gate+up", 16384, 2048),
    ("Llama-3.2-1B down", 2048, 8192),
    ("DeepSeek-V2-Lite latent", 576, 2048),
    ("DeepSeek-V2-Lite expert gate+up", 2816, 2048),
    ("DeepSeek-V2-Lite expert down", 2048, 1408),
]
TOKENS = [1, 4, 16, 64]


def install():
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV_PYTHON, "-m", "pip", "install", "--quiet", "torch", "onnx", "onnxruntime"], check=True)


def median_us(call, operands, seconds):
    """Median time of call(operand) over the operands in turn, for at least three calls and `seconds`."""
    times = []
    call(operands[0])
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        operand = operands[(len(times) + 1) % len(operands)]
        start = time.perf_counter()
        call(operand)
        times.append(1e6 * (time.perf_counter() - start))
    return statistics.median(times)


def helix_medians(cases):
    """{case: counters} of the micro-benchmarks with exactly these names."""
    pattern = "^(" + "|".join(re.escape(case) for case in cases) + ")(/|$)"
    run = subprocess.run([MICROBENCH, f"--benchmark_filter={pattern}", "--benchmark_format=json"], check=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found = {}
    for result in json.loads(run.stdout)["benchmarks"]:
        found[next(case for case in cases if (result["name"] + "/").startswith(case + "/"))] = result
    missing = [case for case in cases if case not in found]
    if missing:
        sys.exit(f"compare_peers.py: {MICROBENCH.name} has no case {missing[0]}")
    return found


@contextlib.contextmanager
def exclusive(path):
    if path is None:
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Torch:
    """PyTorch's formulations of an op, each over operands that rotate through one block of memory."""

    def __init__(self, threads):
        warnings.filterwarnings("ignore", "Failed to initialize NumPy")
        import torch
        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.memory = torch.empty(COLD_BYTES // 2, dtype=torch.bfloat16).uniform_(-1, 1)

    def stretches(self, *shapes):
        """Tuples of tensors of these shapes, until the memory is used up."""
        sizes = [rows * cols for rows, cols in shapes]
        for begin in range(0, self.memory.numel() - sum(sizes) + 1, sum(sizes)):
            parts = self.memory[begin:begin + sum(sizes)].split(sizes)
            yield tuple(part.view(shape) for part, shape in zip(parts, shapes))

    def attention(self, q_heads, kv_heads, head_dim, v_dim, tokens):
        torch = self.torch
        sdpa = torch.nn.functional.scaled_dot_product_attention
        q = torch.randn(1, q_heads, 1, head_dim, dtype=torch.bfloat16)
        if head_dim != v_dim:
            scale = head_dim ** -0.5
            rows = [kv for kv, in self.stretches((tokens, head_dim))]
            q = q.view(q_heads, head_dim)
            return {"composed": (lambda kv: torch.softmax(scale * (q @ kv.T), -1) @ kv[:, :v_dim], rows)}
        caches = [tuple(part.view(1, kv_heads, tokens, head_dim) for part in pair)
                  for pair in self.stretches(*[(kv_heads * tokens, head_dim)] * 2)]
        folded = q.view(1, kv_heads, q_heads // kv_heads, head_dim)
        return {"gqa": (lambda kv: sdpa(q, *kv, enable_gqa=True), caches),
                "folded": (lambda kv: sdpa(folded, *kv), caches)}

    def linear(self, m, n, k):
        x = self.torch.randn(m, k, dtype=self.torch.bfloat16)
        weights = [w for w, in self.stretches((n, k))]
        return {"linear": (lambda w: self.torch.nn.functional.linear(x, w), weights)}


class Onnx:
    """ONNX Runtime's attention of one token, its caches being as large as COLD_BYTES together."""

    def __init__(self, threads):
        import numpy
        import onnx
        import onnxruntime
        self.numpy, self.onnx, self.runtime = numpy, onnx, onnxruntime
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads

    def attention(self, q_heads, kv_heads, dim, tokens, dtype):
        """(call, operands) as median_us takes them."""
        helper, numpy = self.onnx.helper, self.numpy
        element = helper.np_dtype_to_tensor_dtype(numpy.dtype(dtype))
        shapes = {"query": [1, 1, q_heads * dim], "key": [1, 1, kv_heads * dim], "value": [1, 1, kv_heads * dim],
                  "past_key": [1, kv_heads, tokens, dim], "past_value": [1, kv_heads, tokens, dim]}
        info = helper.make_tensor_value_info
        lengths = {"seqlens_k": numpy.array([tokens - 1], numpy.int32),  # less one
                   "total_sequence_length": numpy.array(tokens, numpy.int32)}
        inputs = [info(name, element, shape) for name, shape in shapes.items()]
        inputs += [info(name, self.onnx.TensorProto.INT32, array.shape) for name, array in lengths.items()]
        outputs = {"output": shapes["query"], "present_key": shapes["past_key"], "present_value": shapes["past_value"]}
        node = helper.make_node("GroupQueryAttention", [value.name for value in inputs], list(outputs),
                                domain="com.microsoft", num_heads=q_heads, kv_num_heads=kv_heads)
        graph = helper.make_graph([node], "attention", inputs, [info(name, element, shape)
                                                               for name, shape in outputs.items()])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        session = self.runtime.InferenceSession(model.SerializeToString(), self.options,
                                                providers=["CPUExecutionProvider"])

        def random(shape):
            values = numpy.random.default_rng(0).random(shape, dtype=numpy.float32)
            return self.runtime.OrtValue.ortvalue_from_numpy((2 * values - 1).astype(dtype))

        def operands():
            bound = session.io_binding()
            for name, array in lengths.items():
                bound.bind_cpu_input(name, array)
            for name, shape in shapes.items():
                value = random(shape)
                bound.bind_ortvalue_input(name, value)
                if name.startswith("past"):  # appended to in place
                    bound.bind_ortvalue_output(name.replace("past", "present"), value)
            bound.bind_output("output")
            return bound

        cache_bytes = 2 * kv_heads * tokens * dim * numpy.dtype(dtype).itemsize
        return session.run_with_iobinding, [operands() for _ in range(max(2, COLD_BYTES // cache_bytes))]


class Row:
    """One line of the table: what is compared, and the samples taken so far."""

    def __init__(self, name, case, torch, onnx=None):
        self.name, self.case, self.torch, self.onnx = name, case, torch, onnx or {}
        self.torch_us = {formulation: [] for formulation in torch}
        self.onnx_us = {dtype: [] for dtype in self.onnx}
        self.helix = []

    def sample_peers(self, seconds):
        for formulation, (call, operands) in self.torch.items():
            self.torch_us[formulation].append(median_us(call, operands, seconds))
        for dtype, operands_of in self.onnx.items():
            self.onnx_us[dtype].append(median_us(*operands_of(), seconds))

    def fastest_torch(self):
        """(median us, formulation)"""
        return min((statistics.median(us), formulation) for formulation, us in self.torch_us.items())

    def onnx_text(self):
        return ", ".join(f"{statistics.median(us):.0f} ({dtype})" for dtype, us in self.onnx_us.items()) or "-"

    def helix_median(self, counter):
        return statistics.median(result[counter] for result in self.helix)

    def ratio(self):
        return self.helix_median("median_us") / self.fastest_torch()[0]

    def text(self):
        torch_us, formulation = self.fastest_torch()
        return (f"| {self.name} | {self.helix_median('median_us'):.0f} | {torch_us:.0f} ({formulation}) "
                f"| {self.onnx_text()} | {self.ratio():.2f} | {self.helix_median('roofline_fraction'):.2f} |")


def groups(torch, onnx, threads):
    """Lists of rows; the rows of a group are timed in one helix process."""
    for name, q_heads, kv_heads, head_dim, v_dim, tokens in ATTENTION:
        widths = f"{head_dim}" if head_dim == v_dim else f"{head_dim}/{v_dim}"
        of_onnx = {label: functools.partial(onnx.attention, q_heads, kv_heads, head_dim, tokens, dtype)
                   for label, dtype in [("fp32", "float32"), ("fp16", "float16")] if head_dim == v_dim}
        yield [Row(f"attention, {q_heads} query / {kv_heads} KV heads of {widths}, {tokens} tokens",
                   f"attention/{name}/bf16/tokens:{tokens}/threads:{threads}",
                   torch.attention(q_heads, kv_heads, head_dim, v_dim, tokens), of_onnx)]
    for name, n, k in LINEAR:
        yield [Row(f"{name} [{n}, {k}], M = {m}", f"linear/bf16/n:{n}/k:{k}/m:{m}/threads:{threads}",
                   torch.linear(m, n, k)) for m in TOKENS]


def cpu_name():
    with open("/proc/cpuinfo") as cpuinfo:
        return next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), platform.machine())


def compare(given):
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True)
    torch, onnx = Torch(given.threads), Onnx(given.threads)
    rows = []
    for group in groups(torch, onnx, given.threads):
        group = [row for row in group if given.filter in row.name]
        for _ in range(given.rounds if group else 0):
            with exclusive(given.lock):
                for row in group:
                    row.sample_peers(seconds=0.2)
                results = helix_medians([row.case for row in group])
            for row in group:
                row.helix.append(results[row.case])
        rows += group
    if not rows:
        sys.exit(f"compare_peers.py: no row's name contains '{given.filter}'")

    kernels = ", ".join(sorted({result["label"] for row in rows for result in row.helix}))
    print(f"{cpu_name()}, {given.threads} threads, {datetime.date.today()}; helix-bench {commit.stdout.strip()} "
          f"({kernels}), PyTorch {torch.torch.__version__}, ONNX Runtime {onnx.runtime.__version__}; "
          f"median of {given.rounds} rounds, bf16 unless said otherwise, cold data.\n")
    print("| op | helix us | PyTorch us (formulation) | ONNX Runtime us | helix / PyTorch time "
          "| helix roofline_fraction |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(row.text())
    ratios = [row.ratio() for row in rows]
    print(f"\nGeometric mean of the time ratios: {statistics.geometric_mean(ratios):.2f}; "
          f"helix is faster in {sum(ratio < 1 for ratio in ratios)} of {len(ratios)} rows.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="install the peers into build/peers-venv first")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--filter", default="", help="only rows whose name contains this text")
    parser.add_argument("--lock", type=pathlib.Path, help="take turns with other measurements that lock this file")
    given = parser.parse_args()
    if given.install:
        install()
    if not VENV_PYTHON.exists():
        sys.exit("compare_peers.py: the peers are not installed; --install puts them from PyPI into build/peers-venv (5 GB)")
    if not MICROBENCH.exists():
        sys.exit("compare_peers.py: build first: cmake --preset release && cmake --build --preset release")
    if not VENV.samefile(sys.prefix):
        os.execv(VENV_PYTHON, [VENV_PYTHON, *(a for a in sys.argv if a != "--install")])
    compare(given)


if __name__ == "__main__":
    main()
