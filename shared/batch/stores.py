"""Photos that are not files here: below a prefix of an object store, or in a column of a parquet file.

pyarrow reads s3://, gs://, abfs://, hdfs:// and file:// by itself, with the credentials that each usually finds. Every
worker opens the store for itself. Neighbours: `inputs` has the folders and tables, `vision.tagging.batch` the answers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from shared.batch.inputs import ERROR, FILE, ROOT, Inputs, Row, check_columns, digest_of
from shared.errors import ConfigError, DataError

CONTENT = "__content__"
"""Key of a photo's bytes, where they came with the row."""
_URI = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ROWS = 32


def is_uri(text: str) -> bool:
    """Return whether this names a store and no file.

    >>> is_uri("s3://bucket/photos"), is_uri("photos/2026")
    (True, False)
    """
    return _URI.match(text) is not None


def fetch(uri: str, name: str) -> bytes:
    """Return a photo of a store.

    Raises:
        OSError: it is gone, or the store does not answer.
    """
    files, root = _opened(uri)
    with files.open_input_file(f"{root}/{name}") as stream:
        content: bytes = stream.read()
    return content


def stored_photos(uri: str, suffixes: Iterable[str]) -> Inputs:
    """Return the photos below a prefix, sorted by name, hidden ones left out; rows are of `ROOT`, the URI, and `FILE`.

    Raises:
        ConfigError: no such store.
        DataError: it does not answer, or there is no photo.
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
    """Return the photos in a column of a parquet file: bytes, or `bytes` and `path` as Hugging Face's sets have them.

    Rows are of `CONTENT`, `FILE` (the path, or the row's number) and the columns to keep.

    Raises:
        ConfigError: there is no such column, or it holds no photos.
        DataError: it cannot be read.
    """
    try:
        schema = pyarrow.parquet.read_schema(path)
        count = pyarrow.parquet.read_metadata(path).num_rows
        fingerprint = digest_of(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    columns = [column, *keep]
    check_columns(path, schema.names, columns)
    kind = schema.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ConfigError(f"the column {column!r} of {path} holds no photos but {schema.field(column).type}.")
    if not count:
        raise DataError(f"{path} has no rows.")
    return Inputs(count, fingerprint, partial(_parquet_rows, path, column, columns))


def _parquet_rows(path: Path, column: str, columns: list[str]) -> Iterator[Row]:
    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
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
        return {**row, ERROR: f"row {number} holds no photo's bytes."}
    return {**row, FILE: name, CONTENT: value}


@lru_cache(maxsize=4)
def _opened(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the store and the prefix in it, without a slash at its end."""
    try:
        files, root = pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{uri} names no store that can be read: {error}") from error
    return files, root.rstrip("/")
