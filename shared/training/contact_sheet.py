"""Photos in a grid with what holds and what was given: for looking at a model's errors."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont, ImageOps

from shared.errors import DataError

THUMBNAIL_PX = 240
COLUMNS = 4
GAP_PX = 16
LINE_PX = 17
TEXT_LINES = 3
TEXT_CHARACTERS = 32
INK, GREEN, PAPER = "#1f2933", "#2f8f5b", "#eef1f4"


def contact_sheet(photos: Sequence[tuple[Image.Image, str, str]]) -> bytes:
    """Return photos in a grid, under each what holds (green) and what was given.

    For the run folder only, never for a bundle: photos have owners.

    Args:
        photos: (photo, true tags, given tags with scores) each.

    Raises:
        DataError: there is no photo.
    """
    if not photos:
        raise DataError("a contact sheet needs one photo at least; came none.")
    font = ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 13)
    columns = min(COLUMNS, len(photos))
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
