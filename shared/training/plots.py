"""The pictures of a run and of a model card: learning curves, reliability, labels, confusions, a sheet of photos.

Each function returns a PNG, drawn on its own Figure without pyplot's state. Pictures of the model card are 1,200 pixels
wide, readable at half of that, and a few tens of kilobytes, because they travel in the bundle.
"""

from __future__ import annotations

import csv
import io
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont, ImageOps

from shared.errors import DataError
from shared.intervals import wilson

DPI = 150
WIDTH_IN = 8.0
COLOURS = 64
"""Of the PNG's palette: flat colours with smooth edges need no more, and the file is a third."""
INK, MUTED, GRID, PAPER = "#1f2933", "#66727f", "#e4e8ec", "#eef1f4"
BLUE, ORANGE, GREEN, PURPLE = "#2b6cb0", "#d9772b", "#2f8f5b", "#7a57a8"
STYLE = Path(__file__).with_name("pictures.mplstyle")
SHOWN_LABELS = 14
SHOWN_PAIRS = 16
LABEL_CHARACTERS = 24
THUMBNAIL_PX = 240
SHEET_COLUMNS = 4
GAP_PX = 16
LINE_PX = 17
TEXT_LINES = 3
TEXT_CHARACTERS = 32
CURVES = "metrics.csv"
"""Lightning's CSVLogger writes a run's metrics to it."""
Rows = Sequence[Mapping[str, Any]]
Curve = tuple[np.ndarray, np.ndarray]
"""(epochs done, value), each float [points]."""


def curve_tables(run_dir: Path) -> list[Path]:
    """Return the run's tables of metrics, the oldest first: one, and one more for each time it was resumed."""
    kept = sorted(run_dir.glob("metrics.part*.csv"), key=lambda path: int(path.stem.removeprefix("metrics.part")))
    return [path for path in (*kept, run_dir / CURVES) if path.is_file()]


def curve_rows(*tables: Path) -> list[dict[str, str]]:
    """Return the rows of a run's tables.

    Raises:
        DataError: one cannot be read.
    """
    rows: list[dict[str, str]] = []
    for path in tables:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows += csv.DictReader(file)
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as the table of a training run: {error}") from error
    return rows


def learning_curves(*tables: Path) -> bytes:
    """Return loss, quality, calibration error and learning rate over the epochs; what was not logged is left out.

    A learning rate that was logged once is left out too: a single point is no curve.

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
    with mpl.rc_context(fname=STYLE):
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


def reliability_diagram(reliability: Mapping[str, Rows]) -> bytes:
    """Return one panel per set: how often answers were right, against how sure the model was.

    Args:
        reliability: name -> rows of `low`, `high`, `confidence`, `accuracy`, `count`, as `evaluate` gives them.

    Raises:
        DataError: there is no set.
    """
    if not reliability:
        raise DataError("a reliability diagram needs at least one set; got none.")
    columns = min(3, len(reliability))
    rows = -(-len(reliability) // columns)
    with mpl.rc_context(fname=STYLE):
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
    with mpl.rc_context(fname=STYLE):
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
    with mpl.rc_context(fname=STYLE):
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


def contact_sheet(photos: Sequence[tuple[Image.Image, str, str]]) -> bytes:
    """Return photos in a grid, with the true tags (green) and the given ones below each.

    For the run folder only, never for a bundle: photos have owners.

    Args:
        photos: (photo, true tags, given tags with scores) each.

    Raises:
        DataError: there is no photo.
    """
    if not photos:
        raise DataError("a contact sheet needs at least one photo; got none.")
    font = ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 13)
    columns = min(SHEET_COLUMNS, len(photos))
    rows = -(-len(photos) // columns)
    cell_height = THUMBNAIL_PX + 2 * TEXT_LINES * LINE_PX + 2 * GAP_PX
    sheet = Image.new("RGB", (columns * (THUMBNAIL_PX + GAP_PX) + GAP_PX, rows * cell_height + GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (photo, true, given) in enumerate(photos):
        x, y = GAP_PX + (i % columns) * (THUMBNAIL_PX + GAP_PX), GAP_PX + (i // columns) * cell_height
        thumbnail = ImageOps.contain(photo.convert("RGB"), (THUMBNAIL_PX, THUMBNAIL_PX))
        sheet.paste(Image.new("RGB", (THUMBNAIL_PX, THUMBNAIL_PX), PAPER), (x, y))
        sheet.paste(thumbnail, (x + (THUMBNAIL_PX - thumbnail.width) // 2, y + (THUMBNAIL_PX - thumbnail.height) // 2))
        y += THUMBNAIL_PX + 6
        for text, colour in ((true or "(no tag)", GREEN), (given or "(nothing given)", INK)):
            for part in textwrap.wrap(text, TEXT_CHARACTERS, max_lines=TEXT_LINES, placeholder=" …"):
                draw.text((x, y), part, fill=colour, font=font)
                y += LINE_PX
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


OF_METRICS: dict[str, Callable[[Any], bytes]] = {
    "reliability": reliability_diagram,
    "per_label": per_label,
    "confusions": confusion_pairs,
}
"""What `evaluate` measured -> how it is drawn."""


def to_png(figure: Figure) -> bytes:
    """Return the figure as a PNG with a small palette, the same bytes for the same picture."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)  # a box in its place
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    small = io.BytesIO()
    image = Image.open(buffer).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


__all__ = ["confusion_pairs", "contact_sheet", "learning_curves", "per_label", "reliability_diagram"]


def _read_curves(*tables: Path) -> dict[str, Curve]:
    """Return column -> (epochs done, value); a learning rate has its value at the epoch's start."""
    rows = curve_rows(*tables)
    try:
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
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{tables[-1]} cannot be read as the table of a training run: {error}") from error
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


def _draw_reliability(axes: Axes, name: str, bins: Rows, *, is_left: bool) -> None:
    confidence = np.array([row["confidence"] for row in bins])
    accuracy = np.array([row["accuracy"] for row in bins])
    count = np.array([row["count"] for row in bins])
    width = [row["high"] - row["low"] for row in bins]
    error = float(np.abs(confidence - accuracy) @ count / count.sum())
    axes.bar([row["low"] for row in bins], 0.3 * count / count.max(), width, align="edge", color=GRID, linewidth=0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    low, high = wilson(accuracy, count)
    axes.vlines(confidence, low, high, color=BLUE, linewidth=1.2, alpha=0.5)
    axes.plot(confidence, accuracy, color=BLUE, marker="o", markersize=4.5, clip_on=False)
    axes.set_title(f"{_short(name)}\n", fontsize=10)
    axes.text(0, 1.03, f"error {error:.3f}, {int(count.sum()):,} judgements", transform=axes.transAxes, color=MUTED)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="score")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if is_left else ["", "", ""])
    if is_left:
        axes.set_ylabel("share that was right")


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
