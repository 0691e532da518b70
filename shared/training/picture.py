"""How every picture of a model card looks: one size, one palette, one way to PNG."""

from __future__ import annotations

import io
import warnings
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

DPI = 150
WIDTH_IN = 8.0
COLOURS = 64
"""Of the PNG's palette: flat colours with smooth edges need no more, and the file is a third."""
INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
BLUE, ORANGE, GREEN, PURPLE = "#2b6cb0", "#d9772b", "#2f8f5b", "#7a57a8"
STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "text.parse_math": False,  # a label may hold dollar signs
    "axes.titlecolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


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
