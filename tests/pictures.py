"""Image files for tests, made with Pillow: good ones, odd ones and bad ones."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: tuple[int, ...] = RED, size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    return encode(Image.new("RGB", size, colour), kind)


def truncated_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise), "JPEG")
    return whole[: len(whole) // 2]


def animated(kind: str) -> bytes:
    """The first frame is red, the second green."""
    first, second = (Image.new("RGB", (64, 48), colour) for colour in (RED, GREEN))
    options = {"lossless": True} if kind == "WEBP" else {}
    return encode(first, kind, save_all=True, append_images=[second], duration=50, **options)


def cmyk_jpeg() -> bytes:
    """Cyan off, magenta and yellow on: red."""
    return encode(Image.new("CMYK", (64, 48), (0, 255, 255, 0)), "JPEG", quality=95)


def grey16_png(value: int = 40_000) -> bytes:
    return encode(Image.fromarray(np.full((48, 64), value, dtype=np.uint16)))


def quarter_turned_jpeg() -> bytes:
    """64x48 in the file, 48x64 for who looks at it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(Image.new("RGB", (64, 48), RED), "JPEG", exif=exif, quality=95)


def transparent_palette_png() -> bytes:
    """A palette of one colour, green, all of it transparent: white for who looks at it."""
    image = Image.new("P", (64, 48), 0)
    image.putpalette([*GREEN, *([0] * 765)])
    return encode(image, transparency=0)


def bomb_png() -> bytes:
    """88 megapixels in 86 KB."""
    return encode(Image.new("L", (9400, 9400)))


def tiff() -> bytes:
    return encode(Image.new("RGB", (8, 8), RED), "TIFF")
