#!/usr/bin/env python3
"""What the CUDA kernels need of a multiprocessor, as ptxas reports it: registers, spills, static shared memory.

usage: kernel_resources.py NVCC SOURCE_DIR ARCH [ARCH ...]      e.g. nvcc . sm_90a

Compiles every *.cu under kernels/cuda and prints one line for each kernel. Fails if a kernel spills registers to
memory or if its block, by __launch_bounds__, would not fit the register file.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

REPORT = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'\n"
    r".*Function properties for .*\n"
    r"\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
    r".*Used (?P<registers>\d+) registers(?P<rest>.*)")


def short(name):
    """gqa_decode<1, 64, 2> of the mangled name: the last identifier of the nested name and its numbers."""
    parts, at = [], name.find("N") + 1 if name.startswith("_ZN") else 2
    while match := re.match(r"\d+", name[at:]):
        at += match.end()
        parts.append(name[at:at + int(match.group())])
        at += int(match.group())
    arguments = re.findall(r"L(?:\w*?E|i|j|b)(\d+)E", name[at:].split("EvN")[0] + "E") if name[at:at + 1] == "I" else []
    return parts[-1] + (f"<{', '.join(arguments)}>" if arguments else "")


def main():
    nvcc, source_dir, archs = sys.argv[1], sys.argv[2], sys.argv[3:]
    folder = os.path.join(source_dir, "kernels", "cuda")
    sources = sorted(pathlib.Path(folder).rglob("*.cu"))
    kernels = faults = 0
    for arch in archs:
        for source in sources:
            with tempfile.TemporaryDirectory() as scratch:
                run = subprocess.run(
                    [nvcc, "-std=c++20", f"-arch={arch}", "--expt-relaxed-constexpr", "-I", source_dir, "-cubin",
                     "-Xptxas", "-v,-Werror", "-o", os.path.join(scratch, "cubin"), str(source)],
                    capture_output=True, text=True)
            if run.returncode != 0:
                sys.exit(f"{source.name} for {arch} does not compile:\n{run.stderr}")
            for kernel in REPORT.finditer(run.stderr):
                kernels += 1
                shared = re.search(r"(\d+) bytes smem", kernel["rest"])
                spilled = int(kernel["stores"]) + int(kernel["loads"])
                faults += spilled > 0
                print(f"{arch:8} {source.name:20} {short(kernel['name']):32} {kernel['registers']:>4} registers "
                      f"{spilled:>5} B spilled {shared[1] if shared else 0:>6} B static shared")
    if kernels == 0:
        sys.exit(f"no kernel found in {folder}")
    print(f"{kernels} kernels, {faults} of them spill")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
