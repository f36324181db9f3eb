#!/usr/bin/env python3
"""Plots the Pareto frontiers of a run: tokens/s/user against tokens/s/GPU, one panel per model, context and precision,
measured and predicted side by side for each strategy.

    plot_pareto.py RUN_DIRECTORY|results.csv [-o STEM]    writes STEM.svg and STEM.png (default: pareto beside the CSV)
"""
import argparse
import csv
import math
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend has to be chosen first)
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: E402

# Okabe and Ito's colours stay apart for colour-blind readers; markers tell the strategies apart in grey, too.
STYLES = {"helix": ("#0072B2", "o"), "tp": ("#D55E00", "s"), "tp+pp": ("#009E73", "^"), "medha": ("#CC79A7", "D"),
          "dp+ep": ("#E69F00", "v")}


def read_panels(path):
    """{(model, context, precision): {strategy: ([measured points], [predicted points])}}"""
    panels = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if row["status"] != "ok":
                continue
            key = (row["model"], int(row["context"]), f"{row['weight_dtype']}/{row['kv_dtype']}")
            measured, predicted = panels.setdefault(key, {}).setdefault(row["strategy"], ([], []))
            for points, column in ((measured, "ttl_us"), (predicted, "model_ttl_us")):
                if row[column]:
                    per_user = 1e6 / float(row[column])
                    points.append((per_user, per_user * int(row["batch"]) / int(row["ranks"])))
    return panels


def frontier(points):
    """The points that no other one beats in both coordinates, by falling tokens/s/user."""
    best, kept = -math.inf, []
    for per_user, per_gpu in sorted(points, reverse=True):
        if per_gpu > best:
            best = per_gpu
            kept.append((per_user, per_gpu))
    return kept


def tokens(count):
    for unit, name in ((1 << 20, "M"), (1 << 10, "K")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return str(count)


def draw_panel(axes, key, strategies):
    for strategy, (measured, predicted) in strategies.items():
        color, marker = STYLES[strategy]
        axes.scatter(*zip(*measured or [(math.nan, math.nan)]), color=color, marker=marker, s=22, alpha=0.45, linewidths=0)
        if measured:
            axes.plot(*zip(*frontier(measured)), color=color, marker=marker, markersize=6, label=f"{strategy}, measured")
        if predicted:
            axes.plot(*zip(*frontier(predicted)), color=color, linestyle="--", marker=marker, markersize=6,
                      markerfacecolor="none", label=f"{strategy}, model")
    model, context, precision = key
    axes.set_title(f"{model}, {tokens(context)} tokens, {precision} weights/KV", fontsize=9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("tokens/s per user")
    axes.set_ylabel("tokens/s per GPU (CPU: per rank)")
    axes.grid(True, which="both", linewidth=0.3)
    axes.legend(fontsize=7)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("run", type=pathlib.Path)
    arguments.add_argument("-o", "--output", type=pathlib.Path, help="path of the plots without their ending")
    given = arguments.parse_args()
    results = given.run / "results.csv" if given.run.is_dir() else given.run
    try:
        panels = read_panels(results)
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"plot_pareto.py: {results} is no results.csv: {error}")
    if not panels:
        sys.exit(f"plot_pareto.py: {results} has no row with status ok")

    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(5.2 * columns, 4.2 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(panels):]:
        axes.set_visible(False)
    for axes, (key, strategies) in zip(grid.flat, sorted(panels.items())):
        draw_panel(axes, key, strategies)
    stem = given.output or results.with_name("pareto")
    for ending in (".svg", ".png"):
        figure.savefig(f"{stem}{ending}", dpi=150)
        print(f"{stem}{ending}")


if __name__ == "__main__":
    main()
