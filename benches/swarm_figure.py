#!/usr/bin/env python3
"""Draws doc/swarm.svg from the CSV files of the simulated swarm. Needs matplotlib.

    CIRUELA_SWARM_CSV=target/swarm cargo test --release --test sim swarm::figures
    benches/swarm_figure.py target/swarm doc/swarm.svg
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Told apart by line style and marker, too, not by colour alone.
STYLES = {
    "equal links": ("#1b6ca8", "o", "-"),
    "client at a tenth": ("#2a9d5c", "s", "--"),
    "a tenth dies": ("#c1440e", "^", "-."),
    "1 % lost": ("#7a4fa3", "D", ":"),
}
LABELS = {
    "equal links": "equal links",
    "client at a tenth": "client's uplink a tenth",
    "a tenth dies": "a tenth of the nodes dies",
    "1 % lost": "1 % of messages 20 ms late",
}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def completion(axes, table):
    times = defaultdict(lambda: defaultdict(list))
    for row in table:
        times[row["case"]][int(row["nodes"])].append(float(row["time"]) / float(row["bound"]))
    for case, (colour, marker, line) in STYLES.items():
        nodes = sorted(times[case])
        mean = [sum(times[case][n]) / len(times[case][n]) for n in nodes]
        axes.plot(nodes, mean, line, color=colour, marker=marker, markersize=5, label=LABELS[case])
    axes.axhline(1.15, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(2, 1.153, "aim", color="#666666", fontsize=9, va="bottom")
    axes.set_xscale("log")
    axes.set_xticks([2, 5, 10, 20, 50, 100, 200, 500, 1000], ["2", "5", "10", "20", "50", "100", "200", "500", "1,000"])
    axes.minorticks_off()
    axes.set_ylim(1, max(1.25, axes.get_ylim()[1]))
    axes.set_xlabel("nodes")
    axes.set_ylabel("time until all have it / least possible time")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.93))
    axes.set_title("1,000 pieces: time over the bound", loc="left", pad=16)


def spread(axes, table):
    time = [float(row["time"]) for row in table]
    columns = {name: [int(row[name]) for row in table] for name in ("least", "tenth", "median", "nine_tenths", "most")}
    axes.fill_between(time, columns["tenth"], columns["nine_tenths"], color="#1b6ca8", alpha=0.12, linewidth=0)
    for name, label, line in (
        ("nine_tenths", "a tenth of\nthe pieces", "-."),
        ("median", "half", "-"),
        ("tenth", "nine tenths", "--"),
        ("least", "all", "-"),
    ):
        axes.plot(time, columns[name], line, color="#1b6ca8")
        half = next(at for at, nodes in zip(time, columns[name]) if nodes >= 50)
        left = name == "tenth"
        axes.text(half - 0.04 if left else half + 0.03, 50, label, ha="right" if left else "left", va="center")
    bound = float(table[0]["bound"])
    axes.axvline(bound, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(bound, 103, "least possible", ha="center", color="#666666", fontsize=9)
    axes.set_xlim(0, time[-1] * 1.08)
    axes.set_ylim(0, 102)
    axes.set_xlabel("seconds")
    axes.set_ylabel("are on at least so many nodes")
    axes.set_title("1,000 pieces, 100 nodes, equal links", loc="left", pad=16)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, picture = Path(sys.argv[1]), Path(sys.argv[2])
    plt.rcParams.update({"font.size": 10, "svg.hashsalt": "swarm", "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.4))
    completion(left, rows(folder / "completion.csv"))
    spread(right, rows(folder / "spread.csv"))
    figure.tight_layout(w_pad=3)
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None, dpi=130)


main()
