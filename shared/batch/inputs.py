"""The inputs of a bulk run, as a stream with one dictionary per row.

Photos come from a folder, from a prefix of an object store, or from a column of a parquet file; texts come from a
table. A row that cannot be read has an `ERROR`, which takes the place of its result. pyarrow reads s3://, gs://,
abfs://, hdfs:// and file:// with the usual credentials of each; every worker opens the store for itself.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from shared.bundle.read import sha256_of
from shared.dataset.columns import schema_of
from shared.dataset.read import is_dataset, read_dataset
from shared.errors import ConfigError, DataError
from shared.sources.tables import ERROR, Row, TableForm, open_table

logger = logging.getLogger(__name__)
FILE, ROOT = "file", "__root__"
CONTENT = "__content__"
"""Key of a photo's bytes, if they came with the row."""
_URI = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PARQUET_ROWS = 32
AT_ONCE = 16
"""A store answers many slow requests as fast as one."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Inputs:
    """A set of rows that can be read again and again."""

    count: int
    fingerprint: str
    """SHA-256 of a table's bytes, or of the photos' names, sizes and times."""
    rows: Callable[[], Iterator[Row]]
    """Reads them from the first one."""

    def shards(self, size: int) -> Iterator[list[Row]]:
        """Yield lists of `size` rows; the last may have fewer."""
        waiting = self.rows()
        while shard := list(islice(waiting, size)):
            yield shard


def photo_inputs(root: Path, photos: Sequence[Path]) -> Inputs:
    """Return photos as rows of `ROOT`, the folder, and `FILE`, their path in it.

    Raises:
        DataError: there are none, or one is gone.
    """
    if not photos:
        raise DataError(f"no photo was found in {root}.")
    digest = hashlib.sha256()
    names = []
    for path in photos:
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        name = str(path.relative_to(root))
        digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        names.append(name)
    folder = str(root.resolve())
    return Inputs(len(names), digest.hexdigest(), lambda: ({ROOT: folder, FILE: name} for name in names))


def table_inputs(path: Path, needed: Sequence[str], form: TableForm | None = None) -> Inputs:
    """Return the rows of a table, read as training reads them.

    Args:
        path: the file.
        needed: columns that must exist. Not checked for JSON, where each row has its own.
        form: how a text file is written, where that cannot be recognised.

    Raises:
        ConfigError: a column is missing, or the kind of file is unknown.
        DataError: it cannot be read.
    """
    if is_dataset(path):
        return _dataset_rows(path, needed)
    try:
        table = open_table(path, form)
        if table.columns is not None:
            check_columns(path, table.columns, needed)
        count = sum(1 for _ in table.rows())
        fingerprint = sha256_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not count:
        raise DataError(f"{path} has no rows.")
    for note in table.notes:
        logger.warning(note)
    return Inputs(count, fingerprint, table.rows)


def is_uri(text: str) -> bool:
    """Return whether this is a place in an object store, not a file.

    >>> is_uri("s3://bucket/photos"), is_uri("photos/2026")
    (True, False)
    """
    return _URI.match(text) is not None


def fetch(uri: str, name: str) -> bytes:
    """Return the bytes of a photo in a store.

    Raises:
        OSError: it is gone, or the store does not answer.
    """
    files, root = _opened(uri)
    with files.open_input_file(f"{root}/{name}") as stream:
        content: bytes = stream.read()
    return content


def ahead(items: Iterable[Item], work: Callable[[Item], Result], at_once: int = AT_ONCE) -> Iterator[Result]:
    """Yield what `work` returns for each item, in their order; `at_once` of them run in threads."""
    waiting = iter(items)
    with ThreadPoolExecutor(at_once, thread_name_prefix="ahead") as pool:
        running = [pool.submit(work, item) for item in islice(waiting, at_once)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(work, item) for item in islice(waiting, 1)]


def stored_photos(uri: str, suffixes: Iterable[str]) -> Inputs:
    """Return the photos below a prefix, sorted by name, without hidden ones; rows have `ROOT`, the URI, and `FILE`.

    Raises:
        ConfigError: there is no such store.
        DataError: it does not answer, or has no photo.
    """
    files, root = _opened(uri)
    wanted = frozenset(suffixes)
    try:
        found = files.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
    except OSError as error:
        raise DataError(f"{uri} cannot be listed: {error}") from error
    digest = hashlib.sha256()
    names = []
    for info in sorted(found, key=lambda info: info.path):
        name = PurePosixPath(info.path).relative_to(root)
        if info.type != pyarrow.fs.FileType.File or name.suffix.lower() not in wanted:
            continue
        if any(part.startswith(".") for part in name.parts):
            continue
        digest.update(f"{name}\0{info.size}\0{info.mtime_ns}\n".encode())
        names.append(str(name))
    if not names:
        raise DataError(f"no photo was found below {uri}.")
    return Inputs(len(names), digest.hexdigest(), lambda: ({ROOT: uri, FILE: name} for name in names))


def parquet_photos(path: Path, column: str, keep: Iterable[str] = ()) -> Inputs:
    """Return the photos in a column of a parquet file or a dataset.

    They are bytes, or `bytes` and `path` as in Hugging Face's datasets. Rows have `CONTENT`, `FILE` (the path, or the
    row's number) and the columns to keep.

    Raises:
        ConfigError: there is no such column, or it has no photos.
        DataError: it cannot be read.
    """
    if is_dataset(path):
        found = read_dataset(path)
        _check_photos(path, schema_of(found.info.columns), column, keep)
        return Inputs(
            len(found), found.info.fingerprint, lambda: _numbered_photos(found.files(), column, [column, *keep])
        )
    try:
        schema = pyarrow.parquet.read_schema(path)
        count = pyarrow.parquet.read_metadata(path).num_rows
        fingerprint = sha256_of(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    _check_photos(path, schema, column, keep)
    if not count:
        raise DataError(f"{path} has no rows.")
    return Inputs(count, fingerprint, partial(_numbered_photos, [path], column, [column, *keep]))


def _check_photos(path: Path, schema: pa.Schema, column: str, keep: Iterable[str]) -> None:
    check_columns(path, schema.names, [column, *keep])
    kind = schema.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ConfigError(f"the column {column!r} of {path} has {schema.field(column).type} in it, not photos.")


def _dataset_rows(path: Path, needed: Sequence[str]) -> Inputs:
    found = read_dataset(path)
    check_columns(path, list(found.info.columns), needed)
    return Inputs(len(found), found.info.fingerprint, lambda: (r for _, b in found.batches() for r in b.to_pylist()))


def check_columns(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    """Raise ConfigError if a column is missing."""
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ConfigError(f"{path} has no column {missing[0]!r}; it has {', '.join(columns)}.")


def _numbered_photos(files: Sequence[Path], column: str, columns: list[str]) -> Iterator[Row]:
    number = 0
    for path in files:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield _photo_row(row, column, number)
                    number += 1


def _photo_row(row: dict[str, Any], column: str, number: int) -> Row:
    value = row.pop(column)
    name = str(number)
    if isinstance(value, dict):
        name = value.get("path") or name
        value = value.get("bytes")
    if value is None:
        return {**row, ERROR: f"row {number} has no photo in it."}
    return {**row, FILE: name, CONTENT: value}


@lru_cache(maxsize=4)
def _opened(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the store and the prefix in it, without a final slash."""
    try:
        files, root = pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{uri} is not a store that can be read: {error}") from error
    return files, root.rstrip("/")
