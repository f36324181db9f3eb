#!/usr/bin/env python3
"""What the attention kernels ask of a GPU's issue slots, counted in their machine code.

usage: kernel_report.py OBJECT [--cuobjdump PROGRAM] [--held-to FILE]
       e.g. kernel_report.py build/ci-cuda/kernels/CMakeFiles/helix_kernels_cuda.dir/cuda/attention_ops.cu.o

A decode kernel's loop over tiles of the KV cache is found in the control flow of each instance, and in it the shortest way
that does all its copies, loads and products: what a warp issues for a tile that all rows attend and that has no new
largest score; going on to the next page, a few instructions more, is not in it. From the bytes of that tile follows how
many instructions a scheduler must issue in a cycle, so that the kernel reads the cache as fast as the DRAM gives it. One is
the most that there are; about 0.5 can be had with 8 warps a multiprocessor.

cuobjdump and nvdisasm are of the CUDA toolkit, and of PyPI (nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm:
`scripts/install_deps.sh disassemble`); without them the exit status is 77. With --held-to, a file that has the table, it
fails where a kernel is not in it, or takes a tenth more or less than there.
"""
import argparse
import collections
import heapq
import os
import pathlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

# Of the data sheets: bytes/s of DRAM, multiprocessors, dense bf16 FLOP/s, and FLOPs of one multiprocessor in a cycle, which
# give the clock that the data sheet means.
GPUS = {"sm_90a": ("H200", 4.8e12, 132, 989e12, 4096), "sm_100a": ("B200", 8e12, 148, 2250e12, 8192)}
SCHEDULERS = 4  # of a multiprocessor

DTYPES = {1: "bf16", 2: "fp8", 3: "nvfp4"}  # values of helix::DType
# One tile of 16 tokens x 64 dims (kernels/cuda/attention/kv_layout.cuh): its bytes, and the ldmatrix that it takes.
TILE_BYTES = {"bf16": 2048, "fp8": 1024, "nvfp4": 576}
TILE_LOADS = {"bf16": 4, "fp8": 2, "nvfp4": 1}

WORK = {"copy": re.compile(r"LDGSTS|UBLKCP"), "k": re.compile(r"LDSM\.16\.M88\.4"), "v": re.compile(r"LDSM\.16\.MT88\.4"),
        "product": re.compile(r"HMMA|QMMA")}


@dataclass
class Kernel:
    """An instance of a decode kernel: what a warp does in one turn of its loop."""
    name: str
    dtype: str
    tile_bytes: float  # that it copies
    k_loads: int       # ldmatrix of K and V
    v_loads: int


def kernel_of(mangled):
    """The decode kernel of a mangled name, or None."""
    found = re.search(r"(gqa|mla)_decodeILNS_5DTypeE(\d)ELi(\d+)ELi(\d)E(?:Li(\d)E)?E", mangled)
    if not found:
        return None
    kind, dtype = found[1], DTYPES[int(found[2])]
    a, b = int(found[3]), int(found[4])
    loads, tile = TILE_LOADS[dtype], TILE_BYTES[dtype]
    if kind == "gqa":  # <dtype, head dim, tiles of 8 heads, warps>: a warp has a tile of tokens, K and V
        parts = a // 64
        return Kernel(f"GQA d{a}, {8 * b} heads, {dtype}", dtype, 2 * parts * tile, parts * loads, parts * loads)
    # <dtype, heads, tiles of tokens, warps that share one>: a row has 9 tiles, of which 8 are V, shared by all warps
    share = int(found[5])
    warps = share * b
    return Kernel(f"MLA {a} heads, {16 * b} tokens, {dtype}", dtype, 9 * tile / share, 9 * loads, b * (8 // warps) * loads)


@dataclass
class Block:
    """Instructions that are issued one after the other."""
    begin: int
    instructions: list = field(default_factory=list)
    next: list = field(default_factory=list)

    def work(self, kind):
        return sum(bool(WORK[kind].search(i)) for i in self.instructions)

    def works(self):
        return any(self.work(kind) for kind in WORK)


LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;")


def blocks_of(listing):
    """The control flow of a function's listing: blocks by their first address."""
    code = [(int(m[1], 16), m[2]) for m in map(LINE.match, listing) if m]
    jump = re.compile(r"^(@!?U?P\w+ )?(?:BRA(?:\.\w+)*|BREAK) .*?(0x[0-9a-f]+)")
    targets = {int(m[2], 16) for _, text in code if (m := jump.match(text))}
    blocks, current = {}, None
    for at, text in code:
        if current is None or at in targets:
            if current is not None:
                current.next.append(at)
            current = blocks[at] = Block(at)
        current.instructions.append(text)
        m = jump.match(text)
        ends = re.match(r"^(EXIT|RET|BRX|JMX)", text)
        if not m and not ends:
            continue
        if m:
            current.next.append(int(m[2], 16))
        if m and (m[1] or "U" in text.split()[0]) or text.startswith("@") and ends:
            current.next.append(at + 16)
        current = None
    for block in blocks.values():
        block.next = [b for b in dict.fromkeys(block.next) if b in blocks]
    return blocks


def components(blocks, inside, but_into=None):
    """Strongly connected components of the blocks `inside`, in which edges into `but_into` do not count; an order in which
    edges go forward."""
    index, low, stack, on, found, count = {}, {}, [], set(), [], 0
    for root in inside:
        if root in index:
            continue
        work = [(root, iter(blocks[root].next))]
        index[root] = low[root] = count = count + 1
        stack.append(root)
        on.add(root)
        while work:
            at, rest = work[-1]
            for to in rest:
                if to not in inside or to == but_into:
                    continue
                if to not in index:
                    index[to] = low[to] = count = count + 1
                    stack.append(to)
                    on.add(to)
                    work.append((to, iter(blocks[to].next)))
                    break
                if to in on:
                    low[at] = min(low[at], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    part = []
                    while not part or part[-1] != at:
                        part.append(stack.pop())
                        on.discard(part[-1])
                    found.append(part)
    return found[::-1]


def is_loop(blocks, part):
    return len(part) > 1 or part[0] in blocks[part[0]].next


def entry_of(blocks, part):
    """The block by which a loop is entered from outside."""
    members = set(part)
    return next(b for b in sorted(part) for a, block in blocks.items() if a not in members and b in block.next)


def shortest(blocks, part, entry, left):
    """Instructions of one turn of a loop: the shortest way from its entry back to it by all blocks that do work. `left`:
    ldmatrix of K and V that inner loops have still to do in all their turns."""
    parts = components(blocks, set(part), but_into=entry)
    place = {b: i for i, p in enumerate(parts) for b in p}
    weight, must = {}, []
    for i, inner in enumerate(parts):
        works = any(blocks[b].works() for b in inner)
        if is_loop(blocks, inner) and not (len(inner) == 1 and inner[0] == entry):
            loads = {kind: sum(blocks[b].work(kind) for b in inner) for kind in ("k", "v")}
            kind = "k" if loads["k"] else "v"
            turns = left[kind] / loads[kind] if loads[kind] else 1
            door = entry_of(blocks, inner)
            weight[i] = turns * shortest(blocks, inner, door, left)
        else:
            weight[i] = sum(len(blocks[b].instructions) for b in inner)
        if works:
            must.append(i)
    edges = collections.defaultdict(set)
    last = set()
    for b in part:
        for to in blocks[b].next:
            if to == entry:
                last.add(place[b])
            elif to in place and place[to] != place[b]:
                edges[place[b]].add(place[to])

    def way(start, goals):
        best, queue = {start: 0}, [(0, start)]
        while queue:
            length, at = heapq.heappop(queue)
            if at in goals:
                return length, at
            for to in edges[at]:
                if length + weight[to] < best.get(to, float("inf")):
                    best[to] = length + weight[to]
                    heapq.heappush(queue, (best[to], to))
        return None

    at = place[entry]
    total = weight[at]
    for goal in sorted(must):
        step = way(at, {goal})
        if step is None:  # another way to do what is done already
            continue
        total, at = total + step[0], step[1]
    step = way(at, last)
    return total + (step[0] if step else 0)


def issued(blocks, kernel):
    """Instructions that a warp issues for a turn of the loop over tiles: the one with products that holds all K loads."""
    loops = [p for p in components(blocks, set(blocks)) if is_loop(blocks, p)
             and any(blocks[b].work("product") for b in p) and any(blocks[b].work("v") for b in p)]
    assert len(loops) == 1, f"{len(loops)} loops over tiles"
    loop = loops[0]
    entry = entry_of(blocks, loop)
    inner = {b for p in components(blocks, set(loop), but_into=entry) if is_loop(blocks, p) for b in p}
    left = {}
    for kind, loads in (("k", kernel.k_loads), ("v", kernel.v_loads)):
        left[kind] = loads - sum(blocks[b].work(kind) for b in loop if b not in inner)
    return shortest(blocks, loop, entry, left)


def needed(arch, kernel, instructions):
    """Instructions a cycle and scheduler, at the DRAM's data sheet bandwidth."""
    _, bandwidth, multiprocessors, flops, per_cycle = GPUS[arch]
    clock = flops / (multiprocessors * per_cycle)
    tiles_per_cycle = bandwidth / kernel.tile_bytes / (multiprocessors * SCHEDULERS) / clock
    return instructions * tiles_per_cycle


def listings(cuobjdump, path):
    """(arch, mangled name, lines) of each function."""
    nvdisasm = os.path.dirname(os.path.abspath(cuobjdump))
    run = subprocess.run([cuobjdump, "-sass", path], capture_output=True, text=True,
                         env={**os.environ, "PATH": nvdisasm + os.pathsep + os.environ.get("PATH", "")})
    if run.returncode != 0:
        sys.exit(f"kernel_report.py: cuobjdump cannot read {path}: {run.stderr.strip()}")
    arch, name, lines = None, None, []
    for line in run.stdout.splitlines():
        if found := re.match(r"^\s*(arch = |Function : )(\S+)", line):
            if name:
                yield arch, name, lines
            arch, name, lines = (found[2], None, []) if found[1].startswith("arch") else (arch, found[2], [])
        elif name:
            lines.append(line)
    if name:
        yield arch, name, lines


def find_cuobjdump():
    in_venv = sorted(pathlib.Path(__file__).resolve().parent.parent.glob(
        ".venv/lib/python3*/site-packages/nvidia/cu*/bin/cuobjdump"))
    for path in [shutil.which("cuobjdump"), *in_venv]:
        if path and shutil.which("nvdisasm", path=os.path.dirname(path)):
            return str(path)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object")
    parser.add_argument("--cuobjdump", default=find_cuobjdump())
    parser.add_argument("--held-to", metavar="FILE", help="has the table as it was printed")
    arguments = parser.parse_args()
    if arguments.cuobjdump is None:
        print("kernel_report.py: no cuobjdump with an nvdisasm beside it; `scripts/install_deps.sh disassemble` installs them",
              file=sys.stderr)
        sys.exit(77)
    rows = {}
    for arch, mangled, lines in listings(arguments.cuobjdump, arguments.object):
        kernel = kernel_of(mangled)
        if kernel is None or arch not in GPUS:
            continue
        instructions = round(issued(blocks_of(lines), kernel))
        # Of blocks with 4 and with 8 warps, the one that issues more.
        row = (instructions, kernel.tile_bytes, needed(arch, kernel, instructions))
        rows[arch, kernel.name] = max(rows.get((arch, kernel.name), row), row)
    if not rows:
        sys.exit(f"kernel_report.py: no decode kernel in {arguments.object}")
    print("| GPU | kernel | instructions a tile | its bytes | needed a cycle and scheduler |\n|---|---|---|---|---|")
    for (arch, name), (instructions, tile_bytes, ipc) in sorted(rows.items()):
        print(f"| {GPUS[arch][0]} | {name} | {instructions} | {tile_bytes:.0f} | {ipc:.2f} |")
    if arguments.held_to is None:
        return
    held = {(m[1], m[2]): int(m[3]) for m in
            re.finditer(r"^\| (\w+) \| (.*?) \| (\d+) \|", pathlib.Path(arguments.held_to).read_text(), re.M)}
    faults = 0
    for (arch, name), (instructions, *_) in sorted(rows.items()):
        there = held.get((GPUS[arch][0], name))
        if there is None or abs(instructions / there - 1) > 0.1:
            faults += 1
            print(f"kernel_report.py: {GPUS[arch][0]}, {name}: {instructions} instructions a tile, and "
                  f"{there or 'no row'} in {arguments.held_to}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
