#!/usr/bin/env python3
"""HOP-B over a link that is slow for real (scripts/hop_b.py): the rows are right, and a rank waits less for the exchange
than without overlap. How much less is a figure, in docs/kernels.md.
slow_link.py HELIX_BENCH MPIRUN; needs root, and ends with 77 (skipped) where namespaces or tc are not to be had."""
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import hop_b
from two_nodes import TwoNodes

PIECES = 8
ENOUGH = 3  # of five pairs: a busy neighbour may turn one round, or two

program, mpirun = sys.argv[1:3]
scratch = pathlib.Path(tempfile.mkdtemp())
try:
    with TwoNodes(mpirun, scratch, ["tc"]) as nodes:
        hop_b.limit_rate(nodes, "100mbit")
        less = []
        while max(less.count(True), less.count(False)) < ENOUGH:
            rows = hop_b.sweep(nodes, program, [1, PIECES])
            for row in rows.values():
                assert float(row["verify_rel_error"]) <= 1e-2, row
            print(*hop_b.table(rows), sep="\n")
            less.append(float(rows[PIECES]["a2a_us"]) < float(rows[1]["a2a_us"]))
        assert less.count(True) == ENOUGH, f"{less.count(False)} of {len(less)} times HOP-B hid nothing of the exchange"
finally:
    shutil.rmtree(scratch)
