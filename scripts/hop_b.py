#!/usr/bin/env python3
"""How much of the all-to-all HOP-B hides over a link that is slow for real: two ranks on this machine, each on a core and in
a network namespace of its own, MPI over TCP, the link's rate limited by tc. Prints a table; docs/kernels.md has one.
Needs root; ends with 77, saying why, where namespaces or tc are not to be had."""
import argparse
import csv
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from two_nodes import TwoNodes

# Wide heads on a narrow model: of what a rank sends, most is the all-to-all. 32 requests x 16 heads x 128 bf16 values are
# 128 KiB a layer, 10 ms at 100 Mbit/s, and attention over 2048 tokens a rank takes about as long on one core.
MODEL = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 256,
         "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 256, "rms_norm_eps": 1e-5,
         "rope_theta": 10000.0, "max_position_embeddings": 131072, "tie_word_embeddings": False}


def limit_rate(nodes, rate):
    for space, link in zip(nodes.spaces, nodes.links):
        # A burst of one packet: what an idle link may save up would carry pieces that are far enough apart for nothing,
        # overlapped or not. Bytes wait in the queue, however many: none is dropped.
        nodes.network("tc", "-n", space, "qdisc", "add", "dev", link, "root", "tbf", "rate", rate, "burst",
                      str(nodes.MTU + 100), "latency", "2s")


def sweep(nodes, program, pieces, batch=32, context=4096, max_time=1.5):
    """{pieces: row}, each rank in its namespace and on a core of its own."""
    (nodes.scratch / "wide.json").write_text(json.dumps(MODEL))
    run = nodes.scratch / "run"
    shutil.rmtree(run, ignore_errors=True)
    done = subprocess.run(
        **nodes.launch(program, "sweep", "--model", str(nodes.scratch / "wide.json"), "--system", "h100", "--strategy",
                       "helix", "--kvp", "2", "--context", str(context), "--batch", str(batch), "--hop-b",
                       ",".join(map(str, pieces)), "--max-time", str(max_time), "--quiet", "--out", str(run)),
        capture_output=True, timeout=120 + 20 * max_time * len(pieces))
    if done.returncode != 0:
        sys.exit(f"hop_b.py: the sweep ended with {done.returncode}: {done.stderr}")
    with open(run / "results.csv", newline="") as file:
        rows = {int(row["hop_b"]): row for row in csv.DictReader(file)}
    for count in pieces:
        if count not in rows or rows[count]["status"] != "ok":
            sys.exit(f"hop_b.py: no time for {count} pieces: {rows.get(count, {}).get('reason', 'no such row')}")
    return rows


def milliseconds(row):
    return {name[:-3]: float(row[name]) / 1e3 for name in ("ttl_us", "attn_us", "merge_us", "a2a_us")}


def hideable(off, pieces):
    """What a pipeline hides of the row without overlap: each piece's exchange beside the next piece's attention, one
    exchange at a time."""
    compute, exchange = off["attn"] + off["merge"], off["a2a"]
    return compute + exchange - (compute + (pieces - 1) * max(compute, exchange) + exchange) / pieces


def table(rows):
    off = milliseconds(rows[1])
    yield "| pieces | step ms | attention and merge ms | all-to-all that is waited for ms | hidden of what can be ms |"
    yield "|---|---|---|---|---|"
    for pieces, row in sorted(rows.items()):
        now, can = milliseconds(row), hideable(off, pieces)
        hidden = f"{off['ttl'] - now['ttl']:.1f} of {can:.1f} ({(off['ttl'] - now['ttl']) / can:.0%})" if pieces > 1 else ""
        yield f"| {pieces} | {now['ttl']:.1f} | {now['attn'] + now['merge']:.1f} | {now['a2a']:.1f} | {hidden} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=pathlib.Path(__file__).resolve().parents[1] / "build/release/bin/helix-bench")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--rate", default="100mbit", help="of the link, as tc writes it (100mbit)")
    parser.add_argument("--pieces", type=int, nargs="+", default=[2, 4, 8, 16], help="of the batch (2 4 8 16)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--max-time", type=float, default=5, help="seconds a row (5)")
    arguments = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp())
    try:
        with TwoNodes(arguments.mpirun, scratch, ["tc"]) as nodes:
            limit_rate(nodes, arguments.rate)
            rows = sweep(nodes, str(arguments.program), [1, *arguments.pieces], arguments.batch, arguments.context,
                         arguments.max_time)
        print(*table(rows), sep="\n")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
