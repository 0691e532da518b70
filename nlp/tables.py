"""Rows of text from files and the hub, by stored split; `datasets` reads CSV, JSON lines, parquet and hub sets.

Formats with a shape of their own (Rasa's YAML, SQuAD's nested JSON) are read by the task's `sources`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from shared.errors import DataError
from shared.training.data import read_stored_splits, split_in_name

TABLE_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json",
                  ".parquet": "parquet"}  # fmt: skip
"""Suffix -> the reader in `datasets`."""
Rows = list[dict[str, Any]]


def load_rows(path: str, cache_dir: str | None = None) -> dict[str, Rows]:
    """Return stored split ("train", "val", "test") -> rows.

    Args:
        path: a file, a folder of files, or the name of a Hugging Face dataset ("name" or "name:configuration"). In a
            folder, files called train, val (dev, validation) or test are those splits, if all are called so.
        cache_dir: where `datasets` keeps its tables; its own default if not given.

    Raises:
        DataError: nothing is there or it cannot be read.
    """
    place = Path(path).expanduser()
    is_local = path.startswith((".", "/", "~")) or path.endswith("/") or place.suffix in TABLE_SUFFIXES
    if is_local and not place.exists():
        raise DataError(f"{path} does not exist. Give a file ({', '.join(TABLE_SUFFIXES)}), a folder of such files or "
                        "a Hugging Face dataset name.")  # fmt: skip
    rows: dict[str, Rows] = {}
    forms = "a CSV, JSON lines or parquet file, a folder of such files"
    for split, table in read_stored_splits(path, lambda: _load(path, place, cache_dir), "a table of texts", forms):
        rows.setdefault(split, []).extend(_named(table))
    return rows


def _load(path: str, place: Path, cache_dir: str | None) -> Any:
    if not place.exists():
        name, _, configuration = path.partition(":")
        return datasets.load_dataset(name, configuration or None, cache_dir=cache_dir)
    files = [place] if place.is_file() else sorted(f for f in place.rglob("*") if f.suffix.lower() in TABLE_SUFFIXES)
    kinds = {TABLE_SUFFIXES.get(file.suffix.lower()) for file in files}
    if len(kinds) != 1 or None in kinds:
        came = ", ".join(sorted({file.suffix or file.name for file in files})) or "none"
        raise DataError(f"{path}: expected files of one kind out of {', '.join(TABLE_SUFFIXES)}; came {came}.")
    by_split: dict[str, list[str]] = {}
    splits = [split_in_name(file.name) for file in files]
    are_splits = place.is_dir() and all(splits)
    for file, split in zip(files, splits, strict=True):
        by_split.setdefault(split if split and are_splits else "train", []).append(str(file))
    options = {"delimiter": "\t"} if files[0].suffix.lower() == ".tsv" else {}
    return datasets.load_dataset(kinds.pop(), data_files=by_split, cache_dir=cache_dir, **options)


def _named(table: datasets.Dataset) -> Rows:
    """Return the rows with class labels by name instead of by number."""
    names = {
        column: feature.names for column, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)
    }
    rows: Rows = table.to_list()
    for row in rows:
        for column, labels in names.items():
            if row[column] is not None and row[column] >= 0:
                row[column] = labels[row[column]]
    return rows
