"""Rows of text by stored split, from files and from the hub."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from shared.errors import DataError
from shared.sources.stored import StoredRows, stored_files
from shared.sources.tables import SUFFIXES, Row, TableForm
from shared.training.data import read_stored_splits

_PACKED = ".gz"


def load_rows(path: str, cache_dir: str | None = None, form: TableForm | None = None) -> StoredRows:
    """Return the rows of a set with the splits that it brings.

    Args:
        path: a file, packed by gzip or not, a folder of files, or the name of a Hugging Face dataset ("name" or
            "name:configuration"). Files or folders called after train, validation (val, dev, eval) and test are those
            splits, and so is what a column `split` calls so; all else is "train".
        cache_dir: where `datasets` keeps its tables; its own default if not given.
        form: how text files are written, where that cannot be recognised.

    Raises:
        DataError: nothing is there, it cannot be read, or only some of it is called after splits.
    """
    place = Path(path).expanduser()
    if place.is_file() and place.suffix == _PACKED:
        return _unpacked_rows(place, form)
    if place.exists():
        return stored_files(place, form)
    if path.startswith((".", "/", "~")) or path.endswith("/") or place.suffix in (*SUFFIXES, _PACKED):
        raise DataError(f"{path} does not exist. Give a file ({', '.join(SUFFIXES)}), a folder of such files or "
                        "a Hugging Face dataset name.")  # fmt: skip
    stored = StoredRows()

    def load() -> Any:
        name, _, configuration = path.partition(":")
        return datasets.load_dataset(name, configuration or None, cache_dir=cache_dir)

    forms = "a table or a folder of tables"
    for split, table in read_stored_splits(path, load, "a table of texts", forms):
        stored.splits.setdefault(split, []).extend(_named(table))
    return stored


def _unpacked_rows(place: Path, form: TableForm | None) -> StoredRows:
    """Return the rows of a packed file."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, place.stem)
        try:
            with gzip.open(place) as packed, table.open("wb") as file:
                shutil.copyfileobj(packed, file)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{place} cannot be unpacked: {error}. Pack the table again with gzip.") from error
        return stored_files(table, form)


def _named(table: datasets.Dataset) -> Iterator[Row]:
    """Yield the rows with class labels by name instead of by number."""
    names = {
        column: feature.names for column, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)
    }
    for row in table.to_list():
        for column, labels in names.items():
            if row[column] is not None and row[column] >= 0:
                row[column] = labels[row[column]]
        yield row
