"""Every photo of a set looked at once: its labels read, its file decoded, duplicates and what is broken left out.

Neighbour: `sources` keeps what is found.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import fsspec
from tqdm import tqdm

from shared.ahead import ahead
from shared.errors import DataError, InputError
from vision.images import DecodedImage, decode_image
from vision.tagging.tables import Table

TRAINING_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
TRAINING_MAX_PIXELS = 200_000_000
_Row = tuple[str, int, tuple[str, ...] | None, Callable[[], dict[str, Any]]]
"""Stored split, number in it, labels, and what gives the image."""
_Looked = tuple[str, int, tuple[str, ...] | None, str, str | None]
"""The first three of these, the photo's digest, and what is wrong with it."""


@dataclass(frozen=True)
class Example:
    """One photo: where it lies and what it is labelled with."""

    source: int
    split: str
    """The split of the stored set in which it lies; not the one it is used in."""
    row: int
    labels: tuple[str, ...]


def open_photo(data: bytes, target_size_px: int | None = None) -> DecodedImage:
    """Return the photo as the service would decode it, with training's wider limits."""
    return decode_image(data, target_size_px=target_size_px, max_pixels=TRAINING_MAX_PIXELS, formats=TRAINING_FORMATS)


def image_bytes(image: dict[str, Any]) -> bytes:
    """Return the file of what the column `image` holds."""
    data = image.get("bytes")
    if data is not None:
        return bytes(data)
    if "://" not in image["path"]:
        return Path(image["path"]).read_bytes()
    with fsspec.open(image["path"], "rb") as file:  # in an archive, or on the hub
        content: bytes = file.read()
    return content


def _rows(tables: dict[str, Table], name: str, rename: dict[str, str] | None) -> Iterator[_Row]:
    readers = {}
    for split in ("test", "val", "train"):  # of two equal photos the one in the more guarded split is kept
        if split in tables:
            column = _label_column(tables[split], name)
            feature = tables[split].features[column]
            readers[split] = column, partial(_labels, column=column, feature=feature, name=name, rename=rename)
    # Where labels can be read without the photos, what is wrong with them is said before hours of decoding.
    known = {
        split: [labels_of(value) for value in tables[split][column]]
        for split, (column, labels_of) in readers.items()
        if isinstance(tables[split], datasets.Dataset)
    }
    for split, (column, labels_of) in readers.items():
        table = tables[split]
        if isinstance(table, datasets.Dataset):
            for number, labels in enumerate(known[split]):
                yield split, number, labels, partial(_image, table, number)
        else:
            for number, row in enumerate(table):
                yield split, number, labels_of(row[column]), partial(row.get, "image")


def _image(table: datasets.Dataset, number: int) -> dict[str, Any]:
    image: dict[str, Any] = table[number]["image"]
    return image


def _label_column(table: Table, name: str) -> str:
    for column in ("labels", "label"):
        if column in table.features:
            return column
    raise DataError(f"{name} has no column `label` or `labels`; its columns are {', '.join(table.features)}.")


def _labels(value: Any, column: str, feature: Any, name: str, rename: dict[str, str] | None) -> tuple[str, ...] | None:
    """Return a row's label names; None where the row says nothing."""
    if value is None:
        return None
    if column == "labels" and isinstance(value, str):
        raise DataError(
            f"{name}: `labels` holds the text {value!r}; expected is a list. A CSV file cannot hold lists: use "
            "metadata.jsonl, or call the column `label` if each photo has one."
        )
    inner = getattr(feature, "feature", feature)
    names = inner.names if isinstance(inner, datasets.ClassLabel) else None
    raw = value if isinstance(value, list) else [value]
    texts = [names[v] if names is not None and isinstance(v, int) else str(v) for v in raw]
    if rename is not None:
        missing = [text for text in texts if text not in rename]
        if missing:
            raise DataError(f"{name}: label_names has no entry for {missing[0]!r}. Add a line `{missing[0]}: NAME`.")
        texts = [rename[text] for text in texts]
    return tuple(sorted(set(texts)))


@dataclass
class Checked:
    """What came of looking at every photo once."""

    examples: list[Example] = field(default_factory=list)
    """Those that can be used."""
    digests: list[str] = field(default_factory=list)
    """Theirs: SHA-256 of the photo's file."""
    skipped: list[str] = field(default_factory=list)
    """Lines that name what was left out."""
    copies: dict[str, int] = field(default_factory=dict)
    """Digest -> how often the photo lies in "train", where that is more than once."""
    broken: int = 0
    """Photos that cannot be read or decoded."""


def check_photos(
    tables: dict[str, Table], index: int, name: str, rename: dict[str, str] | None, max_corrupt_share: float
) -> Checked:
    """Decode every photo once, leave out exact duplicates and what is broken, and name it.

    Raises:
        DataError: labels cannot be read, or more than `max_corrupt_share` of the files are broken.
    """

    def look(row: _Row) -> _Looked:
        split, number, labels, image_of = row
        image = image_of()
        shown = image.get("path") or f"{split} row {number}"
        try:
            data = image_bytes(image)
            open_photo(data, target_size_px=64)
        except (InputError, OSError) as error:
            return split, number, labels, "", f"{shown}: {error}"
        digest = hashlib.sha256(data).hexdigest()
        return split, number, labels, digest, None if labels is not None else f"{shown}: has no label"

    found = Checked()
    first: dict[str, Example] = {}
    in_train: Counter[str] = Counter()
    total = sum(len(table) for table in tables.values() if isinstance(table, datasets.Dataset)) or None
    looks = ahead(_rows(tables, name, rename), look, min(32, (os.cpu_count() or 1) + 4))
    seen = 0
    for split, row, labels, digest, problem in tqdm(looks, total=total, desc=f"checking {name}", unit="photo"):
        seen += 1
        if problem is not None or labels is None:
            found.broken += not digest
            found.skipped.append(problem or "")
            continue
        in_train[digest] += split == "train"
        example = Example(index, split, row, labels)
        if digest in first:
            same = "" if first[digest].labels == labels else f", but labelled {first[digest].labels} there"
            found.skipped.append(
                f"{split} row {row} {labels}: the same photo as {first[digest].split} row {first[digest].row}{same}"
            )
            continue
        first[digest] = example
        found.examples.append(example)
        found.digests.append(digest)
    if found.broken > max_corrupt_share * seen:
        listing = "\n  ".join(found.skipped[:5])
        raise DataError(
            f"{name}: {found.broken} of {seen} photos cannot be decoded, more than the share of "
            f"{max_corrupt_share:g} that max_corrupt_share allows. The first left out:\n  {listing}"
        )
    found.copies = {digest: count for digest, count in in_train.items() if count > 1}
    return found
