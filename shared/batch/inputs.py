"""The inputs of a bulk run, one dictionary a row, read as a stream: photos in a folder, or rows of a table.

A row of a table that cannot be read is a row with an `ERROR`, so that it is answered with it in its place.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from shared.errors import ConfigError, DataError

Row = dict[str, Any]
ERROR = "__error__"
"""Key of a row that could not be read; its value says why."""
FILE, ROOT = "file", "__root__"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Inputs:
    """What is asked, without its rows."""

    count: int
    fingerprint: str
    """SHA-256: of a table's bytes, of the photos' names, sizes and times."""
    rows: Callable[[], Iterator[Row]]
    """Reads them from the first on."""

    def shards(self, size: int) -> Iterator[list[Row]]:
        """Yield `size` rows each, the last shard fewer."""
        waiting = self.rows()
        while shard := list(islice(waiting, size)):
            yield shard


def photo_inputs(root: Path, photos: Sequence[Path]) -> Inputs:
    """Return photos as rows of `FILE`, relative to the folder they are read in.

    Raises:
        DataError: there is none, or one is gone.
    """
    if not photos:
        raise DataError(f"no photo was found in {root}.")
    digest = hashlib.sha256()
    names = []
    for path in photos:
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be looked at: {error.strerror}.") from error
        name = str(path.relative_to(root))
        digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        names.append(name)
    folder = str(root.resolve())
    return Inputs(len(names), digest.hexdigest(), lambda: ({ROOT: folder, FILE: name} for name in names))


def table_inputs(path: Path, needed: Sequence[str]) -> Inputs:
    """Return the rows of a CSV, TSV, JSON lines or parquet file.

    Args:
        path: the file.
        needed: columns that there must be. In JSON lines each row has its own, so none are looked for here.

    Raises:
        ConfigError: a column is missing or the ending is not known.
        DataError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path} is no table that can be read; expected {', '.join(SUFFIXES)}.")
    try:
        fingerprint = digest_of(path)
        columns = _columns(path, suffix)
        if columns is not None:
            check_columns(path, columns, needed)
        count = sum(1 for _ in _rows(path, suffix))
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not count:
        raise DataError(f"{path} has no rows.")
    return Inputs(count, fingerprint, lambda: _rows(path, suffix))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_columns(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    """Raise ConfigError where a column that is needed is not there."""
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ConfigError(f"{path} has no column {missing[0]!r}; it has {', '.join(columns)}.")


def _columns(path: Path, suffix: str) -> list[str] | None:
    if suffix == ".parquet":
        return list(pyarrow.parquet.read_schema(path).names)
    if suffix in {".csv", ".tsv"}:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return next(csv.reader(stream, delimiter=_delimiter(suffix)), [])
    return None


def _rows(path: Path, suffix: str) -> Iterator[Row]:
    if suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    elif suffix in {".csv", ".tsv"}:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream, delimiter=_delimiter(suffix)):
                yield {name: value for name, value in row.items() if name is not None}  # what has no header
    else:
        with path.open("rb") as lines:
            yield from (_json_row(line, number) for number, line in enumerate(lines, 1) if line.strip())


def _json_row(line: bytes, number: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {ERROR: f"line {number} is no JSON: {error}"}
    return row if isinstance(row, dict) else {ERROR: f"line {number} must be an object; came {type(row).__name__}."}


def _delimiter(suffix: str) -> str:
    return "\t" if suffix == ".tsv" else ","
