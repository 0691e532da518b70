"""What photos look like: size, brightness, contrast, blur; the same and nearly the same."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from shared.errors import PerceptError
from shared.exploring.labels import nearest
from shared.orphans import end_with_parent

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
_WORTH_GOING_ON = (0.8, 0.9, 0.9, 0.0)
"""Correlation after each of these steps from which the next is made; of 60 photos with 420 changed copies, what ended
as the same had .826, .929 and .929 at least (2026-12-01)."""
_SEEN = 2.0
"""Standard deviation of grey values, of 255, below which there is nothing to be seen."""
_INNER = 0.7
"""Share of a side that is looked for in the other photo."""
_MAX_PIXELS = 100_000_000
_PAIRS_AT_ONCE = 512
"""Pairs that a process compares before it tells; of fewer, no process is started."""
_KNOWN = 1500
"""Photos whose look at a glance is kept, 100 kB each: photos that are alike mostly lie in the same folder."""


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


@dataclass(frozen=True)
class Album:
    """What photos are compared by."""

    greys: np.ndarray
    """uint8 [N, SIDE, SIDE]."""
    ratios: np.ndarray
    """float [N], widths divided by heights."""
    colours: np.ndarray
    """uint8 [N, SMALL_SIDE, SMALL_SIDE, 3]."""
    _known: dict[int, _Glanced] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, looked: Sequence[Looked]) -> Album:
        """Return the album of photos that were looked at."""
        return cls(
            np.array([each.grey for each in looked], dtype=np.uint8).reshape(-1, SIDE, SIDE),
            np.array([each.width / each.height for each in looked], dtype=np.float64),
            np.array([each.colours for each in looked], dtype=np.uint8).reshape(-1, SMALL_SIDE, SMALL_SIDE, 3),
        )

    def same_of(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int, float]]:
        """Return which pairs are one photo, with their correlation."""
        found = []
        for one, other in pairs:
            ways = self._glanced(one).ways_to_lie_on(self._glanced(other))
            if not ways:
                continue
            first, second = (
                _Picture.of(self.greys[row], float(self.ratios[row]), self.colours[row]) for row in (one, other)
            )
            likeness = _likeness(first, second, ways)
            if likeness is not None:
                found.append((one, other, likeness))
        return found

    def _glanced(self, row: int) -> _Glanced:
        found = self._known.pop(row, None) or _Glanced(self.greys[row], float(self.ratios[row]))
        self._known[row] = found  # the last is the latest
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]
        return found


def nearly_same(album: Album, features: np.ndarray, processes: int | None = None) -> Iterator[tuple[int, int, float]]:
    """Yield (row, row, correlation) of photos that are one photo cropped, turned, mirrored or squeezed, each pair once.

    Two photos are aligned if one is among the nearest of the other, by features or as small grey pictures: a network
    sees a photo that was made smaller as another one, and two grey pictures a mirrored one. Aligned photos are the same
    if they correlate and no part of one differs from the other: two things before the same background correlate too.

    Args:
        album: what they look like.
        features: float [N, D].
        processes: that compare at the same time; one for each core by default.

    Raises:
        PerceptError: such a process was ended from outside.
    """
    pairs = sorted({*_near(features, MEANING), *_near(_small(album.greys), SMALL_ALIKE)})
    parts = [pairs[start : start + _PAIRS_AT_ONCE] for start in range(0, len(pairs), _PAIRS_AT_ONCE)]
    with tqdm(total=len(pairs), desc="comparing photos", unit=" pairs") as bar:
        for part, found in zip(parts, _compared(album, parts, processes or os.cpu_count() or 1), strict=True):
            yield from found
            bar.update(len(part))


def _compared(
    album: Album, parts: Sequence[Sequence[tuple[int, int]]], processes: int
) -> Iterator[list[tuple[int, int, float]]]:
    if processes == 1 or len(parts) <= 1:
        yield from map(album.same_of, parts)
        return
    context = multiprocessing.get_context("spawn")  # threads of the network that looked do not live through a fork
    count = min(processes, len(parts))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_open_album, initargs=(album,)) as pool:
        try:
            yield from pool.map(_same_in_album, parts)
        except BrokenProcessPool as error:
            raise PerceptError("a process that compared photos was ended from outside, mostly for want of memory; "
                               "explore fewer photos at once, or with more memory.") from error  # fmt: skip
        finally:
            pool.shutdown(cancel_futures=True)


_album: list[Album] = []
"""What this process compares, if it was started for that."""


def _open_album(album: Album) -> None:
    end_with_parent()
    _album[:] = [album]


def _same_in_album(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int, float]]:
    return _album[0].same_of(pairs)


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
    either = (False, True)
    both = (_found_in(first, second, second_ratio, either), _found_in(second, first, first_ratio, either))
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


def _likeness(one: _Picture, other: _Picture, ways: _Ways) -> float | None:
    """Return the correlation of two photos where they lie on one another and no part differs; None if they do not."""
    found, best = _same(one, other, ways)
    if found is not None or best < _WORTH_BRIGHTENING:
        return found
    factor = _brightening(one.colours, other.colours)
    if factor >= _BRIGHTER:
        return _same(one.brighter(factor), other, ways)[0]
    if factor <= 1 / _BRIGHTER:
        return _same(one, other.brighter(1 / factor), ways)[0]
    return None


def _same(one: _Picture, other: _Picture, ways: _Ways) -> tuple[float | None, float]:
    """Return the correlation where two photos are the same, None if they are not, and the best correlation."""
    best, found = -1.0, None
    for (whole, sought), mirrorings in zip(((one, other), (other, one)), ways, strict=True):
        if not mirrorings:
            continue
        place = _found_in(whole.grey, sought.grey, sought.ratio, mirrorings)
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


_Ways = tuple[tuple[bool, ...], tuple[bool, ...]]
"""For the second of two photos on the first, and the first on the second: as it is, mirrored, both, or not at all."""


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
            made = [_inner(form, size, SMALL_SIDE, Image.Resampling.BOX) for form in forms]
            edge = len(made[0])
            self.parts.append(_unit(np.stack(made).reshape(len(made), -1)))
            self.places.append(_unit(sliding_window_view(small, (edge, edge)).reshape(-1, edge * edge)))

    def ways_to_lie_on(self, other: _Glanced) -> _Ways | None:
        """Return how the inner part of the other may lie on this one, and of this one on the other; None if neither."""
        ways = tuple(
            tuple(
                mirrored
                for mirrored, forms in (
                    (False, slice(0, len(_GLANCED_TURNS))),
                    (True, slice(len(_GLANCED_TURNS), None)),
                )
                if max(float((parts[forms] @ places.T).max()) for parts, places in sides) >= _GLANCED_ALIKE
            )
            for sides in (
                tuple(zip(other.parts, self.places, strict=True)),
                tuple(zip(self.parts, other.places, strict=True)),
            )
        )
        return ways if any(ways) else None  # type: ignore[return-value]  # a tuple of two


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


def _found_in(whole: np.ndarray, grey: np.ndarray, ratio: float, mirrorings: Sequence[bool]) -> _Place:
    """Return where the inner part of a photo lies best on the whole of another; roughly if that is nowhere near.

    Args:
        whole: uint8 [SIDE, SIDE].
        grey: likewise, whose inner part is looked for in all the forms that it may have.
        ratio: of this one.
        mirrorings: whether it is looked for as it is, mirrored, or both.
    """
    best = _Place(-1.0)
    forms = [(mirrored, turn) for mirrored in mirrorings for turn in _TURNS]
    coarse, small = _Whole.of(_halved(whole)), Image.fromarray(_halved(grey).astype(np.uint8))
    turned = [_turned(small, ratio, mirrored, turn) for mirrored, turn in forms]
    for scale in _SCALES:
        parts = np.stack([_scaled(form, scale, SIDE // 2) for form in turned])
        found = coarse.correlations(parts).max(axis=(1, 2))
        place = int(found.argmax())
        if found[place] > best.likeness:
            best = _Place(float(found[place]), forms[place][0], scale, forms[place][1])
    if best.likeness < _WORTH_A_LOOK:
        return best
    best = replace(best, likeness=-1.0)  # a coarse picture is not compared with a fine one
    image = Image.fromarray(grey).filter(_BLUR)
    fine = _Whole.of(np.asarray(Image.fromarray(whole).filter(_BLUR)))
    for (apart, by), enough in zip(_FINER, _WORTH_GOING_ON, strict=True):
        middle = best
        turns = sorted({middle.turn - by, middle.turn, middle.turn + by})
        turned = [_turned(image, ratio, middle.mirrored, turn) for turn in turns]
        for scale in sorted({middle.scale - apart, middle.scale, middle.scale + apart}):
            parts = np.stack([_scaled(form, scale, SIDE) for form in turned])
            found = fine.correlations(parts)
            place, top, left = (int(each) for each in np.unravel_index(int(found.argmax()), found.shape))
            if found[place, top, left] > best.likeness:
                best = _Place(float(found[place, top, left]), middle.mirrored, scale, turns[place], top, left)
        if best.likeness < enough:
            break
    return best


def _halved(grey: np.ndarray) -> np.ndarray:
    half = SIDE // 2
    return np.asarray(grey.reshape(half, 2, half, 2).mean(axis=(1, 3)))


def _part(image: Image.Image, ratio: float, mirrored: bool, scale: float, turn: float) -> np.ndarray:
    """Return the inner part of a picture in one of its forms, float32 [E, E], or [E, E, 3] in colour."""
    return _scaled(_turned(image, ratio, mirrored, turn), scale, image.width)


def _scaled(form: np.ndarray, scale: float, side: int) -> np.ndarray:
    """Return the inner part of a form of a picture that had this side, made smaller."""
    return _inner(form, max(8, round(side * scale)), side, Image.Resampling.BILINEAR)


def _turned(image: Image.Image, ratio: float, mirrored: bool, turn: float) -> np.ndarray:
    """Return a square picture mirrored, stretched to what it was, and turned; float32 [H, W], or [H, W, 3]."""
    made = ImageOps.mirror(image) if mirrored else image
    if turn:
        wide = max(8, round(image.height * min(3.0, max(1 / 3, ratio))))
        made = made.resize((wide, image.height), Image.Resampling.BILINEAR).rotate(turn, Image.Resampling.BILINEAR)
    return np.asarray(made, dtype=np.float32)


def _inner(form: np.ndarray, size: int, side: int, how: Image.Resampling) -> np.ndarray:
    """Return the middle of a form made this size, at most `_INNER` of a side of the one that it is looked for in."""
    edge = round(min(size, side) * _INNER)
    middle = slice((size - edge) // 2, (size - edge) // 2 + edge)
    down, across = (_resampling(length, size, how)[middle] for length in form.shape[:2])
    if form.ndim == 2:
        return np.asarray(down @ form @ across.T)
    return np.asarray(np.moveaxis(down @ np.moveaxis(form, 2, 0) @ across.T, 0, 2))


@cache
def _resampling(before: int, size: int, how: Image.Resampling) -> np.ndarray:
    """Return by what a picture of so many rows is to be multiplied to have `size` rows, as Pillow makes it smaller."""
    return np.asarray(Image.fromarray(np.eye(before, dtype=np.float32)).resize((before, size), how))


@dataclass(frozen=True)
class _Whole:
    """A picture in which parts are looked for."""

    spectrum: np.ndarray
    """complex64 [S, S // 2 + 1]."""
    sums: np.ndarray
    """float64 [S + 1, S + 1]: of all above and to the left of a place."""
    squares: np.ndarray
    """Likewise of their squares."""

    @classmethod
    def of(cls, picture: np.ndarray) -> _Whole:
        """Return it of a square picture, 0 to 255."""
        centred = picture.astype(np.float32) - np.float32(picture.mean())
        exact = centred.astype(np.float64)
        sums, squares = (np.pad(each.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0))) for each in (exact, exact**2))
        return cls(np.fft.rfft2(centred), sums, squares)

    def correlations(self, parts: np.ndarray) -> np.ndarray:
        """Return the normalised correlation of each part with each place that it fits into, float64 [N, P, P].

        Args:
            parts: float32 [N, E, E].
        """
        count, edge, _ = parts.shape
        side = len(self.sums) - 1
        area, places = edge**2, side - edge + 1
        deviations = parts.std(axis=(1, 2))  # [N]
        padded = np.zeros((count, side, side), dtype=np.float32)
        padded[:, :edge, :edge] = parts - parts.mean(axis=(1, 2), keepdims=True)
        products = np.fft.irfft2(self.spectrum * np.conj(np.fft.rfft2(padded)), (side, side))[:, :places, :places]
        means, of_squares = (
            (each[edge:, edge:] - each[:-edge, edge:] - each[edge:, :-edge] + each[:-edge, :-edge]) / area
            for each in (self.sums, self.squares)
        )
        spreads = np.sqrt(np.maximum(of_squares - means**2, 4))
        found = products / (area * np.maximum(deviations, 1e-9)[:, None, None] * spreads)
        return np.where(deviations[:, None, None] < _SEEN, -1.0, found)


def _sharpness(grey: np.ndarray) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.std())
