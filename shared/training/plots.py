"""The model card's pictures: learning curves, reliability, labels, confusions.

Each function takes what a run or `evaluate` made and returns a PNG, drawn on its own Figure without pyplot's state. A
picture is 1,200 pixels wide, readable at half of that, and a few tens of kilobytes, for it lies in the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared.errors import DataError
from shared.training.contact_sheet import contact_sheet
from shared.training.curves import learning_curves
from shared.training.picture import BLUE, GRID, INK, MUTED, ORANGE, STYLE, WIDTH_IN, to_png

__all__ = ["confusion_pairs", "contact_sheet", "learning_curves", "per_label", "reliability_diagram"]

Rows = Sequence[Mapping[str, Any]]

SHOWN_LABELS = 14
SHOWN_PAIRS = 16
LABEL_CHARACTERS = 24


def reliability_diagram(reliability: Mapping[str, Rows]) -> bytes:
    """Return one panel a set of photos: how often the tags were right, against how sure the model was.

    Args:
        reliability: name -> rows of `low`, `high`, `confidence`, `accuracy`, `count`, as `evaluate` gives them.

    Raises:
        DataError: there is no set.
    """
    if not reliability:
        raise DataError("a reliability diagram needs one set of photos at least; came none.")
    columns = min(3, len(reliability))
    rows = -(-len(reliability) // columns)
    with mpl.rc_context(STYLE):
        width = WIDTH_IN if columns > 1 else WIDTH_IN / 2
        figure = Figure(figsize=(width, (width / columns + 0.6) * rows), layout="constrained")
        for i, (name, bins) in enumerate(reliability.items()):
            _draw_reliability(figure.add_subplot(rows, columns, i + 1), name, bins, is_left=i % columns == 0)
        return to_png(figure)


def per_label(per_label_rows: Rows) -> bytes:
    """Return average precision and F1 of the hardest and the easiest labels; of all where they are few.

    Args:
        per_label_rows: `label`, `support`, `ap`, `f1`, as `evaluate` gives them; rows without an average precision are
            left out.

    Raises:
        DataError: no label has an average precision.
    """
    ranked = sorted((row for row in per_label_rows if row["ap"] is not None), key=lambda r: (r["ap"], r["label"]))
    if not ranked:
        raise DataError("no label has an average precision: each holds on all of the photos or on none.")
    if len(ranked) <= SHOWN_LABELS:
        groups = [("Labels", ranked)]
    else:
        count = min(SHOWN_LABELS, len(ranked) // 2)
        groups = [(f"The {count} hardest of {len(ranked)} labels", ranked[:count])]
        groups += [(f"The {count} easiest", ranked[-count:])]
    with mpl.rc_context(STYLE):
        height = 1.2 + 0.24 * max(len(rows) for _, rows in groups)
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        for i, (title, rows) in enumerate(groups):
            _draw_labels(figure.add_subplot(1, len(groups), i + 1), title, rows)
        handles = figure.axes[0].lines[::-1]
        figure.legend(handles, ["average precision", "F1 at the threshold"], loc="outside lower center", ncols=2,
                      frameon=False, labelcolor=INK)  # fmt: skip
        return to_png(figure)


def confusion_pairs(rows: Rows) -> bytes:
    """Return the most frequent confusions as bars: the share of a label's photos that got another label.

    Args:
        rows: `label`, `given`, `count`, `of`, the most frequent first, as `evaluate` gives them.

    Raises:
        DataError: there is no confusion.
    """
    if not rows:
        raise DataError("there is no confusion to draw.")
    shown = sorted(rows[:SHOWN_PAIRS], key=lambda row: row["count"] / row["of"])
    shares = [100 * row["count"] / row["of"] for row in shown]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.26 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(range(len(shown)), shares, height=0.62, color=ORANGE)
        axes.set_yticks(range(len(shown)), [f"{_short(r['label'])}  →  {_short(r['given'])}" for r in shown], color=INK)
        for y, (share, row) in enumerate(zip(shares, shown, strict=True)):
            axes.annotate(f"{row['count']} of {row['of']}", (share, y), (4, 0), textcoords="offset points",
                          va="center", fontsize=8, color=MUTED)  # fmt: skip
        axes.set_xlim(0, max(shares) * 1.15)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.xaxis.set_major_formatter("{x:.0f} %")
        axes.grid(visible=False, axis="y")
        axes.set_title("What is taken for what")
        axes.set_xlabel("share of the label's photos")
        return to_png(figure)


def _draw_reliability(axes: Axes, name: str, bins: Rows, *, is_left: bool) -> None:
    confidence = np.array([row["confidence"] for row in bins])
    accuracy = np.array([row["accuracy"] for row in bins])
    count = np.array([row["count"] for row in bins])
    width = [row["high"] - row["low"] for row in bins]
    error = float(np.abs(confidence - accuracy) @ count / count.sum())
    axes.bar([row["low"] for row in bins], 0.3 * count / count.max(), width, align="edge", color=GRID, linewidth=0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    low, high = _wilson(accuracy, count)
    axes.vlines(confidence, low, high, color=BLUE, linewidth=1.2, alpha=0.5)
    axes.plot(confidence, accuracy, color=BLUE, marker="o", markersize=4.5, clip_on=False)
    axes.set_title(f"{_short(name)}\n", fontsize=10)
    axes.text(0, 1.03, f"error {error:.3f}, {int(count.sum()):,} judgements", transform=axes.transAxes, color=MUTED)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="score")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if is_left else ["", "", ""])
    if is_left:
        axes.set_ylabel("share that was right")


def _wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of a share. Source: Wilson 1927, "Probable inference", JASA 22."""
    z = 1.96
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half


def _draw_labels(axes: Axes, title: str, rows: Rows) -> None:
    places = np.arange(len(rows))[::-1]
    precision = [row["ap"] for row in rows]
    f1 = [row["f1"] if row["f1"] is not None else np.nan for row in rows]
    axes.hlines(places, np.fmin(precision, f1), np.fmax(precision, f1), color=GRID, linewidth=2.5)
    axes.plot(f1, places, "o", color="white", markeredgecolor=ORANGE, markeredgewidth=1.6, markersize=5.5)
    axes.plot(precision, places, "o", color=BLUE, markersize=6)
    axes.set_yticks(places, [f"{_short(row['label'])}  ({row['support']:,})" for row in rows], color=INK)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(rows) - 0.3))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.grid(visible=False, axis="y")
    axes.set_title(title)


def _short(text: str) -> str:
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"
