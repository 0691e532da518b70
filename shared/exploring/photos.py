"""What photos look like: size, brightness, contrast, blur; the same and nearly the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

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
"""Pixels of a side of the small copies, grey and in colour."""
SMALL_ALIKE = 0.9
"""Cosine of their small grey copies, below which two photos are not aligned for that."""
MOST_APART = 0.22
"""Difference of a part, in colours and beside their contrast, up to which two aligned photos are the same. Of 150
photos of Caltech-101 and seven changed copies of each, at least 97 % of each kind of copy are below (2026-11-30)."""
_PART = 8
"""Pixels of a side of such a part."""
_LEAST_CONTRAST = 20.0
"""Of 255: what differs in a dull photo is compared with this."""
_CLIPPED = 250
"""Of 255: a brighter photo may have lost what is above."""
_BRIGHTER = 1.1
"""Factor of brightness from which the darker photo is made as bright before they are aligned."""
_WORTH_BRIGHTENING = 0.9
"""Correlation from which a photo is made as bright as the other."""
_MOST_FACTOR = 3.0
"""By which contrasts of the same photo differ."""
_LEAST_WHOLE = 0.01
"""Share of a photo that is not white, so that its brightness can be told by it."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Source: ITU-R BT.601, as in Pillow's mode L."""
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
    colours: np.ndarray
    """uint8 [SMALL_SIDE, SMALL_SIDE, 3], likewise."""
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
    small = np.asarray(photo.convert("L").resize((SIDE, SIDE), Image.Resampling.HAMMING), dtype=np.uint8)
    colours = np.asarray(photo.resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.HAMMING), dtype=np.uint8)
    photo.thumbnail((THUMB, THUMB))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=70)
    return Looked(
        width,
        height,
        kind,
        brightness=float(grey.mean()),
        contrast=float(grey.std()),
        sharpness=_sharpness(grey),
        grey=small,
        colours=colours,
        thumb=file.getvalue(),
    )


def nearly_same(
    greys: np.ndarray, ratios: np.ndarray, features: np.ndarray, colours: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """Yield (row, row, correlation) of photos that are one photo cropped, turned, mirrored or squeezed, each pair once.

    Two photos are aligned if one is among the nearest of the other, by features or as small grey pictures: a network
    sees a photo that was made smaller as another one, and two grey pictures a mirrored one. Aligned photos are the same
    if they correlate and no part of one differs from the other: two things before the same background correlate too.

    Args:
        greys: uint8 [N, SIDE, SIDE].
        ratios: float [N], widths divided by heights.
        features: float [N, D].
        colours: uint8 [N, SMALL_SIDE, SMALL_SIDE, 3].
    """
    pairs = {*_near(features, MEANING), *_near(_small(greys), SMALL_ALIKE)}
    glanced = {row: _Glanced(greys[row], float(ratios[row])) for row in sorted({row for pair in pairs for row in pair})}
    for one, other in sorted(pairs):
        if glanced[one].likeness(glanced[other]) < _GLANCED_ALIKE:
            continue
        first, second = (_Picture.of(greys[row], float(ratios[row]), colours[row]) for row in (one, other))
        likeness = _likeness(first, second)
        if likeness is not None:
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
    both = (_found_in(first, second, second_ratio), _found_in(second, first, first_ratio))
    return max(place.likeness for place in both)


@dataclass(frozen=True)
class _Picture:
    """A photo to be aligned with another."""

    grey: np.ndarray
    """uint8 [SIDE, SIDE]."""
    ratio: float
    colours: np.ndarray
    """float32 [SIDE, SIDE, 3], 0 to 255."""

    @classmethod
    def of(cls, grey: np.ndarray, ratio: float, small: np.ndarray) -> _Picture:
        """Return a photo with the details of its grey copy and the colours of its small one, as JPEG keeps both."""
        light = np.repeat(grey[:, :, np.newaxis].astype(np.float32), 3, axis=2)
        smooth = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        wide = np.asarray(smooth, dtype=np.float32)
        return cls(grey, ratio, np.clip(light + wide - (wide @ _LUMA)[:, :, np.newaxis], 0, 255))

    def brighter(self, factor: float) -> _Picture:
        """Return it times a factor; what gets too bright is white, as in a photo that was brightened."""
        colours = np.minimum(self.colours * factor, 255)
        return _Picture((colours @ _LUMA).round().clip(0, 255).astype(np.uint8), self.ratio, colours)


def _likeness(one: _Picture, other: _Picture) -> float | None:
    """Return the correlation of two photos where they lie on one another and no part differs; None if they do not."""
    found, best = _same(one, other)
    if found is not None or best < _WORTH_BRIGHTENING:
        return found
    factor = _brightening(one.colours, other.colours)
    if factor >= _BRIGHTER:
        return _same(one.brighter(factor), other)[0]
    if factor <= 1 / _BRIGHTER:
        return _same(one, other.brighter(1 / factor))[0]
    return None


def _same(one: _Picture, other: _Picture) -> tuple[float | None, float]:
    """Return the correlation where two photos are the same, None if they are not, and the best correlation."""
    best, found = -1.0, None
    for whole, sought in ((one, other), (other, one)):
        place = _found_in(whole.grey, sought.grey, sought.ratio)
        best = max(best, place.likeness)
        if place.likeness >= ALIKE and _most_apart(whole, sought, place) <= MOST_APART:
            found = max(place.likeness, found or -1.0)
    return found, best


def _brightening(one: np.ndarray, other: np.ndarray) -> float:
    """Return by what one is to be multiplied to be as bright as the other, if what gets too bright is white."""
    if one.mean() > other.mean():
        return 1 / _brightening(other, one)
    least, most = 1.0, 4.0
    for _ in range(12):
        middle = (least + most) / 2
        least, most = (middle, most) if np.minimum(one * middle, 255).mean() < other.mean() else (least, middle)
    return least


def _most_apart(whole: _Picture, sought: _Picture, place: _Place) -> float:
    """Return how much the part that differs most does so where one photo lies on the other, beside their contrast.

    A part's mean difference counts, at the best of the places half a pixel around.
    """
    image = Image.fromarray(sought.colours.astype(np.uint8)).filter(_BLUR)
    part = _part(image, sought.ratio, place.mirrored, place.scale, place.turn)  # [E, E, 3]
    below = np.asarray(Image.fromarray(whole.colours.astype(np.uint8)).filter(_BLUR), dtype=np.float64)
    return min(_apart(part, _shifted(below, place, len(part), *shift)) for shift in product((-0.5, 0.0, 0.5), repeat=2))


def _shifted(picture: np.ndarray, place: _Place, edge: int, down: float, right: float) -> np.ndarray:
    """Return the square of a picture at a place, moved by less than a pixel, float64 [edge, edge, 3]."""
    found = picture
    for axis, (start, move) in enumerate(((place.top, down), (place.left, right))):
        first = np.arange(start, start + edge)
        second = np.clip(first + int(np.sign(move)), 0, SIDE - 1)
        found = (1 - abs(move)) * found.take(first, axis) + abs(move) * found.take(second, axis)
    return found


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return how much the part that differs most does so, where brightness and contrast may differ as a whole.

    Args:
        one: float64 [E, E, 3], 0 to 255.
        other: likewise.
    """
    dark, bright = (one, other) if one.mean() < other.mean() else (other, one)
    is_whole = bright < _CLIPPED if (bright < _CLIPPED).mean() > _LEAST_WHOLE else np.ones(bright.shape, dtype=bool)
    lows, highs = dark[is_whole], bright[is_whole]
    spread = max(1e-9, float(((lows - lows.mean()) ** 2).mean()))
    factor = float(((lows - lows.mean()) * (highs - highs.mean())).mean()) / spread
    factor = min(_MOST_FACTOR, max(1 / _MOST_FACTOR, factor))
    apart = np.clip(factor * (dark - lows.mean()) + highs.mean(), 0, 255) - bright
    parts = sliding_window_view(apart, (_PART, _PART), axis=(0, 1)).mean(axis=(3, 4))  # [P, P, 3]
    contrast = float(np.sqrt(((bright - bright.mean(axis=(0, 1))) ** 2).mean()))
    return float(np.sqrt((parts**2).mean(axis=2)).max()) / max(contrast, _LEAST_CONTRAST)


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


@dataclass(frozen=True)
class _Place:
    """Where and how the inner part of one photo lies best on another."""

    likeness: float
    mirrored: bool = False
    scale: float = 1.0
    turn: float = 0.0
    top: int = 0
    left: int = 0


def _found_in(whole: np.ndarray, grey: np.ndarray, ratio: float) -> _Place:
    """Return where the inner part of a photo lies best on the whole of another; roughly if that is nowhere near.

    Args:
        whole: uint8 [SIDE, SIDE].
        grey: likewise, whose inner part is looked for in all the forms that it may have.
        ratio: of this one.
    """
    best = _Place(-1.0)
    forms = [(mirrored, turn) for mirrored in (False, True) for turn in _TURNS]
    coarse, small = _spectra(_halved(whole)), Image.fromarray(_halved(grey).astype(np.uint8))
    for scale in _SCALES:
        parts = np.stack([_part(small, ratio, mirrored, scale, turn) for mirrored, turn in forms])
        found = _correlations(coarse, parts, SIDE // 2).max(axis=(1, 2))
        place = int(found.argmax())
        if found[place] > best.likeness:
            best = _Place(float(found[place]), forms[place][0], scale, forms[place][1])
    if best.likeness < _WORTH_A_LOOK:
        return best
    best = replace(best, likeness=-1.0)  # a coarse picture is not compared with a fine one
    image = Image.fromarray(grey).filter(_BLUR)
    spectra = _spectra(np.asarray(Image.fromarray(whole).filter(_BLUR)))
    for apart, turned in _FINER:
        middle = best
        for scale in (middle.scale - apart, middle.scale, middle.scale + apart):
            turns = [middle.turn - turned, middle.turn, middle.turn + turned]
            parts = np.stack([_part(image, ratio, middle.mirrored, scale, turn) for turn in turns])
            found = _correlations(spectra, parts, SIDE)
            place, top, left = (int(each) for each in np.unravel_index(int(found.argmax()), found.shape))
            if found[place, top, left] > best.likeness:
                best = _Place(float(found[place, top, left]), middle.mirrored, scale, turns[place], top, left)
    return best


def _halved(grey: np.ndarray) -> np.ndarray:
    half = SIDE // 2
    return np.asarray(grey.reshape(half, 2, half, 2).mean(axis=(1, 3)))


def _part(image: Image.Image, ratio: float, mirrored: bool, scale: float, turn: float) -> np.ndarray:
    """Return the inner part of a picture in one of its forms, float64 [E, E], or [E, E, 3] in colour."""
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
    """Return the normalised correlation of each part with each place that it fits into, float64 [N, P, P].

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
    return np.where(deviations[:, None, None] < _SEEN, -1.0, found)


def _sharpness(grey: np.ndarray) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.std())
