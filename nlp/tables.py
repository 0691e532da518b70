"""Rows of text from files and hubs, by stored split: what the data modules of `intent` and `qa` read first.

`datasets` reads CSV, JSON lines, parquet and sets of the hub; formats with a shape of their own (Rasa's YAML, SQuAD's
nested JSON) are read by the task's `sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import datasets

from shared.errors import DataError

SPLIT_NAMES = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
_BUILDERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}
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
    if not place.exists() and (path.startswith((".", "/", "~")) or path.endswith("/") or place.suffix in _BUILDERS):
        raise DataError(f"{path} does not exist. Give a file ({', '.join(_BUILDERS)}), a folder of such files or a "
                        "Hugging Face dataset name.")  # fmt: skip
    try:
        if place.exists():
            loaded = _load_files(path, place, cache_dir)
        else:
            name, _, configuration = path.partition(":")
            loaded = datasets.load_dataset(name, configuration or None, cache_dir=cache_dir)
    except DataError:
        raise
    except Exception as error:  # datasets raises many kinds, some of them its own dependencies'
        raise DataError(
            f"{path} cannot be read as a table of texts ({type(error).__name__}: {error}). Give a CSV, JSON lines or "
            "parquet file, a folder of such files, or a Hugging Face dataset name."
        ) from error
    rows: dict[str, Rows] = {}
    for split, table in cast("Mapping[str, datasets.Dataset]", loaded).items():
        known = SPLIT_NAMES.get(str(split))
        if known is None:
            raise DataError(f"{path} has a split {split!r}; known are {', '.join(SPLIT_NAMES)}.")
        rows.setdefault(known, []).extend(_named(table))
    return rows


def _load_files(path: str, place: Path, cache_dir: str | None) -> Any:
    files = [place] if place.is_file() else sorted(f for f in place.rglob("*") if f.suffix.lower() in _BUILDERS)
    kinds = {_BUILDERS.get(file.suffix.lower()) for file in files}
    if len(kinds) != 1 or None in kinds:
        came = ", ".join(sorted({file.suffix or file.name for file in files})) or "none"
        raise DataError(f"{path}: expected files of one kind out of {', '.join(_BUILDERS)}; came {came}.")
    by_split: dict[str, list[str]] = {}
    stems = [file.stem.split("-")[0].lower() for file in files]
    are_splits = place.is_dir() and all(stem in SPLIT_NAMES for stem in stems)
    for file, stem in zip(files, stems, strict=True):
        by_split.setdefault(SPLIT_NAMES[stem] if are_splits else "train", []).append(str(file))
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
