"""Near-copies of photos: true copies are found, and other things before the same background are none."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from shared.exploring.photos import Album, Looked, look, nearly_same

WIDTH, HEIGHT = 240, 180
BLUE, ORANGE, RED, TEAL = (40, 70, 200), (240, 140, 30), (200, 60, 60), (40, 119, 119)
"""Red and teal are equally light in grey."""


def drawn(shape: str, colour: tuple[int, int, int], seed: int) -> Image.Image:
    """Return a tree or a circle before a sky that goes over into a meadow, the same for all."""
    rng = np.random.default_rng(seed)
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    sky = np.array([120, 180, 240]) * (1 - down) + np.array([60, 120, 50]) * down
    pixels = np.broadcast_to(sky, (HEIGHT, WIDTH, 3)) + rng.normal(0, 3, (HEIGHT, WIDTH, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = WIDTH // 2 + int(rng.integers(-40, 41)), HEIGHT // 2 + int(rng.integers(-15, 26))
    size = int(rng.integers(25, 46))
    if shape == "tree":
        draw.polygon([(x, y - size), (x - size, y + size // 2), (x + size, y + size // 2)], fill=colour)
        draw.rectangle((x - size // 6, y + size // 2, x + size // 6, y + size), fill=(90, 60, 30))
    else:
        draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
    return image


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def inner(image: Image.Image, edge: float) -> Image.Image:
    x, y = int(image.width * edge), int(image.height * edge)
    return image.crop((x, y, image.width - x, image.height - y))


def pairs(*photos: bytes) -> list[tuple[int, int]]:
    """Return the rows that are found to be the same; features say that all photos are alike."""
    looked: Sequence[Looked] = [found for photo in photos if not isinstance(found := look(photo), str)]
    found = nearly_same(Album.of(looked), np.ones((len(looked), 4), dtype=np.float32))
    return [(one, other) for one, other, _ in found]


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "mirrored": lambda image: jpeg(ImageOps.mirror(image)),
    "cropped by a tenth": lambda image: jpeg(inner(image, 0.1)),
    "turned by 5 degrees": lambda image: jpeg(inner(image.rotate(5, Image.Resampling.BICUBIC), 0.08)),
    "JPEG quality 30": lambda image: jpeg(image, 30),
    "half the size": lambda image: jpeg(image.resize((WIDTH // 2, HEIGHT // 2))),
    "a quarter brighter": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.25)),
    "squeezed": lambda image: jpeg(image.resize((int(WIDTH * 0.8), HEIGHT))),
}


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_of_a_photo_with_much_background_is_found(change: str):
    for seed, (shape, colour) in enumerate((("tree", BLUE), ("circle", ORANGE), ("circle", RED)) * 2):
        image = drawn(shape, colour, seed)
        assert pairs(jpeg(image), COPIES[change](image)) == [(0, 1)], (shape, seed)


@pytest.mark.parametrize("same_place", [True, False])
def test_different_things_before_the_same_background_are_no_copies(same_place: bool):
    for seed in range(6):
        other = drawn("circle", ORANGE, seed if same_place else seed + 50)
        assert pairs(jpeg(drawn("tree", BLUE, seed)), jpeg(other)) == []


@pytest.mark.parametrize(("one", "other"), [(BLUE, ORANGE), (RED, TEAL)])
def test_the_same_thing_in_another_colour_is_no_copy(one: tuple[int, int, int], other: tuple[int, int, int]):
    for seed in range(6):
        for shape in ("tree", "circle"):
            assert pairs(jpeg(drawn(shape, one, seed)), jpeg(drawn(shape, other, seed))) == []


def test_a_small_thing_before_a_busy_background_makes_another_photo():
    rng = np.random.default_rng(0)
    busy = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC
    )
    marked = busy.copy()
    ImageDraw.Draw(marked).ellipse((90, 60, 140, 110), fill=BLUE)
    assert pairs(jpeg(busy), jpeg(busy, 30)) == [(0, 1)]
    assert pairs(jpeg(busy), jpeg(marked)) == []
