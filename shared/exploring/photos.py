"""What photos look like: size, brightness, contrast, blur; the same and nearly the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SIDE = 64
"""Pixels of the small grey copy that photos are compared by."""
THUMB = 96
"""Pixels of the longer side of what the page shows."""
ALIKE = 0.95
"""Correlation of two aligned copies from which they are the same photo."""
MEANING = 0.6
"""Cosine of their features, below which two photos are not aligned."""
_SCALES = (0.75, 0.85, 1.0, 1.15, 1.3)
_TURNS = (-10.0, -6.0, -3.0, 0.0, 3.0, 6.0, 10.0)
_INNER = 0.7
"""Share of a side that is looked for in the other photo."""
_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Looked:
    """What a photo looks like."""

    width: int
    height: int
    format: str
    brightness: float
    """Mean of its grey values, 0 to 1."""
    contrast: float
    """Their standard deviation."""
    sharpness: float
    """Standard deviation of the Laplacian of the copy whose longer side is 256 pixels; low is blurred."""
    grey: np.ndarray
    """uint8 [SIDE, SIDE], squeezed to a square."""
    thumb: bytes
    """A small JPEG for the page."""


def look(content: bytes) -> Looked | str:
    """Return what a photo looks like, or why it cannot be seen."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                return f"is {opened.width}x{opened.height} px, too large to look at"
            kind = opened.format or "?"
            width, height = opened.size
            opened.draft("RGB", (512, 512))  # a JPEG is decoded at about this size
            photo = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"cannot be decoded: {error}"
    photo.thumbnail((256, 256))
    grey = np.asarray(photo.convert("L"), dtype=np.float32) / 255
    small = np.asarray(photo.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)
    photo.thumbnail((THUMB, THUMB))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=70)
    return Looked(width, height, kind, float(grey.mean()), float(grey.std()), _sharpness(grey), small, file.getvalue())


def nearly_same(greys: np.ndarray, rows: np.ndarray, cosines: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yield (row, row, correlation) of photos that are one photo cropped, turned, mirrored or squeezed, each pair once.

    Args:
        greys: uint8 [N, SIDE, SIDE].
        rows: int64 [N, K], the nearest others of each, by features.
        cosines: float [N, K], of their features.
    """
    pairs = {(min(i, int(j)), max(i, int(j))) for i, near in enumerate(rows) for k, j in enumerate(near)
             if cosines[i, k] >= MEANING}  # fmt: skip
    for one, other in sorted(pairs):
        likeness = aligned_correlation(greys[one], greys[other])
        if likeness >= ALIKE:
            yield one, other, likeness


def aligned_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return how alike two photos are where they lie best on one another, at most 1.

    The inner part of each is looked for in the other, which is mirrored, turned by up to 10 degrees and squeezed.

    Args:
        first: uint8 [SIDE, SIDE].
        second: likewise.
    """
    return max(_found_in(first, second), _found_in(second, first))


def _found_in(whole: np.ndarray, other: np.ndarray) -> float:
    """Return the best correlation of the inner part of `other` with any place of `whole`."""
    side = len(whole)
    picture = whole.astype(np.float64)
    spectrum = np.fft.rfft2(picture)
    squares = np.fft.rfft2(picture**2)
    image = Image.fromarray(other)
    best = -1.0
    for mirrored, scale, turn in product((False, True), _SCALES, _TURNS):
        made = ImageOps.mirror(image) if mirrored else image
        if turn:
            made = made.rotate(turn, Image.Resampling.BILINEAR)
        size = max(8, round(side * scale))
        made = made.resize((size, size), Image.Resampling.BILINEAR) if size != side else made
        edge = round(min(size, side) * _INNER)
        start = (size - edge) // 2
        part = np.asarray(made, dtype=np.float64)[start : start + edge, start : start + edge]
        best = max(best, _correlated(spectrum, squares, part, side))
        if best > 0.995:
            break
    return best


def _correlated(spectrum: np.ndarray, squares: np.ndarray, part: np.ndarray, side: int) -> float:
    """Return the greatest normalised correlation of a part with the places that it fits into."""
    edge = len(part)
    deviation = part.std()
    if deviation < 2:  # of 255: nothing to be seen
        return -1.0
    centred = np.zeros((side, side))
    centred[:edge, :edge] = part - part.mean()
    window = np.zeros((side, side))
    window[:edge, :edge] = 1
    frame = np.conj(np.fft.rfft2(window))
    places = side - edge + 1
    products = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(centred)), (side, side))[:places, :places]
    means = np.fft.irfft2(spectrum * frame, (side, side))[:places, :places] / edge**2
    variances = np.fft.irfft2(squares * frame, (side, side))[:places, :places] / edge**2 - means**2
    return float((products / (edge**2 * deviation * np.sqrt(np.maximum(variances, 4)))).max())


def _sharpness(grey: np.ndarray) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.std())
