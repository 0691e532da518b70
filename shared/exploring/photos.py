"""What photos look like: size, brightness, contrast, blur; the same and nearly the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from shared.exploring.labels import nearest

SIDE = 64
"""Pixels of the small grey copy that photos are compared by."""
THUMB = 96
"""Pixels of the longer side of what the page shows."""
ALIKE = 0.98
"""Correlation of two aligned copies, blurred, from which they are the same photo."""
_BLUR = ImageFilter.GaussianBlur(1.0)
"""What photos are compared through: fine texture changes wherever a photo is cropped or turned by a part of a pixel."""
MEANING = 0.6
"""Cosine of their features, below which two photos are not aligned."""
SMALL_SIDE = 16
SMALL_ALIKE = 0.9
"""Cosine of their small grey copies, below which two photos are not aligned for that."""
NEIGHBOURS = 5
_SCALES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
_TURNS = (-10.0, -6.7, -3.3, 0.0, 3.3, 6.7, 10.0)
_WORTH_A_LOOK = 0.8
"""Coarse correlation from which two photos are compared finely."""
_GLANCED_SCALES = (0.7, 0.8, 0.9, 1.0)
_GLANCED_TURNS = (-8.0, 0.0, 8.0)
_GLANCED_ALIKE = 0.76
"""Correlation at a glance from which two photos are aligned; that of 300 photos with their copies is .80 at least."""
_FINER = ((0.0, 0.0), (0.03, 1.7), (0.03, 1.7), (0.015, 0.8))
"""Steps of scale and degrees around the best form so far."""
_SEEN = 2.0
"""Standard deviation of grey values, of 255, below which there is nothing to be seen."""
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


def nearly_same(greys: np.ndarray, ratios: np.ndarray, features: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yield (row, row, correlation) of photos that are one photo cropped, turned, mirrored or squeezed, each pair once.

    Two photos are aligned if one is among the nearest of the other, by features or as small grey pictures: a network
    sees a photo that was made smaller as another one, and two grey pictures a mirrored one.

    Args:
        greys: uint8 [N, SIDE, SIDE].
        ratios: float [N], widths divided by heights.
        features: float [N, D].
    """
    pairs = {*_near(features, MEANING), *_near(_small(greys), SMALL_ALIKE)}
    glanced = {row: _Glanced(greys[row], float(ratios[row])) for row in sorted({row for pair in pairs for row in pair})}
    for one, other in sorted(pairs):
        if glanced[one].likeness(glanced[other]) < _GLANCED_ALIKE:
            continue
        likeness = aligned_correlation(greys[one], greys[other], float(ratios[one]), float(ratios[other]))
        if likeness >= ALIKE:
            yield one, other, likeness


def _near(features: np.ndarray, least: float) -> Iterator[tuple[int, int]]:
    rows, cosines = nearest(features, NEIGHBOURS)
    for one, place in zip(*np.nonzero(cosines >= least), strict=True):
        other = int(rows[one, place])
        yield min(int(one), other), max(int(one), other)


def _small(greys: np.ndarray) -> np.ndarray:
    """Return pictures of `SMALL_SIDE` squared with mean 0 as rows, float32 [N, SMALL_SIDE * SMALL_SIDE]."""
    step = SIDE // SMALL_SIDE
    cells = greys.reshape(len(greys), SMALL_SIDE, step, SMALL_SIDE, step).mean(axis=(2, 4), dtype=np.float32)
    rows = cells.reshape(len(greys), -1)
    return np.asarray(rows - rows.mean(axis=1, keepdims=True))


def aligned_correlation(
    first: np.ndarray, second: np.ndarray, first_ratio: float = 1.0, second_ratio: float = 1.0
) -> float:
    """Return how alike two photos are where they lie best on one another, at most 1.

    The inner part of each is looked for in the other, made smaller by up to three tenths, mirrored, and turned by up to
    10 degrees: first coarsely, then finely around the best place.

    Args:
        first: uint8 [SIDE, SIDE].
        second: likewise.
        first_ratio: width divided by height, before it was squeezed to a square: it is turned as it was.
        second_ratio: likewise.
    """
    return max(
        _found_in(_Whole(first), _Sought(second, second_ratio)), _found_in(_Whole(second), _Sought(first, first_ratio))
    )


class _Glanced:
    """A photo at `SMALL_SIDE` pixels a side, which tells in a tenth of a millisecond that most others are not it."""

    def __init__(self, grey: np.ndarray, ratio: float) -> None:
        image = Image.fromarray(grey)
        forms = [_turned(image, ratio, mirrored, turn) for mirrored in (False, True) for turn in _GLANCED_TURNS]
        step = SIDE // SMALL_SIDE
        small = grey.reshape(SMALL_SIDE, step, SMALL_SIDE, step).mean(axis=(1, 3), dtype=np.float32)
        self.parts: list[np.ndarray] = []
        self.places: list[np.ndarray] = []
        for scale in _GLANCED_SCALES:
            size = round(SMALL_SIDE * scale)
            made = [_inner(form.resize((size, size), Image.Resampling.BOX), SMALL_SIDE) for form in forms]
            edge = len(made[0])
            self.parts.append(_unit(np.stack(made).reshape(len(made), -1)))
            self.places.append(_unit(sliding_window_view(small, (edge, edge)).reshape(-1, edge * edge)))

    def likeness(self, other: _Glanced) -> float:
        """Return the best correlation of the inner part of one, in a few forms, with a place of the other."""
        both = (*zip(self.parts, other.places, strict=True), *zip(other.parts, self.places, strict=True))
        return max(float((parts @ places.T).max()) for parts, places in both)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows with mean 0 and length 1, or all 0 where there is nothing to be seen; float32 [N, D]."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length < _SEEN * np.sqrt(rows.shape[1]), 0, centred / np.maximum(length, 1e-9)).astype(np.float32)


class _Whole:
    """A photo in which others are looked for."""

    def __init__(self, grey: np.ndarray) -> None:
        self.grey = grey
        self.coarse = _spectra(_halved(grey))


class _Sought:
    """A photo whose inner part is looked for, in all the forms that it may have."""

    def __init__(self, grey: np.ndarray, ratio: float) -> None:
        self.grey, self.ratio = grey, ratio
        self.forms = [(scale, [(m, t) for m in (False, True) for t in _TURNS]) for scale in _SCALES]
        small = Image.fromarray(_halved(grey).astype(np.uint8))
        self.parts = [np.stack([_part(small, ratio, m, scale, t) for m, t in of]) for scale, of in self.forms]


def _found_in(whole: _Whole, sought: _Sought) -> float:
    """Return the best correlation of the inner part of one photo with any place of another."""
    best, form = -1.0, (False, 1.0, 0.0)
    for (scale, of), parts in zip(sought.forms, sought.parts, strict=True):
        found = _correlations(whole.coarse, parts, SIDE // 2)
        place = int(found.argmax())
        if found[place] > best:
            best, form = float(found[place]), (of[place][0], scale, of[place][1])
    if best < _WORTH_A_LOOK:
        return best
    best = -1.0  # a coarse picture is not compared with a fine one
    mirrored, scale, turn = form
    image = Image.fromarray(sought.grey).filter(_BLUR)
    spectra = _spectra(np.asarray(Image.fromarray(whole.grey).filter(_BLUR)))
    for apart, turned in _FINER:
        for finer in (scale - apart, scale, scale + apart):
            turns = [turn - turned, turn, turn + turned]
            parts = np.stack([_part(image, sought.ratio, mirrored, finer, each) for each in turns])
            found = _correlations(spectra, parts, SIDE)
            place = int(found.argmax())
            if found[place] > best:
                best, form = float(found[place]), (mirrored, finer, turns[place])
        _, scale, turn = form
    return best


def _halved(grey: np.ndarray) -> np.ndarray:
    half = SIDE // 2
    return np.asarray(grey.reshape(half, 2, half, 2).mean(axis=(1, 3)))


def _part(image: Image.Image, ratio: float, mirrored: bool, scale: float, turn: float) -> np.ndarray:
    """Return the inner part of a picture in one of its forms, float64 [E, E]."""
    made = _turned(image, ratio, mirrored, turn)
    size = max(8, round(image.width * scale))
    if made.size != (size, size):
        made = made.resize((size, size), Image.Resampling.BILINEAR)
    return _inner(made, image.width)


def _turned(image: Image.Image, ratio: float, mirrored: bool, turn: float) -> Image.Image:
    """Return a square picture mirrored, stretched to what it was, and turned."""
    made = ImageOps.mirror(image) if mirrored else image
    if not turn:
        return made
    wide = max(8, round(image.height * min(3.0, max(1 / 3, ratio))))
    return made.resize((wide, image.height), Image.Resampling.BILINEAR).rotate(turn, Image.Resampling.BILINEAR)


def _inner(made: Image.Image, side: int) -> np.ndarray:
    """Return the middle of a square picture, at most `_INNER` of a side of the one that it is looked for in."""
    edge = round(min(made.width, side) * _INNER)
    start = (made.width - edge) // 2
    return np.asarray(made, dtype=np.float64)[start : start + edge, start : start + edge]


def _spectra(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = picture.astype(np.float64)
    return np.fft.rfft2(found), np.fft.rfft2(found**2)


def _correlations(spectra: tuple[np.ndarray, np.ndarray], parts: np.ndarray, side: int) -> np.ndarray:
    """Return the greatest normalised correlation of each part with the places that it fits into, float64 [N].

    Args:
        spectra: of the whole picture and of its squares.
        parts: float64 [N, E, E].
        side: of the whole picture.
    """
    count, edge, _ = parts.shape
    area, places = edge**2, side - edge + 1
    deviations = parts.std(axis=(1, 2))  # [N]
    padded = np.zeros((count, side, side))
    padded[:, :edge, :edge] = parts - parts.mean(axis=(1, 2), keepdims=True)
    window = np.zeros((side, side))
    window[:edge, :edge] = 1
    frame = np.conj(np.fft.rfft2(window))
    shape = (side, side)
    products = np.fft.irfft2(spectra[0] * np.conj(np.fft.rfft2(padded)), shape)[:, :places, :places]
    means = np.fft.irfft2(spectra[0] * frame, shape)[:places, :places] / area
    variances = np.fft.irfft2(spectra[1] * frame, shape)[:places, :places] / area - means**2
    found = products / (area * np.maximum(deviations, 1e-9)[:, None, None] * np.sqrt(np.maximum(variances, 4)))
    return np.where(deviations < _SEEN, -1.0, found.max(axis=(1, 2)))


def _sharpness(grey: np.ndarray) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.std())
