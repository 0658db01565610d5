"""Draw the curves of one or more training runs: `python scripts/demo_model/curves.py LOG... --out CHART.png`.

It reads the logs that `train.py` writes and knows nothing else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

LINES = {
    "glyphs right": "characters, by the visual tokens alone",
    "copied right": "answer characters that come from the picture",
    "edges right": "box edges, by the training head",
}


def read(logs: list[Path]) -> list[dict[str, Any]]:
    """Return the lines of the logs, one run after the other."""
    return [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Read the command line and write the chart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=24, help="pictures of a step in these runs")
    arguments = parser.parse_args()
    lines = read(arguments.logs)
    figure, axes = plt.subplots(figsize=(8, 3.6), dpi=110)
    for key, name in LINES.items():
        points = [(10 * i, line[key]) for i, line in enumerate(lines) if line.get(key)]
        axes.plot([p[0] for p in points], [p[1] for p in points], label=name, linewidth=1.3)
    before = None
    for i, line in enumerate(lines):
        if line["stage"] != before:
            before = line["stage"]
            axes.axvline(10 * i, color="0.85", linewidth=0.8, zorder=0)
            axes.text(10 * i, 0.02, " " + before, rotation=90, fontsize=7, color="0.4", va="bottom")
    axes.set_ylim(0, 1.01)
    axes.set_xlabel(f"steps of {arguments.pictures} pictures")
    axes.set_ylabel("share right in training")
    axes.legend(fontsize=7, loc="lower right")
    axes.grid(axis="y", color="0.92")
    figure.tight_layout()
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()
