"""How a training went: loss, quality, calibration error and learning rate over the epochs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shared.errors import DataError
from shared.training.picture import BLUE, GREEN, MUTED, ORANGE, PURPLE, STYLE, WIDTH_IN, to_png

Curve = tuple[np.ndarray, np.ndarray]
"""(epochs done, value), each float [points]."""


def learning_curves(*tables: Path) -> bytes:
    """Return loss, quality, calibration error and learning rate over the epochs; what was not logged is left out.

    A learning rate that was logged once is left out too: a point shows no course.

    Args:
        tables: of Lightning's CSVLogger, with the columns epoch, step, train/loss, val/loss, val/quality, val/ece,
            lr-…; several if the run was resumed, the oldest first.

    Raises:
        DataError: the file cannot be read, or no epoch ended.
    """
    curves = _read_curves(*tables)
    rates = [curve for name, curve in curves.items() if name.startswith("lr-") and len(curve[0]) > 1]
    panels: list[Callable[[Axes], None]] = []
    if "val/loss" in curves or "train/loss" in curves:
        panels.append(lambda axes: _draw_losses(axes, curves))
    if "val/quality" in curves:
        panels.append(lambda axes: _draw_quality(axes, curves["val/quality"]))
    if "val/ece" in curves:
        panels.append(lambda axes: _draw_calibration(axes, curves["val/ece"]))
    if rates:
        panels.append(lambda axes: _draw_rates(axes, rates))
    if not panels:
        raise DataError(
            f"{tables[-1]} holds no finished epoch: there is nothing to draw. Train for one epoch at least."
        )
    with mpl.rc_context(STYLE):
        rows = (len(panels) + 1) // 2
        figure = Figure(figsize=(WIDTH_IN, 2.6 * rows), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)  # type: ignore[union-attr, call-arg]
        last = max(curve[0].max() for curve in curves.values())
        for i, draw in enumerate(panels):
            axes = figure.add_subplot(rows, min(2, len(panels)), i + 1)
            draw(axes)
            axes.set_xlim(0, max(1.0, last) * 1.02)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.grid(visible=False, axis="x")
            if i >= len(panels) - 2:
                axes.set_xlabel("epochs")
        return to_png(figure)


def _read_curves(*tables: Path) -> dict[str, Curve]:
    """Return column -> (epochs done, value); a learning rate has its value at the epoch's start."""
    rows: list[dict[str, str]] = []
    path = tables[0]
    try:
        for path in tables:
            with path.open(encoding="utf-8", newline="") as file:
                rows += csv.DictReader(file)
        ended = [(int(r["epoch"]), int(r["step"])) for r in rows if r.get("epoch") and r.get("step")]
        steps_per_epoch = max((step + 1) / (epoch + 1) for epoch, step in ended) if ended else 1.0
        curves: dict[str, Curve] = {}
        for name in dict.fromkeys(name for row in rows for name in row):
            if name not in ("epoch", "step"):
                points = {
                    int(r["step"]) / steps_per_epoch if name.startswith("lr-") else int(r["epoch"]) + 1: float(r[name])
                    for r in rows
                    if r.get(name) and (r["step"] if name.startswith("lr-") else r["epoch"])
                }
                if points:
                    curves[name] = (np.array(sorted(points)), np.array([points[x] for x in sorted(points)]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read as the table of a training run: {error}") from error
    return curves


def _draw_losses(axes: Axes, curves: Mapping[str, Curve]) -> None:
    axes.set_title("Loss")
    ends = []
    for column, name, colour in (("train/loss", "training", MUTED), ("val/loss", "validation", BLUE)):
        if column in curves:
            epochs, values = curves[column]
            axes.plot(epochs, values, color=colour, marker="o", markersize=3)
            ends.append((float(values[-1]), float(epochs[-1]), name, colour))
    ends.sort(reverse=True)
    for i, (value, epoch, name, colour) in enumerate(ends):  # the upper line is named above, the lower one below
        axes.annotate(name, (epoch, value), (0, -13 if i else 7), textcoords="offset points", ha="right", color=colour)
    axes.margins(y=0.2)


def _draw_quality(axes: Axes, curve: Curve) -> None:
    epochs, values = curve
    _draw_line(axes, "Quality on validation data", curve, GREEN)
    if np.isfinite(values).any():
        best = int(np.nanargmax(values))
        axes.plot(epochs[best], values[best], "o", color=GREEN, markersize=7)
        axes.annotate(f"best: {values[best]:.3f}", (epochs[best], values[best]), (0, 8), textcoords="offset points",
                      ha="right" if best == len(values) - 1 else "center", color=GREEN, fontweight="bold")  # fmt: skip
    axes.margins(y=0.2)


def _draw_calibration(axes: Axes, curve: Curve) -> None:
    _draw_line(axes, "Calibration error, uncalibrated", curve, PURPLE)
    axes.set_ylim(0, float(np.nanmax(curve[1])) * 1.2 or 1.0)


def _draw_line(axes: Axes, title: str, curve: Curve, colour: str) -> None:
    axes.plot(*curve, color=colour, marker="o", markersize=3)
    axes.set_title(title)


def _draw_rates(axes: Axes, rates: Sequence[Curve]) -> None:
    """Draw the fastest and the slowest part of the network, and the range between them."""
    epochs = np.unique(np.concatenate([curve[0] for curve in rates]))
    values = np.stack([np.interp(epochs, *curve) for curve in rates])  # [parts, epochs]
    fastest, slowest = values.max(axis=0), values.min(axis=0)
    named = [("head", fastest)] if (fastest == slowest).all() else [("head", fastest), ("first layers", slowest)]
    axes.fill_between(epochs, slowest, fastest, color=ORANGE, alpha=0.12, linewidth=0)
    for name, line in named:
        axes.plot(epochs, line, color=ORANGE, linewidth=1.8 if name == "head" else 1.0)
        place = (float(epochs[int(line.argmax())]), float(line.max()))
        axes.annotate(name, place, (6, 4), textcoords="offset points", color=ORANGE)
    axes.set_title("Learning rate")
    axes.set_ylim(0, float(fastest.max()) * 1.15 or 1.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
