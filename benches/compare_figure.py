#!/usr/bin/env python3
"""Draws doc/compare.svg from what rsync_compare.py wrote. Needs matplotlib.

    benches/rsync_compare.py --csv target/compare.csv
    benches/compare_figure.py target/compare.csv doc/compare.svg
"""

import csv
import statistics
import sys
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Told apart by hatching, too, not by colour alone.
STYLES = {
    "rsync": ("3 × rsync -a", "#c1440e", "///"),
    "ciruela": ("ciruela sync", "#1b6ca8", ""),
    "parts": ("the parts that none can leave out", "#9a9a9a", "\\\\"),
}


def main(source, target):
    runs = defaultdict(lambda: defaultdict(list))
    with open(source, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            runs[row["tree"]][row["contender"]].append((float(row["seconds"]), float(row["processors"])))
    plt.rcParams.update({"svg.hashsalt": "compare", "svg.fonttype": "none", "font.size": 9})
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, constrained_layout=True)
    for which, (panel, title) in enumerate(zip(panels, ["seconds until all three have it", "seconds of all processors"])):
        draw(panel, runs, which)
        panel.set_title(title)
    handles, labels = panels[0].get_legend_handles_labels()
    wanted = [label for label, *_ in STYLES.values() if label in labels]
    figure.legend([handles[labels.index(label)] for label in wanted], wanted, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(target, metadata={"Date": None})


def draw(panel, runs, which):
    """A group of bars for each tree: the median, with the least and the most."""
    height = 0.8 / len(STYLES)
    for place, tree in enumerate(reversed(runs)):
        for number, (contender, (label, colour, hatch)) in enumerate(reversed(STYLES.items())):
            figures = [run[which] for run in runs[tree].get(contender, [])]
            if not figures:
                continue
            median = statistics.median(figures)
            spread = [[median - min(figures)], [max(figures) - median]]
            at = place + (number - 1) * height
            known = panel.get_legend_handles_labels()[1]
            label = "_" if label in known else label
            panel.barh(at, median, height, color=colour, hatch=hatch, edgecolor="white", label=label)
            panel.errorbar(median, at, xerr=spread, color="black", linewidth=1, capsize=2)
            panel.annotate(f"{median:.2f}", (max(figures), at), (4, 0), textcoords="offset points", va="center")
    panel.set_yticks(range(len(runs)), list(reversed(runs)))
    panel.margins(x=0.15)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
