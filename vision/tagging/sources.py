"""Sets of photos as they lie on disk or on the hub, read with `datasets` into one plain form.

Neighbours: `splits` divides the examples, `data` feeds them to the trainer. The four forms that are read are listed in
`load_source`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import datasets
import yaml
from tqdm import tqdm

from shared.ahead import ahead
from shared.errors import DataError, InputError
from vision.images import DecodedImage, decode_image
from vision.tagging.tables import Table, load_tables

TRAINING_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
TRAINING_MAX_PIXELS = 200_000_000
_Row = tuple[str, int, tuple[str, ...] | None, Callable[[], dict[str, Any]]]
"""Stored split, number in it, labels, and what gives the image."""
_Looked = tuple[str, int, tuple[str, ...] | None, str, str | None]
"""The first three of these, the photo's digest, and what is wrong with it."""


@dataclass
class Source:
    """One set of photos, and what its labels say about labels of other sets.

    Args:
        path: folder of class folders, folder with metadata.jsonl or metadata.csv, parquet file or folder, URI of one in
            an object store, or the name of a Hugging Face dataset.
        name: how reports call it; the last part of `path` if none is given.
        label_names: YAML file that maps the labels in the data to the names that the model gives.
        covers: "own": of labels that only other sets have, this set says nothing, and the loss leaves them out.
            "all": they do not hold, unless they are listed in `unknown`.
        unknown: labels of which this set says nothing although it covers all.
        unknown_with: label -> labels of which a photo says nothing when it has that label or one below it; a boat may
            well lie on a sea that nobody wrote down.
        repeat: how often each photo is seen in an epoch.
        licence: for the model card.
        origin: where the photos come from, for the model card.
    """

    path: str
    name: str | None = None
    label_names: str | None = None
    covers: Literal["own", "all"] = "own"
    unknown: list[str] = field(default_factory=list)
    unknown_with: dict[str, list[str]] = field(default_factory=dict)
    repeat: int = 1
    licence: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Example:
    """One photo: where it lies and what it is labelled with."""

    source: int
    split: str
    """The split of the stored set in which it lies; not the one it is used in."""
    row: int
    labels: tuple[str, ...]


@dataclass
class LoadedSource:
    """A set of photos that was read, checked and named."""

    name: str
    options: Source
    tables: dict[str, Table]
    """Stored split ("train", "val", "test") -> table with the columns `image` (bytes, path) and labels."""
    examples: list[Example]
    labels: list[str]
    """This set's own label names, sorted."""
    is_single_label: bool
    fingerprint: str
    """SHA-256 over every photo's digest and labels."""
    skipped: list[str]
    """What was left out and why, a line each."""
    digests: dict[tuple[str, int], str]
    """(stored split, row) -> SHA-256 of the photo's file."""
    held: Path | None = None
    """Of a stream, the folder with the photos that are needed out of its order, named by their digests."""

    def read(self, example: Example) -> bytes:
        """Return the photo's file, as stored.

        Raises:
            DataError: it is a training photo of a stream.
        """
        table = self.tables[example.split]
        if isinstance(table, datasets.Dataset):
            return image_bytes(table[example.row]["image"])
        assert self.held is not None, "`streaming.hold` comes first"
        try:
            return (self.held / self.digests[example.split, example.row]).read_bytes()
        except FileNotFoundError:
            raise DataError(
                f"{self.name}: training photos of a stream can only be read in its order. Evaluate on val or test, "
                "or set data.stream to false."
            ) from None

    def summary(self) -> dict[str, Any]:
        """Return what the model card says of the set."""
        return {
            "name": self.name,
            "examples": len(self.examples),
            "labels": len(self.labels),
            "fingerprint": self.fingerprint,
            "licence": self.options.licence,
            "origin": self.options.origin,
            "skipped": len(self.skipped),
        }


def load_source(
    options: Source, index: int, *, max_corrupt_share: float, cache_dir: str | None = None, stream: bool = False
) -> LoadedSource:
    """Return the set, with every photo decoded once; exact duplicates and broken files are left out and named.

    Args:
        options: what to read.
        index: the set's number.
        max_corrupt_share: a larger share of broken files is an error.
        cache_dir: where `datasets` keeps its tables.
        stream: keep no photo: a set may be larger than the disk.

    Raises:
        DataError: nothing is there, no labels are found, or more than `max_corrupt_share` of the files are broken.
    """
    name = options.name or Path(options.path).name or options.path
    tables = load_tables(options.path, cache_dir, stream=stream)
    rows = _rows(tables, name, _read_label_names(options.label_names))
    total = sum(len(table) for table in tables.values() if isinstance(table, datasets.Dataset)) or None
    examples, digests, skipped = _check(rows, total, index, name, max_corrupt_share)
    if not examples:
        raise DataError(f"{name}: no labelled photo was found in {options.path}.")
    labels = sorted({label for example in examples for label in example.labels})
    if not labels:
        raise DataError(f"{name}: all {len(examples)} photos are without a label.")
    lines = sorted(f"{d} {'|'.join(e.labels)}" for d, e in zip(digests, examples, strict=True))
    return LoadedSource(
        name=name,
        options=options,
        tables=tables,
        examples=examples,
        labels=labels,
        is_single_label=all(len(example.labels) == 1 for example in examples),
        fingerprint=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        skipped=skipped,
        digests={(e.split, e.row): digest for e, digest in zip(examples, digests, strict=True)},
    )


def open_photo(data: bytes, target_size_px: int | None = None) -> DecodedImage:
    """Return the photo as the service would decode it, with training's wider limits."""
    return decode_image(data, target_size_px=target_size_px, max_pixels=TRAINING_MAX_PIXELS, formats=TRAINING_FORMATS)


def image_bytes(image: dict[str, Any]) -> bytes:
    """Return the file of what the column `image` holds."""
    data = image.get("bytes")
    return bytes(data) if data is not None else Path(image["path"]).read_bytes()


def _rows(tables: dict[str, Table], name: str, rename: dict[str, str] | None) -> Iterator[_Row]:
    for split in ("test", "val", "train"):  # of two equal photos the one in the more guarded split is kept
        if split not in tables:
            continue
        table = tables[split]
        column = _label_column(table, name)
        labels_of = partial(_labels, column=column, feature=table.features[column], name=name, rename=rename)
        if isinstance(table, datasets.Dataset):
            for number, value in enumerate(table[column]):
                yield split, number, labels_of(value), partial(_image, table, number)
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


def _read_label_names(path: str | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"label_names {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"label_names {path} must map each label to a name, as in `n02123045: tabby`.")
    return {str(raw): str(shown) for raw, shown in content.items()}


def _check(
    rows: Iterable[_Row],
    total: int | None,
    index: int,
    name: str,
    max_corrupt_share: float,
) -> tuple[list[Example], list[str], list[str]]:
    """Return the usable examples, their digests, and lines that name what was left out."""

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

    examples: list[Example] = []
    digests: list[str] = []
    skipped: list[str] = []
    first: dict[str, Example] = {}
    counts: Counter[str] = Counter()
    seen = 0
    for split, row, labels, digest, problem in tqdm(
        ahead(rows, look), total=total, desc=f"checking {name}", unit="photo"
    ):
        seen += 1
        if problem is not None or labels is None:
            counts["broken" if not digest else "unlabelled"] += 1
            skipped.append(problem or "")
            continue
        example = Example(index, split, row, labels)
        if digest in first:
            same = "" if first[digest].labels == labels else f", but labelled {first[digest].labels} there"
            skipped.append(
                f"{split} row {row} {labels}: the same photo as {first[digest].split} row {first[digest].row}{same}"
            )
            counts["duplicate"] += 1
            continue
        first[digest] = example
        examples.append(example)
        digests.append(digest)
    if counts["broken"] > max_corrupt_share * seen:
        listing = "\n  ".join(line for line in skipped[:5])
        raise DataError(
            f"{name}: {counts['broken']} of {seen} photos cannot be decoded, more than the share of "
            f"{max_corrupt_share:g} that max_corrupt_share allows. The first left out:\n  {listing}"
        )
    return examples, digests, skipped
