"""An invented photo library: pictures of houses, trees, cars and boats, drawn so that their labels are true.

Each picture is drawn from its label, its number and its season alone, and no two are the same. Winter is darker, with
snow, and has something that summer has not: snowmen.
"""

from __future__ import annotations

import io
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

LABELS = ("boat", "car", "house", "tree")
NEW = "snowman"
SIDE = 128
_FINE = 3
"""Drawn so many times larger, for smooth edges."""
SPOILT = {"wrong": 10, "copies": 8, "near": 8, "broken": 3}
"""How many photos of the folder are in the wrong place, twice, nearly twice, or cannot be read."""


def picture(label: str, number: int, *, winter: bool = False) -> Image.Image:
    """Return a picture of 128 x 128 px."""
    rng = random.Random(f"{label} {number} {winter}")
    side = SIDE * _FINE
    image = Image.new("RGB", (side, side))
    pen = ImageDraw.Draw(image)
    horizon = side * rng.uniform(0.48, 0.64)
    _background(pen, rng, side, horizon, water=label == "boat", winter=winter)
    if rng.random() < 0.6 and label != "boat":  # something behind, so that not every tree is a "tree"
        _tree(pen, rng, side * rng.uniform(0.05, 0.95), horizon + side * 0.02, side * rng.uniform(0.12, 0.2), winter)
    if rng.random() < 0.25 and label in ("car", "tree", NEW):
        _house(pen, rng, side * rng.uniform(0.05, 0.95), horizon + side * 0.02, side * rng.uniform(0.1, 0.16), winter)
    size = side * rng.uniform(0.3, 0.5)
    draw = {"boat": _boat, "car": _car, "house": _house, "tree": _tree, NEW: _snowman}[label]
    foot = min(side * 0.95, horizon + side * rng.uniform(0.1, 0.3))
    draw(pen, rng, side * rng.uniform(0.35, 0.65), foot, size, winter)
    image = image.rotate(rng.uniform(-4, 4), Image.Resampling.BILINEAR).crop([side // 20] * 2 + [side * 19 // 20] * 2)
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8)))
    light = rng.uniform(0.45, 0.7) if winter else rng.uniform(0.85, 1.1)
    grain = Image.frombytes("L", (SIDE, SIDE), rng.randbytes(SIDE * SIDE)).convert("RGB")  # like a small camera's
    return Image.blend(image.point(lambda value: min(255, round(value * light))), grain, 0.04)


def jpeg(image: Image.Image, quality: int = 88) -> bytes:
    """Return the file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_folder(root: Path, count: int = 36) -> dict[str, str]:
    """Write a folder per label, as somebody would hand it over, and return file -> true label where that is another.

    A few photos are in the wrong folder, some are there twice or nearly twice, and some are broken.
    """
    rng = random.Random(5)
    for label in LABELS:
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{label}-{number:03}.jpg").write_bytes(jpeg(picture(label, number)))
    misplaced = {}
    for number in range(SPOILT["wrong"]):
        label = LABELS[number % len(LABELS)]
        other = rng.choice([each for each in LABELS if each != label])
        name = f"img_{number:04}.jpg"
        (root / other / name).write_bytes(jpeg(picture(label, 1000 + number)))
        misplaced[f"{other}/{name}"] = label
    for number in range(SPOILT["copies"]):
        label = LABELS[number % len(LABELS)]
        (root / label / f"copy of {number}.jpg").write_bytes((root / label / f"{label}-{number:03}.jpg").read_bytes())
    for number in range(10, 10 + SPOILT["near"]):  # sent again by a telephone, smaller
        label = LABELS[number % len(LABELS)]
        smaller = picture(label, number).resize((96, 96), Image.Resampling.LANCZOS)
        (root / label / f"sent {number}.jpg").write_bytes(jpeg(smaller, quality=60))
    for number in range(SPOILT["broken"]):
        whole = (root / LABELS[number] / f"{LABELS[number]}-020.jpg").read_bytes()
        (root / LABELS[number] / f"broken {number}.jpg").write_bytes(whole[: len(whole) // 3])
    return misplaced


def site_pages(count: int = 10) -> dict[str, bytes | str]:
    """Return the pages of a site: each has photos of one label with texts that say what is on them."""
    pages: dict[str, bytes | str] = {"/robots.txt": "User-agent: *\nCrawl-delay: 0\n"}
    links = "".join(f'<li><a href="/photos/{label}.html">{label}s</a></li>' for label in LABELS)
    pages["/photos/"] = f"<html lang=en><title>Our town</title><main><h1>Our town</h1><ul>{links}</ul></main></html>"
    for label in LABELS:
        figures = []
        for number in range(2000, 2000 + count):
            path = f"/photos/{label}-{number}.jpg"
            pages[path] = jpeg(picture(label, number))
            figures.append(f'<figure><img src="{path}" alt="A {label} in our town, photo {number}"></figure>')
        pages[f"/photos/{label}.html"] = f"<html lang=en><title>{label}s</title><main>{''.join(figures)}</main></html>"
    return pages


def _background(
    pen: ImageDraw.ImageDraw, rng: random.Random, side: int, horizon: float, *, water: bool, winter: bool
) -> None:
    top = (150, 160, 175) if winter else rng.choice([(90, 150, 225), (120, 180, 235), (235, 170, 120)])
    low = (205, 210, 215) if winter else (225, 235, 245)
    for y in range(int(horizon) + 1):
        pen.line([(0, y), (side, y)], fill=_between(top, low, y / horizon))
    near, far = ((40, 90, 140), (95, 150, 190)) if water else ((70, 120, 50), (130, 170, 90))
    if winter and not water:
        near, far = (225, 230, 238), (245, 247, 250)
    for y in range(int(horizon), side):
        pen.line([(0, y), (side, y)], fill=_between(far, near, (y - horizon) / (side - horizon)))
    for _ in range(rng.randrange(1, 4)):  # hills, or a far coast
        x, wide, tall = rng.uniform(0, side), side * rng.uniform(0.15, 0.5), side * rng.uniform(0.04, 0.2)
        shade = _between((70, 95, 120), (170, 185, 170), rng.random())
        points = [
            (x - wide, horizon),
            (x - wide * rng.uniform(0.1, 0.7), horizon - tall),
            (x + wide * 0.4, horizon - tall * rng.uniform(0.4, 1)),
            (x + wide, horizon),
        ]
        pen.polygon(points, fill=shade)
    for _ in range(rng.randrange(2, 9)):  # patches of light and shadow
        x, y, wide = rng.uniform(0, side), rng.uniform(horizon, side), side * rng.uniform(0.06, 0.3)
        top_y = max(y - wide * 0.25, horizon)
        pen.ellipse([x - wide, top_y, x + wide, y + wide * 0.25], fill=_between(near, far, rng.uniform(-0.6, 1.5)))
    for _ in range(rng.randrange(0, 4)):
        x, y, wide = rng.uniform(0, side), rng.uniform(0, horizon * 0.6), side * rng.uniform(0.08, 0.18)
        for shift in (-0.5, 0, 0.5):
            pen.ellipse(_box(x + shift * wide, y, wide, wide * 0.35), fill=(240, 242, 246))
    for _ in range(25 if water else 12):  # waves, or tufts
        x, y = rng.uniform(0, side), rng.uniform(horizon, side)
        pen.line([(x, y), (x + side * 0.05, y)], fill=_between(far, (255, 255, 255), 0.3), width=_FINE)
    for _ in range(30 if winter else 0):
        pen.ellipse(_box(rng.uniform(0, side), rng.uniform(0, side), side * 0.008, side * 0.008), fill=(255, 255, 255))


def _tree(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, size: float, winter: bool) -> None:
    pen.rectangle([x - size * 0.07, foot - size * 0.5, x + size * 0.07, foot], fill=(105, 75, 45))
    if rng.random() < 0.4:  # a fir
        for step in range(3):
            wide, y = size * (0.42 - 0.1 * step), foot - size * (0.3 + 0.27 * step)
            points = [(x - wide, y), (x + wide, y), (x, y - size * 0.45)]
            pen.polygon(points, fill=(185, 205, 200) if winter else (30, 95 + 12 * step, 60))
        return
    if winter:
        for angle in range(-70, 71, 20):
            tip = (
                x + size * 0.5 * math.sin(math.radians(angle)),
                foot - size * (0.5 + 0.5 * math.cos(math.radians(angle))),
            )
            pen.line([(x, foot - size * 0.45), tip], fill=(95, 70, 45), width=max(2, int(size * 0.03)))
        return
    green = rng.choice([(60, 140, 50), (85, 155, 55), (45, 120, 70)])
    for _ in range(7):
        at_x, at_y = x + size * rng.uniform(-0.25, 0.25), foot - size * rng.uniform(0.55, 0.95)
        pen.ellipse(_box(at_x, at_y, size * 0.24, size * 0.22), fill=_between(green, (0, 40, 0), rng.uniform(0, 0.3)))


def _house(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, size: float, winter: bool) -> None:
    wide, tall = size * rng.uniform(0.42, 0.6), size * rng.uniform(0.5, 0.75)
    wall = rng.choice([(240, 225, 190), (225, 190, 160), (235, 235, 230), (200, 120, 95)])
    roof = (240, 243, 248) if winter else rng.choice([(150, 60, 45), (95, 75, 70), (70, 80, 95)])
    pen.rectangle([x - wide, foot - tall, x + wide, foot], fill=wall)
    pen.polygon(
        [(x - wide * 1.15, foot - tall), (x + wide * 1.15, foot - tall), (x, foot - tall - size * 0.4)], fill=roof
    )
    pen.rectangle([x - wide * 0.14, foot - tall * 0.5, x + wide * 0.14, foot], fill=(90, 60, 40))
    glass = (255, 220, 120) if winter else (120, 165, 200)
    for side in (-1, 1):
        pen.rectangle(
            _box(x + side * wide * 0.58, foot - tall * 0.6, wide * 0.2, tall * 0.16),
            fill=glass,
            outline=(250, 250, 250),
            width=_FINE,
        )


def _car(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, size: float, winter: bool) -> None:
    colour = rng.choice([(190, 35, 40), (35, 75, 165), (235, 235, 235), (45, 45, 50), (225, 175, 40), (60, 130, 90)])
    wide, tall = size * 0.72, size * 0.24
    pen.rectangle(
        [0, foot - size * 0.06, 10_000, foot + size * 0.14], fill=(205, 208, 212) if winter else (110, 110, 115)
    )
    pen.rounded_rectangle([x - wide, foot - tall * 1.6, x + wide, foot - tall * 0.35], radius=tall * 0.4, fill=colour)
    cabin = [
        (x - wide * 0.6, foot - tall * 1.5),
        (x - wide * 0.35, foot - tall * 2.6),
        (x + wide * 0.3, foot - tall * 2.6),
        (x + wide * 0.62, foot - tall * 1.5),
    ]
    pen.polygon(cabin, fill=colour)
    for left, right in ((-0.45, -0.04), (0.04, 0.45)):
        pen.polygon(
            [
                (x + wide * left, foot - tall * 1.6),
                (x + wide * (left * 0.68), foot - tall * 2.4),
                (x + wide * (right * 0.68), foot - tall * 2.4),
                (x + wide * right, foot - tall * 1.6),
            ],
            fill=(185, 215, 235),
        )
    for place in (-0.55, 0.55):
        pen.ellipse(_box(x + wide * place, foot - tall * 0.35, tall * 0.5, tall * 0.5), fill=(30, 30, 32))
        pen.ellipse(_box(x + wide * place, foot - tall * 0.35, tall * 0.22, tall * 0.22), fill=(170, 170, 175))


def _boat(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, size: float, winter: bool) -> None:
    hull = rng.choice([(245, 245, 245), (150, 60, 50), (40, 65, 110), (120, 85, 55)])
    wide = size * 0.6
    pen.polygon(
        [
            (x - wide, foot - size * 0.18),
            (x + wide, foot - size * 0.18),
            (x + wide * 0.7, foot),
            (x - wide * 0.75, foot),
        ],
        fill=hull,
    )
    pen.line([(x, foot - size * 0.18), (x, foot - size * 1.15)], fill=(80, 60, 45), width=max(2, int(size * 0.03)))
    if winter:  # the sails are away
        pen.line(
            [(x, foot - size * 0.3), (x + wide * 0.8, foot - size * 0.3)],
            fill=(80, 60, 45),
            width=max(2, int(size * 0.03)),
        )
        return
    sail = rng.choice([(250, 250, 245), (235, 110, 80), (250, 215, 110)])
    pen.polygon(
        [
            (x + size * 0.03, foot - size * 1.1),
            (x + size * 0.03, foot - size * 0.25),
            (x + wide * 0.85, foot - size * 0.25),
        ],
        fill=sail,
    )
    pen.polygon(
        [
            (x - size * 0.03, foot - size * 0.95),
            (x - size * 0.03, foot - size * 0.25),
            (x - wide * 0.6, foot - size * 0.25),
        ],
        fill=sail,
    )


def _snowman(pen: ImageDraw.ImageDraw, rng: random.Random, x: float, foot: float, size: float, _: bool) -> None:
    for y, radius in ((0.25, 0.27), (0.62, 0.2), (0.92, 0.14)):
        pen.ellipse(
            _box(x, foot - size * y, size * radius, size * radius),
            fill=(252, 253, 255),
            outline=(185, 195, 208),
            width=_FINE,
        )
    hat = rng.choice([(40, 40, 45), (170, 40, 45), (45, 70, 120)])
    pen.rectangle(_box(x, foot - size * 1.05, size * 0.17, size * 0.02), fill=hat)
    pen.rectangle(_box(x, foot - size * 1.15, size * 0.1, size * 0.1), fill=hat)
    for side in (-1, 1):
        pen.ellipse(_box(x + side * size * 0.05, foot - size * 0.96, size * 0.018, size * 0.018), fill=(25, 25, 25))
        pen.line(
            [(x + side * size * 0.17, foot - size * 0.66), (x + side * size * 0.45, foot - size * 0.8)],
            fill=(90, 65, 45),
            width=max(2, int(size * 0.03)),
        )
    pen.polygon(
        [(x, foot - size * 0.93), (x, foot - size * 0.88), (x + size * 0.14, foot - size * 0.9)], fill=(235, 130, 40)
    )
    pen.line(
        [(x - size * 0.16, foot - size * 0.76), (x + size * 0.16, foot - size * 0.76)],
        fill=rng.choice([(190, 40, 50), (50, 110, 70), (230, 180, 50)]),
        width=max(3, int(size * 0.06)),
    )


def _box(x: float, y: float, half_width: float, half_height: float) -> list[float]:
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _between(one: tuple[int, ...], other: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(min(255, max(0, round(a + (b - a) * share))) for a, b in zip(one, other, strict=True))
