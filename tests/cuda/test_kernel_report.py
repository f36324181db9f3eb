#!/usr/bin/env python3
"""The counting of scripts/kernel_report.py, on listings written by hand."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import kernel_report


def listing(*instructions):
    """As cuobjdump prints a function: one instruction each 16 bytes. `@N` in one is the address of instruction N."""
    lines = []
    for i, text in enumerate(instructions):
        while "@@" in text:
            head, tail = text.split("@@", 1)
            number = tail.split()[0]
            text = head + hex(int(number) * 16) + tail[len(number):]
        lines.append(f"        /*{i * 16:04x}*/                   {text} ;    /* 0x000 */")
        lines.append("                                                            /* 0x000 */")
    return lines


def kernel(k_loads, v_loads):
    return kernel_report.Kernel("K", "bf16", 8192, k_loads, v_loads)


def issued(k_loads, v_loads, *instructions):
    return kernel_report.issued(kernel_report.blocks_of(listing(*instructions)), kernel(k_loads, v_loads))


class Counting(unittest.TestCase):
    def test_a_straight_loop_is_counted_without_what_stands_around_it(self):
        self.assertEqual(issued(1, 1, "MOV R1, R2", "LDGSTS.E [R1], [R2]", "LDSM.16.M88.4 R4, [R5]", "HMMA.16816.F32 R1, R2, R3",
                                "LDSM.16.MT88.4 R4, [R5]", "HMMA.16816.F32 R1, R2, R3", "@P0 BRA @@1 ", "EXIT"), 6)

    def test_the_shortest_way_leaves_out_what_no_work_asks_for_and_keeps_what_some_does(self):
        loop = ["LDSM.16.M88.4 R4, [R5]",    # 0
                "HMMA.16816.F32 R1, R2, R3",
                "@P1 BRA @@5 ",               # over what masks
                "FSEL R1, R2, R3",
                "FSEL R1, R2, R3",
                "@P2 BRA @@7 ",               # 5: over the copy, which is work
                "LDGSTS.E [R1], [R2]",
                "LDSM.16.MT88.4 R4, [R5]",   # 7
                "HMMA.16816.F32 R1, R2, R3",
                "@P0 BRA @@0 ", "EXIT"]
        self.assertEqual(issued(1, 1, "NOP", *[i.replace("@@5", "@@6").replace("@@7", "@@8").replace("@@0", "@@1") for i in loop]),
                         len(loop) - 1 - 2)

    def test_inner_loops_count_as_often_as_their_loads_ask_for(self):
        self.assertEqual(issued(9, 1, "NOP",
                                "LDGSTS.E [R1], [R2]",        # 1
                                "LDSM.16.M88.4 R4, [R5]",     # 2: nine turns of three
                                "HMMA.16816.F32 R1, R2, R3",
                                "@P1 BRA @@2 ",
                                "LDSM.16.MT88.4 R4, [R5]",
                                "HMMA.16816.F32 R1, R2, R3",
                                "@P0 BRA @@1 ", "EXIT"), 1 + 9 * 3 + 3)

    def test_what_a_scheduler_must_issue_follows_from_bytes_and_clock(self):
        _, bandwidth, multiprocessors, flops, per_cycle = kernel_report.GPUS["sm_90a"]
        seconds = 8192 / (bandwidth / (multiprocessors * 4))  # in which a scheduler's share of the DRAM gives a tile
        cycles = seconds * flops / (multiprocessors * per_cycle)
        self.assertAlmostEqual(kernel_report.needed("sm_90a", kernel(1, 1), cycles), 1.0)

    def test_names_of_instances(self):
        gqa = kernel_report.kernel_of("_ZN5helix4cuda10gqa_decodeILNS_5DTypeE2ELi128ELi1ELi4EEEvNS_6KvViewE")
        self.assertEqual((gqa.name, gqa.tile_bytes, gqa.k_loads, gqa.v_loads), ("GQA d128, 8 heads, fp8", 4096, 4, 4))
        mla = kernel_report.kernel_of("_ZN5helix4cuda10mla_decodeILNS_5DTypeE1ELi64ELi4ELi2EEEvNS_6KvViewE")
        self.assertEqual((mla.name, mla.tile_bytes, mla.k_loads, mla.v_loads), ("MLA 64 heads, 64 tokens, bf16", 9216, 36, 16))
        self.assertIsNone(kernel_report.kernel_of("_ZN5helix4cuda12merge_splitsILi64EEEviNS0_12DecodeOutputE"))


if __name__ == "__main__":
    unittest.main()
