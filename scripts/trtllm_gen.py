#!/usr/bin/env python3
"""NVIDIA's decode kernels for Blackwell GPUs (trtllm-gen), as FlashInfer publishes them on PyPI. Nothing of them is part of
this program.
    trtllm_gen.py unpack WHEEL FOLDER    the kernels that --kernels trtllm-gen may take, out of flashinfer_cubin-VERSION.whl:
                                         their machine code, each held to its sha256, and kernels.csv, what each is
    trtllm_gen.py launches CUBINS HEADERS    prints what the launcher in these two wheels does for some cases
                                         (trtllm_gen_launches.cpp): what tests hold ours to
    trtllm_gen.py layout WHEEL           prints how the compiler ($NVCC, nvcc) lays out their parameter in
                                         flashinfer_python-VERSION.whl: field,offset,bytes
scripts/install_deps.sh trtllm-gen downloads the wheel and unpacks it into build/trtllm-gen."""
import csv
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

FIELDS = """dtype_q dtype_kv dtype_k dtype_v dtype_o tile_q tile_kv step_q step_kv v_dim_per_block head_dim v_dim sm cubin
cubin_bytes function shared_bytes threads layout tokens_per_page mask type persistent split sage_q sage_k sage_p sage_v
groups_heads groups_tokens reuses_k two_blocks sparse skips_softmax reserved1 reserved2 sha256""".split()
TYPES = {"DATA_TYPE_BF16": "bf16", "DATA_TYPE_E4M3": "fp8"}
COLUMNS = """function sha256 q kv head_dim v_dim v_dim_per_block tile_q tile_kv step_kv tokens_per_page type split persistent
causal groups_tokens two_blocks shared_bytes threads""".split()
PAGED, DENSE, CAUSAL = "2", "0", "1"
GENERATION = ("2", "3")


def kernels(header):
    """The lines of flashInferMetaInfo.h."""
    for line in header.splitlines():
        if line.startswith("{ DATA_TYPE"):
            values = [value.strip().strip('"') for value in line.strip().rstrip(",").strip("{}").split(",")]
            if len(values) != len(FIELDS):
                sys.exit(f"trtllm_gen.py: a kernel has {len(values)} properties, not {len(FIELDS)}: another version")
            yield dict(zip(FIELDS, values))


def taken(k):
    """May a step of ours take it? Rows of one token each over a paged cache, queries and outputs of bf16."""
    shape = (k["head_dim"], k["v_dim"])
    if (k["layout"], k["type"] in GENERATION, k["sm"]) != (PAGED, True, "kSM_100f") or k["dtype_k"] not in TYPES:
        return False
    if any(k[name] != "0" for name in ("sage_q", "sage_k", "sage_p", "sage_v", "sparse")) or k["skips_softmax"] == "true":
        return False
    if (k["dtype_q"], k["dtype_o"], k["dtype_v"]) != ("DATA_TYPE_BF16", "DATA_TYPE_BF16", k["dtype_k"]):
        return False
    if k["tokens_per_page"] != "32" or k["tile_kv"] != "128" or k["groups_heads"] != "true" or k["reuses_k"] == "true":
        return False
    if k["step_q"] != k["tile_q"]:
        return False
    latent = shape == ("576", "512")
    same = k["dtype_k"] == k["dtype_q"]
    # GQA's hide what follows on a row's token, be they called dense: nothing where it is the last one.
    return k["mask"] == (DENSE if latent else CAUSAL) and (
        latent and same or shape[0] == shape[1] and shape[0] in ("64", "128", "256"))


def row(k):
    flag = {"true": "1", "false": "0"}
    return {**k, "q": TYPES[k["dtype_q"]], "kv": TYPES[k["dtype_k"]], "causal": str(int(k["mask"] == CAUSAL)),
            "groups_tokens": flag[k["groups_tokens"]], "two_blocks": flag[k["two_blocks"]]}


def unpack(wheel, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        names = {pathlib.PurePosixPath(name).name: name for name in archive.namelist() if "/fmha/trtllm-gen/" in name}
        chosen = [k for k in kernels(archive.read(names["flashInferMetaInfo.h"]).decode()) if taken(k)]
        for k in chosen:
            code = archive.read(names[k["function"] + ".cubin"])
            if hashlib.sha256(code).hexdigest() != k["sha256"]:
                sys.exit(f"trtllm_gen.py: {k['function']} is not what the list says: its sha256 differs")
            (folder / (k["function"] + ".cubin")).write_bytes(code)
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(row(k) for k in sorted(chosen, key=lambda k: k["function"]))
    (folder / "LICENSE.txt").write_text(
        "Kernels by NVIDIA, from the package flashinfer-cubin, which states the Apache License 2.0\n"
        "(https://www.apache.org/licenses/LICENSE-2.0).\n")
    (folder / "kernels.csv").write_text(text.getvalue())  # last: a folder with it is whole
    print(f"{len(chosen)} kernels in {folder}")


def fields(header):
    """The names of KernelParams' members, in their order."""
    body = header[header.index("struct KernelParams {"):header.index("// Create the TMA shape/stride for Q.")]
    body = re.sub(r"//[^\n]*", "", body).split("{", 1)[1]
    names = []
    for statement in body.split(";"):
        statement = re.sub(r"\{[^}]*\}", "", statement).replace("*", " ").strip()
        if statement:
            names += [name.split()[-1] for name in statement.split(",")]
    return names


def compiled(source, data, program, *more):
    """Compiles against the headers in a wheel's `data`."""
    includes = [f"-I{data / path}" for path in ("include", "cutlass/include", "cccl/libcudacxx/include", "csrc",
                                                "csrc/nv_internal", "csrc/nv_internal/include", "spdlog/include")]
    subprocess.run([os.environ.get("NVCC", "nvcc"), "-std=c++17", "-w", "-x", "cu", *includes, *more, source, "-o", program],
                   check=True)


def cases():
    """mla kv_heads q_heads dim v_dim fp8 requests most_tokens multiprocessors pages table_width clusters"""
    for heads in ("0 8 64 128 128 0", "0 1 8 128 128 0", "0 1 1 64 64 0", "0 2 24 64 64 0", "0 1 17 128 128 0",
                  "0 1 64 128 128 0", "0 1 128 256 256 0", "0 4 20 256 256 0", "0 8 64 128 128 1", "0 1 8 64 64 1",
                  "0 2 32 256 256 1", "1 1 8 576 512 0", "1 1 16 576 512 0", "1 1 32 576 512 0", "1 1 64 576 512 0",
                  "1 1 128 576 512 0"):
        for requests, tokens, multiprocessors, clusters in ((1, 200, 148, 148), (1, 40000, 148, 148), (3, 5000, 148, 148),
                                                            (16, 3000, 140, 2), (64, 1000000, 148, 148), (300, 1, 148, 148)):
            width = -(-tokens // 256) * 8 + 8
            yield f"{heads} {requests} {tokens} {multiprocessors} {requests * width} {width} {clusters}"


def launches(cubins, wheel):
    with tempfile.TemporaryDirectory() as scratch:
        for archive in (cubins, wheel):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(scratch, [name for name in opened.namelist() if not name.endswith(".cubin")])
        program = pathlib.Path(scratch) / "launches"
        listed = next(pathlib.Path(scratch).glob("**/flashInferMetaInfo.h")).parent
        compiled(pathlib.Path(__file__).with_name("trtllm_gen_launches.cpp"), pathlib.Path(scratch) / "flashinfer" / "data",
                 program, f"-I{listed}", '-DTLLM_GEN_FMHA_CUBIN_PATH="."', '-DTLLM_GEN_FMHA_METAINFO_HASH="."')
        done = subprocess.run([program], input="\n".join(cases()), check=True, stdout=subprocess.PIPE, text=True)
        lines = csv.reader(done.stdout.splitlines())
        print("case,function,grid,threads,cluster,shared_bytes,parameter,maps")
        for line in lines:
            line[6] = words(line[6])
            print(",".join(line))


def words(parameter):
    """Those 8 bytes that are not zero, behind the tensor maps: offset=value, hexadecimal."""
    pieces = [(at // 2, parameter[at:at + 16]) for at in range(0, len(parameter), 16)]
    return " ".join(f"{at}={piece}" for at, piece in pieces if piece.strip("0"))


def layout(wheel):
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        data = pathlib.Path(scratch) / "flashinfer" / "data"
        names = fields((data / "include/flashinfer/trtllm/fmha/kernelParams.h").read_text())
        lines = "".join(f'  printf("{n},%zu,%zu\\n", offsetof(KernelParams, {n}), sizeof(KernelParams::{n}));\n' for n in names)
        source = pathlib.Path(scratch) / "layout.cu"
        source.write_text("#include <cstddef>\n#include <cstdio>\n#include <flashinfer/trtllm/fmha/kernelParams.h>\n"
                          f'int main() {{\n  printf("field,offset,bytes\\n");\n{lines}'
                          '  printf("KernelParams,0,%zu\\n", sizeof(KernelParams));\n}\n')
        compiled(source, data, source.with_suffix(""))
        sys.stdout.write(subprocess.run([source.with_suffix("")], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["unpack"] and len(sys.argv) == 4:
        unpack(*sys.argv[2:])
    elif sys.argv[1:2] == ["launches"] and len(sys.argv) == 4:
        launches(*sys.argv[2:])
    elif sys.argv[1:2] == ["layout"] and len(sys.argv) == 3:
        layout(sys.argv[2])
    else:
        sys.exit(__doc__)
