"""The comparison as a picture: what each peer reaches of the hand-written server."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl

from bench.catalogue import PEERS, REFERENCE
from bench.results import Results
from bench.scenarios import SCENARIOS

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

__all__ = ["draw"]

# Grey that can be read on white and on black: the pages have both.
INK = "#7a7f87"
COLOURS = {"bzz": "#2a9d6f"}
OTHERS = "#6f8fb8"


def draw(results: Results, connections: int, path: Path) -> None:
    """Write an SVG, one panel for each scenario; the thin lines reach from the worst round to the best."""
    scenarios = results.scenarios()
    peers = [name for name in results.versions if name != REFERENCE]
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "bzz",
        "font.family": "sans-serif",
        "font.size": 9,
        **dict.fromkeys(
            ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], INK
        ),
    }
    with mpl.rc_context(style):
        columns = min(3, len(scenarios))
        rows = -(-len(scenarios) // columns)
        size = (3.1 * columns + 1.2, (0.27 * len(peers) + 0.75) * rows)
        figure, axes = plt.subplots(
            rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        for axis in axes.flat[len(scenarios) :]:
            axis.set_visible(False)
        for axis, scenario in zip(axes.flat, scenarios, strict=False):
            _panel(axis, results, scenario, connections, peers)
        what = f"Answers a second, hand-written Tornado + PyMongo Async = 1, {connections} connections"
        figure.suptitle(what, fontsize=10)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)


def _panel(axis: Axes, results: Results, scenario: str, connections: int, peers: list[str]) -> None:
    found = [results.ratios(name, scenario, connections) for name in peers]
    medians = [statistics.median(each) for each in found]
    reach = [
        [middle - min(each) for middle, each in zip(medians, found, strict=True)],
        [max(each) - middle for middle, each in zip(medians, found, strict=True)],
    ]
    places = range(len(peers))
    bars = axis.barh(
        places,
        medians,
        color=[COLOURS.get(name, OTHERS) for name in peers],
        xerr=reach,
        error_kw={"ecolor": INK, "elinewidth": 0.8},
    )
    axis.axvline(1, color=INK, linewidth=1, linestyle="--")
    # A constant may be far ahead: its bar may then leave the picture, and its figure says how far.
    others = [middle for middle, name in zip(medians, peers, strict=True) if name != "constant"]
    limit = 1.3 * max([1.0, *others])
    axis.set_xlim(0, limit)
    for bar, name, middle in zip(bars, peers, medians, strict=True):
        if name == "constant":
            bar.set(facecolor="none", edgecolor=INK)
        at = min(middle + 0.02 * limit, 0.86 * limit)
        axis.annotate(f"{middle:.2f}", (at, bar.get_y() + bar.get_height() / 2), va="center", fontsize=8)
    axis.set_yticks(places, [PEERS[name].title for name in peers])
    if not axis.yaxis_inverted():  # the panels share it
        axis.invert_yaxis()
    axis.set_title(SCENARIOS[scenario].title, fontsize=9, fontweight="bold")
    axis.spines[["top", "right"]].set_visible(False)
