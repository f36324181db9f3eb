"""ReFrame tests of an installed helix-bench: every sharding agrees with the fp64 reference, and measured steps reach
their part of the DRAM roofline.

    reframe -C packaging/reframe/local.py -c packaging/reframe/helix_bench.py -r
    reframe -C YOUR_SITE.py -c packaging/reframe/helix_bench.py -r -S num_tasks=8 -S program=/opt/helix-bench/bin/helix-bench

`-S NAME=VALUE` sets the variables below; a partition of yours gives launcher and environment.
"""
import csv
import os
import statistics

import reframe as rfm
import reframe.utility.sanity as sn
import reframe.utility.typecheck as typ


class HelixBench(rfm.RunOnlyRegressionTest):
    program = variable(str, value="helix-bench")
    model = variable(str, value="llama-3.2-1b")
    layers = variable(int, value=4)
    context = variable(str, value="16k")
    batch = variable(str, value="1")
    flags = variable(typ.List[str], value=[])  # more of the sweep's, e.g. --backend,cuda

    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    num_tasks = 2

    def point(self):
        return ["--model", self.model, "--context", self.context, "--batch", self.batch,
                "--layers", str(self.layers)]

    @run_before("run")
    def set_program(self):
        self.executable = self.program
        if os.geteuid() == 0:  # in a container there is no other user
            self.env_vars |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


@rfm.simple_test
class HelixVerify(HelixBench):
    """Sanity alone: `verify` ends with 0 if every sharding decodes as the reference does."""
    context = "300"

    @run_before("run")
    def set_flags(self):
        self.executable_opts = ["verify", *self.point()]

    @sanity_function
    def every_sharding_agrees(self):
        return sn.assert_eq(self.job.exitcode, 0, msg="verify ended with {0}; see its output")


@rfm.simple_test
class HelixSweep(HelixBench):
    """Every row is measured and verified; the worst fraction of the DRAM roofline is held against the reference."""
    # Below half of the roofline something is wrong with the machine or its placement. Sites know better figures.
    lowest_fraction = variable(float, value=0.5)

    @run_before("run")
    def set_flags(self):
        self.executable_opts = ["sweep", *self.point(), *self.flags, "--strategy", "helix,tp", "--quiet", "--out", "run"]

    @run_before("performance")
    def set_references(self):
        lowest = (self.lowest_fraction, 0, None, "1")
        self.reference = {"*": {"worst_roofline_fraction": lowest, "median_roofline_fraction": lowest}}

    def ok_rows(self):
        with open(os.path.join(self.stagedir, "run", "results.csv"), newline="") as file:
            return [row for row in csv.DictReader(file) if row["status"] == "ok"]

    @sanity_function
    def rows_are_measured_and_verified(self):
        return sn.and_(sn.assert_eq(self.job.exitcode, 0),
                       sn.assert_true(sn.all(float(row["verify_rel_error"]) > 0 for row in self.ok_rows()) and
                                      len(self.ok_rows()) > 0, msg="no row was measured"))

    @performance_function("1")
    def worst_roofline_fraction(self):
        return min(float(row["roofline_fraction"]) for row in self.ok_rows())

    @performance_function("1")
    def median_roofline_fraction(self):
        return statistics.median(float(row["roofline_fraction"]) for row in self.ok_rows())
