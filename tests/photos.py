"""Folders of drawn photos for training tests: each label has a colour, so that a small network can learn them."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from PIL import Image

COLOURS = {"red": (210, 40, 40), "green": (40, 190, 60), "blue": (50, 70, 220), "grey": (128, 128, 128)}


def photo(label: str, number: int, size: int = 40) -> Image.Image:
    """Return a photo mostly of the label's colour; no two numbers give the same."""
    rng = random.Random(f"{label}-{number}")
    image = Image.new("RGB", (size + number % 7, size), tuple(c + rng.randint(-25, 25) for c in COLOURS[label]))
    for _ in range(12):
        x, y = rng.randrange(size), rng.randrange(size)
        image.paste((rng.randrange(256), rng.randrange(256), rng.randrange(256)), (x, y, x + 5, y + 5))
    return image


def jpeg(label: str, number: int) -> bytes:
    """Return the photo as a JPEG file."""
    buffer = io.BytesIO()
    photo(label, number).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def class_folders(root: Path, labels: Sequence[str] = ("red", "green", "blue"), count: int = 12) -> Path:
    """Return `root` with one folder of `count` photos for each label."""
    for label in labels:
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / label / f"{number:03}.jpg").write_bytes(jpeg(label, number))
    return root


def parquet_files(folder: Path, files: int = 4, per_file: int = 30, names: str = "train-{}.parquet") -> Path:
    """Return `folder` with files of photos in three colours, ten a row group, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = list(COLOURS)[:3]
    for file in range(files):
        numbers = range(file * per_file, (file + 1) * per_file)
        rows = [{"image": {"bytes": jpeg(labels[n % 3], n), "path": None}, "label": labels[n % 3]} for n in numbers]
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / names.format(file), row_group_size=10)
    return folder
