"""Sets of photos as they lie on disk or on the hub, read with `datasets` into one plain form.

Neighbours: `splits` divides the examples, `data` feeds them to the trainer. The four forms that are read are listed in
`load_source`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
import yaml
from tqdm import tqdm

from shared.errors import DataError, InputError
from vision.images import DecodedImage, decode_image
from vision.tagging.tables import load_tables

TRAINING_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
TRAINING_MAX_PIXELS = 200_000_000


@dataclass
class Source:
    """One set of photos, and what its labels say about labels of other sets.

    Args:
        path: folder of class folders, folder with metadata.jsonl or metadata.csv, parquet file or folder, or the name
            of a Hugging Face dataset.
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
    tables: dict[str, datasets.Dataset]
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

    def read(self, example: Example) -> bytes:
        """Return the photo's file, as stored."""
        return _image_bytes(self.tables[example.split][example.row]["image"])

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


def load_source(options: Source, index: int, *, max_corrupt_share: float, cache_dir: str | None = None) -> LoadedSource:
    """Return the set, with every photo decoded once; exact duplicates and broken files are left out and named.

    Raises:
        DataError: nothing is there, no labels are found, or more than `max_corrupt_share` of the files are broken.
    """
    name = options.name or Path(options.path).name or options.path
    tables = load_tables(options.path, cache_dir)
    rename = _read_label_names(options.label_names)
    rows: list[tuple[str, int, tuple[str, ...] | None]] = []
    for split in ("test", "val", "train"):  # of two equal photos the one in the more guarded split is kept
        if split in tables:
            rows += [(split, i, labels) for i, labels in enumerate(_labels(tables[split], name, rename))]
    examples, digests, skipped = _check(rows, tables, index, name, max_corrupt_share)
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


def _labels(table: datasets.Dataset, name: str, rename: dict[str, str] | None) -> Iterator[tuple[str, ...] | None]:
    """Yield each row's label names; None where the row says nothing."""
    column = next((c for c in ("labels", "label") if c in table.features), None)
    if column is None:
        raise DataError(f"{name} has no column `label` or `labels`; its columns are {', '.join(table.features)}.")
    feature = table.features[column]
    inner = getattr(feature, "feature", feature)
    names = inner.names if isinstance(inner, datasets.ClassLabel) else None
    for value in table[column]:
        if value is None:
            yield None
            continue
        if column == "labels" and isinstance(value, str):
            raise DataError(
                f"{name}: `labels` holds the text {value!r}; expected is a list. A CSV file cannot hold lists: use "
                "metadata.jsonl, or call the column `label` if each photo has one."
            )
        raw = value if isinstance(value, list) else [value]
        texts = [names[v] if names is not None and isinstance(v, int) else str(v) for v in raw]
        if rename is not None:
            missing = [text for text in texts if text not in rename]
            if missing:
                raise DataError(
                    f"{name}: label_names has no entry for {missing[0]!r}. Add a line `{missing[0]}: NAME`."
                )
            texts = [rename[text] for text in texts]
        yield tuple(sorted(set(texts)))


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
    rows: list[tuple[str, int, tuple[str, ...] | None]],
    tables: dict[str, datasets.Dataset],
    index: int,
    name: str,
    max_corrupt_share: float,
) -> tuple[list[Example], list[str], list[str]]:
    """Return the usable examples, their digests, and lines that name what was left out."""

    def look(row: tuple[str, int, tuple[str, ...] | None]) -> tuple[str, str | None]:
        image = tables[row[0]][row[1]]["image"]
        shown = image.get("path") or f"{row[0]} row {row[1]}"
        try:
            data = _image_bytes(image)
            open_photo(data, target_size_px=64)
        except (InputError, OSError) as error:
            return "", f"{shown}: {error}"
        return hashlib.sha256(data).hexdigest(), None if row[2] is not None else f"{shown}: has no label"

    examples: list[Example] = []
    digests: list[str] = []
    skipped: list[str] = []
    first: dict[str, Example] = {}
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor() as pool:
        looks = tqdm(pool.map(look, rows), total=len(rows), desc=f"checking {name}", unit="photo")
        for (split, row, labels), (digest, problem) in zip(rows, looks, strict=True):
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
    if counts["broken"] > max_corrupt_share * len(rows):
        listing = "\n  ".join(line for line in skipped[:5])
        raise DataError(
            f"{name}: {counts['broken']} of {len(rows)} photos cannot be decoded, more than the share of "
            f"{max_corrupt_share:g} that max_corrupt_share allows. The first left out:\n  {listing}"
        )
    return examples, digests, skipped


def _image_bytes(image: dict[str, Any]) -> bytes:
    data = image.get("bytes")
    return bytes(data) if data is not None else Path(image["path"]).read_bytes()
