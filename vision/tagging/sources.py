"""Sets of photos from folders, parquet files, object stores and the hub in one form, each photo looked at once.

Duplicates, broken files and photos without a label are left out and named.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias, cast

import datasets
import fsspec
import pyarrow.dataset
import yaml
from tqdm import tqdm

from shared.batch.inputs import ahead, is_uri
from shared.dataset.layout import DATA
from shared.dataset.read import is_dataset
from shared.errors import DataError, InputError
from shared.sources.splits import splits_in
from shared.sources.tables import as_text
from shared.training.data import LoadedSet, read_stored_splits
from vision.images import open_photo
from vision.tagging.folders import PhotoFolder, is_photo_folder, read_folder

_Row = tuple[str, int, tuple[str, ...] | None, Callable[[], dict[str, Any]]]
"""Stored split, number in it, labels, and what gives the image."""
_Looked = tuple[str, int, tuple[str, ...] | None, str, str | None]
"""The first three of these, the photo's digest, and what is wrong with it."""
Table: TypeAlias = "datasets.Dataset | datasets.IterableDataset"
"""The second kind is a stream: its rows are read one after the other, and none is kept."""
_ROWS_AT_ONCE = 8
_FOLDER_SHARDS = 64
"""That a folder is streamed in, so that several workers may read it."""


@dataclass
class Source:
    """One set of photos, and what its labels say about labels of other sets.

    Args:
        path: folder of class folders, folder with metadata.jsonl or metadata.csv, parquet file or folder, URI of one in
            an object store, or the name of a Hugging Face dataset.
        name: its name in reports; the last part of `path` if none is given.
        label_names: YAML file that maps the labels in the data to the names that the model gives.
        covers: "own": this set says nothing of labels that only other sets have, and the loss leaves them out.
            "all": they do not hold, unless they are listed in `unknown`.
        unknown: labels that this set says nothing about although it covers all.
        unknown_with: label -> labels that a photo with that label, or one below it, says nothing about; a boat may
            well be on a sea that is not labelled.
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
    """One photo: where it is, and its labels."""

    source: int
    split: str
    """The stored split that has it; not the one it is used in."""
    row: int
    labels: tuple[str, ...]


@dataclass(kw_only=True)
class LoadedSource(LoadedSet):
    """A set of photos that was read, checked and named."""

    tables: dict[str, Table]
    """Stored split ("train", "val", "test") -> table with the columns `image` (bytes, path) and labels."""
    examples: list[Example]
    labels: list[str]
    """This set's own label names, sorted."""
    is_single_label: bool
    digests: dict[tuple[str, int], str]
    """(stored split, row) -> SHA-256 of the photo's file."""
    copies: dict[str, int] = field(default_factory=dict)
    """Digest -> how often the photo is in "train", where that is more than once."""
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

    def counts(self) -> dict[str, int]:
        return {"examples": len(self.examples), "labels": len(self.labels)}


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
    place = Path(options.path).expanduser()
    folder = read_folder(place) if not is_uri(options.path) and is_photo_folder(place) else None
    tables = _tables_of(folder, stream=stream) if folder else _load_tables(options.path, cache_dir, stream=stream)
    found = _check_photos(tables, index, name, _read_label_names(options.label_names), max_corrupt_share)
    examples = found.examples
    if not examples:
        raise DataError(f"{name}: no labelled photo was found in {options.path}.")
    labels = sorted({label for example in examples for label in example.labels})
    if not labels:
        raise DataError(f"{name}: all {len(examples)} photos are without a label.")
    lines = sorted(f"{d} {'|'.join(e.labels)}" for d, e in zip(found.digests, examples, strict=True))
    loaded = LoadedSource(
        name=name,
        options=options,
        notes=folder.notes if folder else [],
        tables=tables,
        examples=examples,
        labels=labels,
        is_single_label=all(len(example.labels) == 1 for example in examples),
        fingerprint=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        digests={(e.split, e.row): digest for e, digest in zip(examples, found.digests, strict=True)},
        copies=found.copies,
        broken=found.broken,
    )
    for reason, line in [*(folder.left_out if folder else ()), *found.left_out]:
        loaded.skip(reason, line)
    return loaded


def image_bytes(image: dict[str, Any]) -> bytes:
    """Return the content of a photo's file, from a value of the column `image`."""
    data = image.get("bytes")
    if data is not None:
        return bytes(data)
    if "://" not in image["path"]:
        return Path(image["path"]).read_bytes()
    with fsspec.open(image["path"], "rb") as file:  # in an archive, or on the hub
        content: bytes = file.read()
    return content


@dataclass
class _Checked:
    """What was found by looking at every photo once."""

    examples: list[Example] = field(default_factory=list)
    """Those that can be used."""
    digests: list[str] = field(default_factory=list)
    """Theirs: SHA-256 of the photo's file."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(reason, line that names it) of what was left out."""
    copies: dict[str, int] = field(default_factory=dict)
    """Digest -> how often the photo is in "train", where that is more than once."""
    broken: int = 0
    """Photos that cannot be read or decoded."""


def _check_photos(
    tables: dict[str, Table], index: int, name: str, rename: dict[str, str] | None, max_corrupt_share: float
) -> _Checked:
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

    found = _Checked()
    first: dict[str, Example] = {}
    in_train: Counter[str] = Counter()
    total = sum(len(table) for table in tables.values() if isinstance(table, datasets.Dataset)) or None
    looks = ahead(_rows(tables, name, rename), look, min(32, (os.cpu_count() or 1) + 4))
    seen = 0
    for split, row, labels, digest, problem in tqdm(looks, total=total, desc=f"checking {name}", unit="photo"):
        seen += 1
        if problem is not None or labels is None:
            found.broken += not digest
            found.left_out.append(("without a label" if digest else "that cannot be decoded", problem or ""))
            continue
        in_train[digest] += split == "train"
        example = Example(index, split, row, labels)
        if digest in first:
            same = "" if first[digest].labels == labels else f", but labelled {first[digest].labels} there"
            line = f"{split} row {row} {labels}: the same photo as {first[digest].split} row {first[digest].row}{same}"
            found.left_out.append(("that occur twice", line))
            continue
        first[digest] = example
        found.examples.append(example)
        found.digests.append(digest)
    if found.broken > max_corrupt_share * seen:
        listing = "\n  ".join(line for _, line in found.left_out[:5])
        raise DataError(
            f"{name}: {found.broken} of {seen} photos cannot be decoded, more than the share of "
            f"{max_corrupt_share:g} that max_corrupt_share allows. The first left out:\n  {listing}"
        )
    found.copies = {digest: count for digest, count in in_train.items() if count > 1}
    return found


def _load_tables(path: str, cache_dir: str | None, *, stream: bool = False) -> dict[str, Table]:
    """Return stored split -> table with an `image` column of (bytes, path).

    Args:
        path: a parquet file or a folder of them, the URI of one or of a prefix of several, or the name of a hub set.
        cache_dir: where `datasets` copies what is not a stream.
        stream: do not copy.

    Raises:
        DataError: nothing is there, it cannot be read, or a split or the image column has a name that is not known.
    """
    place = Path(path).expanduser()
    load: dict[str, Any] = {"streaming": True} if stream else {"cache_dir": cache_dir}
    # A reader holds a few rows instead of a whole row group.
    pages = pyarrow.dataset.ParquetFragmentScanOptions(use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False)
    parquet = load | {"batch_size": _ROWS_AT_ONCE, "fragment_scan_options": pages} if stream else load

    def read() -> dict[str, Table]:
        if is_uri(path):
            loaded = datasets.load_dataset("parquet", data_files=_stored_parquet_files(path), **parquet)
        elif place.exists():
            loaded = datasets.load_dataset("parquet", data_files=_parquet_files(place), **parquet)
        elif path.startswith((".", "/", "~")) or path.endswith("/"):
            raise DataError(f"{path} does not exist. Give a folder, a parquet file or a Hugging Face dataset name.")
        else:
            loaded = datasets.load_dataset(path, **load)
        return cast("dict[str, Table]", loaded)

    forms = "a folder of class folders, a folder with metadata.jsonl or metadata.csv, parquet files"
    return {
        split: _with_image_column(table, path)
        for split, table in read_stored_splits(path, read, "a set of photos", forms)
    }


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
        raise DataError(f"{name}: `labels` holds the text {value!r}; expected is a list. Call the column `label` if "
                        "each photo has one.")  # fmt: skip
    inner = getattr(feature, "feature", feature)
    names = inner.names if isinstance(inner, datasets.ClassLabel) else None
    raw = value if isinstance(value, list) else [value]
    shown = [names[v] if names is not None and isinstance(v, int) else as_text(v) for v in raw]
    texts = [text for text in shown if text is not None]
    if not texts and not isinstance(value, list):
        return None
    if rename is not None:
        missing = [text for text in texts if text not in rename]
        if missing:
            raise DataError(f"{name}: label_names has no entry for {missing[0]!r}. Add a line `{missing[0]}: NAME`.")
        texts = [rename[text] for text in texts]
    return tuple(sorted(set(texts)))


def _tables_of(folder: PhotoFolder, *, stream: bool) -> dict[str, Table]:
    """Return split -> table of the photos of a folder."""
    columns = {"image": datasets.Image(decode=False), "labels": datasets.List(datasets.Value("string"))}
    tables: dict[str, Table] = {}
    for split in dict.fromkeys(photo.split for photo in folder.photos):
        photos = [photo for photo in folder.photos if photo.split == split]
        values = {
            "image": [{"bytes": None, "path": str(photo.path)} for photo in photos],
            "labels": [photo.labels for photo in photos],
        }
        table = datasets.Dataset.from_dict(values, features=datasets.Features(columns))
        tables[split] = table.to_iterable_dataset(num_shards=min(len(photos), _FOLDER_SHARDS)) if stream else table
    return tables


def _parquet_files(place: Path) -> dict[str, list[str]]:
    place = place / DATA if is_dataset(place) else place  # beside its rows, a dataset has what was left out
    files = [place] if place.is_file() else sorted(place.rglob("*.parquet"))
    return _by_split(str(place), map(str, files))


def _stored_parquet_files(uri: str) -> dict[str, list[str]]:
    store, root = fsspec.core.url_to_fs(uri)
    names = [root] if root.endswith(".parquet") else sorted(store.glob(f"{root.rstrip('/')}/**/*.parquet"))
    if not names:
        raise DataError(f"{uri} holds no parquet files, the one form of photos that is read from a store.")
    return _by_split(uri, map(store.unstrip_protocol, names))


def _by_split(path: str, files: Iterable[str]) -> dict[str, list[str]]:
    """Return split -> files; raises DataError if some are called after splits and others are not."""
    by_name = {file: PurePath(file).stem for file in files}
    splits = splits_in(by_name.values(), are_files=True)
    found: dict[str, list[str]] = {}
    for file, name in by_name.items():
        if splits and name not in splits:
            raise DataError(
                f"{path} has {Path(file).name} beside {', '.join(sorted(splits)[:3])}, which are called after splits. "
                "Rename it, as in train-2.parquet, or move it away."
            )
        found.setdefault(splits.get(name, "train"), []).append(file)
    return found


def _with_image_column(table: Table, path: str) -> Table:
    if table.features is None:
        raise DataError(f"{path} does not say which columns it has, as a stream must: set data.stream to false.")
    columns = [c for c, feature in table.features.items() if isinstance(feature, datasets.Image)]
    columns += [c for c in ("image", "img", "photo", "picture") if c in table.features and c not in columns]
    if not columns:
        raise DataError(f"{path} has no image column; its columns are {', '.join(table.features)}.")
    if columns[0] != "image":
        table = table.rename_column(columns[0], "image")
    table = table.cast_column("image", datasets.Image(decode=False))
    # By row groups where there are any: more to share among readers.
    return table.reshard() if isinstance(table, datasets.IterableDataset) else table
