#!/usr/bin/env python3
"""Fit kernel parameters of a system file to measured kernels.

The model is stated once, in the program: this script writes candidate system files, lets
`helix-bench predict --validate FILE --system CANDIDATE --out DIR` price every row, and minimises the
logarithms of model / measured. Needs numpy, scipy and PyYAML (`pip install numpy scipy pyyaml`).

  fit.py FITS.yaml SYSTEM.yaml --data DIR [--only NAME] [--hold-out] [--write SYSTEM.yaml]

FITS.yaml lists what to fit to which rows:

  - name: gqa, tensor cores, bf16 cache
    file: gqa_decode.csv                # in DIR; .gz too
    rows: {kv_dtype: bfloat16}          # columns that must have this value, or one of a list;
                                        # `group`: query heads per KV head
    entry: gpu.gqa.2                    # the map of the system file that holds the parameters
    free: [efficiency, dram_latency_us, loop.fixed_us]
    trials: {tile_n: [64, 128, 256]}    # whole numbers to try one after the other
    twins: [gpu.gqa.3]                  # entries of the same kernel for other shapes: equal parameters
    known: [gpu.gqa.2]                  # what gets the fit's error_percent; the entry and its twins if not named

--hold-out fits to half of the shapes and reports the other half, which the fit has not seen. Reported are the
median and the 90th percentile of the absolute error in percent; the latter also goes into `error_percent`.
"""
import argparse
import copy
import csv
import gzip
import itertools
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import zlib

import numpy
import scipy.optimize
import yaml

OUTLIER = 0.05  # relative errors beyond count linearly: collectors leave some kernels untuned


def number(text):
    """YAML 1.1 reads 5e+10 as text."""
    return float(text) if isinstance(text, str) and re.fullmatch(r"-?[\d.]+e[+-]?\d+", text) else text


def numbers(node):
    if isinstance(node, dict):
        return {key: numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [numbers(value) for value in node]
    return number(node)


def flow(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:.4g}"
        return text if "e" not in text or "." in text else text.replace("e", ".0e")
    return str(value)


def wrapped(text, indent, width=118):
    """Flow text on lines of at most `width`, broken after commas."""
    lines, line = [], ""
    for part in re.split(r"(?<=, )", text):
        if line and len(line) + len(part) > width - indent:
            lines.append(line.rstrip())
            line = " "
        line += part
    return ("\n" + " " * indent).join(lines + [line])


def emit(system):
    """A system file as they are written by hand: one map a line or two."""
    out = []
    for key, value in system.items():
        if key == "origin":
            out.append("origin:")
            out += [f'  {k}: "{v}"' for k, v in value.items()]
        elif key == "gpu":
            out.append("gpu:")
            for section, body in value.items():
                if isinstance(body, list):
                    out.append(f"  {section}:")
                    out += ["    - " + wrapped(flow(item), 6) for item in body]
                elif any(isinstance(v, list) for v in body.values()):
                    out.append(f"  {section}:")
                    for k, v in body.items():
                        if isinstance(v, list):
                            out.append(f"    {k}:")
                            out += ["      - " + flow(item) for item in v]
                        else:
                            out.append(f"    {k}: {flow(v)}")
                else:
                    out.append(f"  {section}: " + wrapped(flow(body), 4))
        elif key == "device":
            out.append(f'device: "{value}"')
        else:
            out.append(f"{key}: {flow(value)}")
    return "\n".join(out) + "\n"


def at(node, path):
    for key in path.split("."):
        node = node[int(key)] if isinstance(node, list) else node[key]
    return node


def put(node, path, value):
    parent, _, key = path.rpartition(".")
    (at(node, parent) if parent else node)[key] = value


def read_rows(path):
    if not path.exists() and path.with_suffix(path.suffix + ".gz").exists():
        path = path.with_suffix(path.suffix + ".gz")
    with (gzip.open(path, "rt") if path.suffix == ".gz" else open(path)) as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if "kv_heads" in row:
            row["group"] = f"{int(row['q_heads']) / int(row['kv_heads']):g}"
    return rows


def shape_hash(row):
    return zlib.crc32(",".join(v for k, v in row.items() if k != "latency_us").encode())


class Model:
    """The program, asked for the times of some rows under a candidate system."""

    def __init__(self, program, rows, directory):
        self.program, self.directory = program, pathlib.Path(directory)
        self.file = self.directory / "rows.csv"
        with open(self.file, "w", newline="") as out:
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    def log_errors(self, system):
        candidate = self.directory / "candidate.yaml"
        candidate.write_text(yaml.safe_dump(system))
        run = subprocess.run([self.program, "predict", "--validate", self.file, "--system", candidate, "--out",
                              self.directory, "--quiet"], capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr or run.stdout)
        with open(self.directory / "residuals.csv") as file:
            return numpy.array([math.log(float(r["model_us"]) / float(r["measured_us"]))
                                for r in csv.DictReader(file)])


def percent(log_errors):
    return 100 * numpy.abs(numpy.expm1(log_errors))


def figures(log_errors):
    e = percent(log_errors)
    return len(e), float(numpy.median(e)), float(numpy.percentile(e, 90))


def fit(model, system, entries, free, evaluations):
    """Parameters change by factors; the system is changed in place."""
    start = numpy.log([max(1e-9, at(at(system, entries[0]), name)) for name in free])

    widest = math.log(10)  # what the rows do not determine stays near its start

    def residuals(logs):
        for name, value in zip(free, numpy.exp(numpy.clip(logs, start - widest, start + widest))):
            for entry in entries:
                put(at(system, entry), name, float(min(value, 1.0)) if "efficiency" in name else float(value))
        return model.log_errors(system)

    found = scipy.optimize.least_squares(residuals, start, loss="soft_l1", f_scale=OUTLIER, diff_step=1e-3,
                                         max_nfev=evaluations)
    residuals(found.x)
    return 2 * found.cost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits", type=pathlib.Path)
    parser.add_argument("system", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--program", default="build/release/bin/helix-bench")
    parser.add_argument("--only", default="", help="fits whose name contains this")
    parser.add_argument("--hold-out", action="store_true")
    parser.add_argument("--most-rows", type=int, default=2000, help="of a fit; the report has all")
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()

    system = numbers(yaml.safe_load(arguments.system.read_text()))
    print(f"{'fit':44} {'rows':>6} {'median %':>9} {'p90 %':>7}")
    for job in yaml.safe_load(arguments.fits.read_text()):
        if arguments.only not in job["name"]:
            continue
        entries = [job["entry"], *job.get("twins", [])]
        rows = [r for r in read_rows(arguments.data / job["file"])
                if all(r[k] in map(str, v if isinstance(v, list) else [v]) for k, v in job["rows"].items())]
        seen = [r for r in rows if not arguments.hold_out or shape_hash(r) % 2]
        judged = [r for r in rows if not arguments.hold_out or not shape_hash(r) % 2]
        seen.sort(key=shape_hash)
        best = None
        trials = job.get("trials", {})
        with tempfile.TemporaryDirectory() as directory:
            few = Model(arguments.program, seen[:arguments.most_rows], directory)
            for values in itertools.product(*trials.values()):
                candidate = copy.deepcopy(system)
                for name, value in zip(trials, values):
                    for entry in entries:
                        put(at(candidate, entry), name, value)
                cost = fit(few, candidate, entries, job["free"], arguments.evaluations)
                if best is None or cost < best[0]:
                    best = cost, candidate
            system = best[1]
            count, median, p90 = figures(Model(arguments.program, judged, directory).log_errors(system))
        for entry in job.get("known", entries):
            put(at(system, entry), "error_percent", round(p90, 1))
        print(f"{job['name']:44} {count:6} {median:9.2f} {p90:7.2f}", flush=True)
    if arguments.write:
        arguments.write.write_text(emit(system))


if __name__ == "__main__":
    main()
