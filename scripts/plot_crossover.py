#!/usr/bin/env python3
"""Draws the crossover map of a prediction: for each context and batch the fastest strategy on a number of ranks, and how
much faster it is than the next one. At equal batch and ranks the fastest serves the most tokens/s/GPU, too.

    plot_crossover.py RUN_DIRECTORY|crossover.csv [--ranks N] [-o STEM]    writes STEM.svg and STEM.png

Without --ranks: the largest number that the map has. One panel per model and precision.
"""
import argparse
import csv
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend has to be chosen first)
from matplotlib.patches import Patch  # noqa: E402

COLORS = {"helix": "#0072B2", "tp": "#D55E00", "tp+pp": "#009E73", "medha": "#CC79A7", "dp+ep": "#E69F00"}


def read_panels(path, ranks):
    """{(model, precision): {(context, batch): (winner, gain or None)}} and the number of ranks shown"""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    ranks = ranks or max(int(row["ranks"]) for row in rows)
    panels = {}
    for row in rows:
        if int(row["ranks"]) == ranks:
            cell = (row["winner"], float(row["gain"]) if row["gain"] else None)
            key = (row["model"], f"{row['weight_dtype']}/{row['kv_dtype']}")
            panels.setdefault(key, {})[int(row["context"]), int(row["batch"])] = cell
    if not panels:
        raise SystemExit(f"{path}: no configuration on {ranks} ranks")
    return panels, ranks


def tokens(count):
    for unit, name in ((1 << 20, "M"), (1 << 10, "K")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return str(count)


def draw_panel(axes, title, cells):
    contexts = sorted({context for context, _ in cells})
    batches = sorted({batch for _, batch in cells})
    for (context, batch), (winner, gain) in cells.items():
        x, y = contexts.index(context), batches.index(batch)
        axes.add_patch(plt.Rectangle((x, y), 1, 1, facecolor=COLORS[winner], alpha=0.75, edgecolor="white"))
        axes.text(x + 0.5, y + 0.5, f"{gain:.2f}x" if gain else "alone", ha="center", va="center", fontsize=7)
    axes.set(xlim=(0, len(contexts)), ylim=(0, len(batches)), title=title, xlabel="context, tokens",
             ylabel="batch, requests")
    axes.set_xticks([i + 0.5 for i in range(len(contexts))], [tokens(c) for c in contexts])
    axes.set_yticks([i + 0.5 for i in range(len(batches))], [str(b) for b in batches])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--ranks", type=int)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    arguments = parser.parse_args()
    path = arguments.run / "crossover.csv" if arguments.run.is_dir() else arguments.run
    panels, ranks = read_panels(path, arguments.ranks)

    figure, axes = plt.subplots(1, len(panels), figsize=(1.5 + 5 * len(panels), 5), squeeze=False, layout="constrained")
    for panel, (key, cells) in zip(axes[0], panels.items()):
        draw_panel(panel, f"{key[0]}, {key[1]}, {ranks} GPUs", cells)
    winners = {winner for cells in panels.values() for winner, _ in cells.values()}
    figure.legend(handles=[Patch(color=COLORS[name], label=name) for name in COLORS if name in winners],
                  loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(winners),
                  title="fastest strategy; gain over the next one")
    stem = arguments.output or path.with_suffix("")
    for suffix in (".svg", ".png"):
        figure.savefig(stem.with_suffix(suffix), dpi=150, bbox_inches="tight")
        print(stem.with_suffix(suffix))


if __name__ == "__main__":
    main()
