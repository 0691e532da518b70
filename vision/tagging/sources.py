"""Sets of photos as they lie on disk or on the hub, read with `datasets` into one plain form.

Neighbours: `splits` divides the examples, `data` feeds them to the trainer. The four forms that are read are listed in
`load_source`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
import yaml

from shared.errors import DataError
from vision.tagging.checking import Example, check_photos, image_bytes
from vision.tagging.tables import Table, load_tables


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
    copies: dict[str, int] = field(default_factory=dict)
    """Digest -> how often the photo lies in "train", where that is more than once."""
    broken: int = 0
    """Photos that cannot be read or decoded."""
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
    found = check_photos(tables, index, name, _read_label_names(options.label_names), max_corrupt_share)
    examples = found.examples
    if not examples:
        raise DataError(f"{name}: no labelled photo was found in {options.path}.")
    labels = sorted({label for example in examples for label in example.labels})
    if not labels:
        raise DataError(f"{name}: all {len(examples)} photos are without a label.")
    lines = sorted(f"{d} {'|'.join(e.labels)}" for d, e in zip(found.digests, examples, strict=True))
    return LoadedSource(
        name=name,
        options=options,
        tables=tables,
        examples=examples,
        labels=labels,
        is_single_label=all(len(example.labels) == 1 for example in examples),
        fingerprint=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        skipped=found.skipped,
        digests={(e.split, e.row): digest for e, digest in zip(examples, found.digests, strict=True)},
        copies=found.copies,
        broken=found.broken,
    )


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
