"""Image files as nobody should send them: real ones of every kind, cut, flipped, spliced and made to lie.

Each file is made of a random generator alone, so its number says which it was. Files that were real once get further
into a decoder than random bytes do; where a format has checksums, they are set right again behind a change.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

SIZES = (0, 1, 2, 7, 64, 255, 256, 4095, 6324, 6325, 9400, 32767, 40_000_000, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
"""What headers claim of width and height; 6,324² is just below the limit of 40 megapixels."""
_PNG = b"\x89PNG\r\n\x1a\n"


def make_image(rng: random.Random) -> bytes:
    """Return a file."""
    name, content = rng.choice(seeds())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        own = _OWN.get(name.partition(" ")[0])
        change = own if own is not None and rng.random() < 0.4 else rng.choice(_ANY)
        content = change(content, rng)
    return content


@cache
def seeds() -> list[tuple[str, bytes]]:
    """Return name and bytes of good files of every kind that is accepted, and of some that are not."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 4), dtype=np.uint8)
    noise[:24] //= 8  # half of it is nearly plain, so that every coder has something to do
    rgba = Image.fromarray(noise, "RGBA")
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    palette = rgb.quantize(40)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    found: list[tuple[str, bytes]] = []

    def add(name: str, image: Image.Image, **options: object) -> None:
        buffer = io.BytesIO()
        image.save(buffer, name.partition(" ")[0], **options)
        found.append((name, buffer.getvalue()))

    profile = bytes(range(256)) * 20
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        exif[0x010E] = "x" * turn
        add(f"JPEG turned {turn}", rgb, exif=exif)
    add("JPEG", rgb.resize((320, 240)), quality=90)
    add("JPEG progressive", rgb, progressive=True, icc_profile=profile, comment=b"hello")
    add("JPEG grey", grey, restart_marker_blocks=1)
    add("JPEG CMYK", rgb.convert("CMYK"), subsampling=0)
    for mode, image in {"1": grey.convert("1"), "L": grey, "LA": rgba.convert("LA"), "16": deep, "RGBA": rgba}.items():
        add(f"PNG {mode}", image)
    add("PNG", rgb, icc_profile=profile)
    add("PNG palette", palette, transparency=bytes(range(40)))
    add("PNG moving", rgb, save_all=True, append_images=[rgba, grey], duration=20)
    add("WEBP", rgb, quality=60, icc_profile=profile)
    add("WEBP lossless", rgba, lossless=True)
    add("WEBP moving", rgb, save_all=True, append_images=[rgba], duration=20)
    add("GIF", palette, transparency=3)
    add("GIF moving", palette, save_all=True, append_images=[rgb, grey], duration=20, disposal=2)
    for mode, image in {"1": grey.convert("1"), "L": grey, "P": palette, "RGB": rgb, "RGBA": rgba}.items():
        add(f"BMP {mode}", image)
    for kind in ("TIFF", "ICO", "PPM", "TGA", "PCX", "DDS", "SGI", "ICNS", "PDF", "EPS", "JPEG2000", "AVIF"):
        if kind in Image.SAVE or kind == "PDF":
            add(kind, rgb)
    found += [
        (
            "SVG",
            b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        ),
        ("ZIP", b"PK\x03\x04" + bytes(60)),
        ("text", b"P1 9999999 9999999 " + b"0 " * 200),
        ("nothing", b""),
    ]
    return found


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    end = len(changed) if rng.random() < 0.5 else min(64, len(changed))  # headers are where the harm is
    for _ in range(rng.randint(1, 8)):
        if end:
            changed[rng.randrange(end)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(content))
    filler = rng.choice((bytes(1), b"\xff", rng.randbytes(1))) * rng.randint(1, 200)
    return content[:start] + filler + content[start + len(filler) :]


def _move(content: bytes, rng: random.Random) -> bytes:
    first, last = sorted((rng.randint(0, len(content)), rng.randint(0, len(content))))
    piece = content[first:last] * rng.choice((0, 2, 2, 30))
    return content[:first] + piece[:200_000] + content[last:]


def _splice(content: bytes, rng: random.Random) -> bytes:
    other = rng.choice(seeds())[1]
    return content[: rng.randint(0, len(content))] + other[rng.randint(0, len(other)) :]


def _extend(content: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randint(1, 2000))


_ANY: tuple[Callable[[bytes, random.Random], bytes], ...] = (_cut, _flip, _flip, _overwrite, _move, _splice, _extend)


def _put(content: bytes, place: int, layout: str, value: int) -> bytes:
    size = struct.calcsize(layout)
    if place + size > len(content):
        return content
    return content[:place] + struct.pack(layout, value & (256**size - 1)) + content[place + size :]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(megabytes: int) -> bytes:
    """Return a megabyte of zeros as often as asked, as zlib packs it."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(megabytes)), packer.flush()])


_BOMB = cache(lambda: bomb(100))


def _change_png(content: bytes, rng: random.Random) -> bytes:
    if not content.startswith(_PNG) or len(content) < 33:
        return content
    if rng.random() < 0.4:  # the header lies, with its checksum right
        header = bytearray(content[16:29])
        place = rng.choice((0, 4, 8, 9, 10, 11, 12))
        if place < 8:
            header[place : place + 4] = struct.pack(">I", rng.choice(SIZES))
        else:
            header[place] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        return _PNG + png_chunk(b"IHDR", bytes(header)) + content[33:]
    packed = _BOMB() if rng.random() < 0.3 else zlib.compress(rng.randbytes(rng.randint(0, 300)))
    kind, body = rng.choice(
        (
            (b"iCCP", b"icc\0\0" + packed),
            (b"zTXt", b"key\0\0" + packed),
            (b"iTXt", b"key\0\1\0\0\0" + packed),
            (b"tEXt", b"key\0" + rng.randbytes(50)),
            (b"eXIf", b"MM\0*\0\0\0\x08" + rng.randbytes(40)),
            (b"tRNS", rng.randbytes(rng.randint(0, 300))),
            (b"PLTE", rng.randbytes(rng.randint(0, 800))),
            (b"acTL", struct.pack(">II", rng.choice(SIZES) & 0xFFFFFFFF, 0)),
            (b"fcTL", rng.randbytes(26)),
            (b"IDAT", packed[:100_000]),
            (b"pHYs", rng.randbytes(9)),
            (b"gAMA", rng.randbytes(4)),
        )
    )
    return content[:33] + png_chunk(kind, body) * rng.choice((1, 1, 3)) + content[33:]


def _change_jpeg(content: bytes, rng: random.Random) -> bytes:
    if not content.startswith(b"\xff\xd8"):
        return content
    if rng.random() < 0.5:
        start = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
        if start < 0:
            return content
        place, layout = rng.choice(((4, ">B"), (5, ">H"), (7, ">H"), (9, ">B"), (2, ">H"), (1, ">B")))
        return _put(content, start + place, layout, rng.choice((*SIZES, 0xC9, 0xC3, 0xC0)))
    marker, body = rng.choice(
        (
            (0xE1, b"Exif\0\0MM\0*\0\0\0\x08" + rng.randbytes(rng.randint(0, 200))),
            (0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + rng.randbytes(8)),
            (0xE2, b"ICC_PROFILE\0" + rng.randbytes(2) + bytes(60_000)),
            (0xE2, b"MPF\0" + rng.randbytes(60)),
            (0xEE, b"Adobe" + rng.randbytes(7)),
            (0xED, b"Photoshop 3.0\x008BIM" + rng.randbytes(40)),
            (0xDB, rng.randbytes(65)),
            (0xC4, rng.randbytes(30)),
            (0xDD, rng.randbytes(2)),
            (0xFE, bytes(65_000)),
        )
    )
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
    return content[:2] + segment * rng.choice((1, 1, 20)) + content[2:]


def _change_fields(*fields: tuple[int, str]) -> Callable[[bytes, random.Random], bytes]:
    def change(content: bytes, rng: random.Random) -> bytes:
        place, layout = rng.choice(fields)
        return _put(content, place, layout, rng.choice((*SIZES, 1, 4, 8, 16, 24, 32)))

    return change


_OWN: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "PNG": _change_png,
    "JPEG": _change_jpeg,
    "GIF": _change_fields((6, "<H"), (8, "<H"), (10, "<B"), (11, "<B"), (13, "<B")),
    "BMP": _change_fields(
        (10, "<I"), (14, "<I"), (18, "<I"), (22, "<I"), (26, "<H"), (28, "<H"), (30, "<I"), (46, "<I")
    ),
    "WEBP": _change_fields((4, "<I"), (16, "<I"), (20, "<B"), (24, "<I"), (26, "<H"), (28, "<H"), (27, "<I")),
}
