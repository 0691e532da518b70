"""Writing a dataset: whole or not at all, the same rows to the same bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from shared.bundle.read import sha256_of
from shared.dataset.card import render_card
from shared.dataset.columns import Columns, schema_of, to_table
from shared.dataset.layout import CARD, DATA, FAILED, INFO, LEFT_OUT, PROVENANCE, DataFile, DatasetInfo
from shared.dataset.read import Dataset, read_dataset
from shared.errors import ConfigError, DataError
from shared.sources.tables import Row
from shared.staging import staged, sync_file

FILE_ROWS = 250_000
FILE_BYTES = 400 << 20  # uncompressed; a file on the hub should not be much larger
_GROUP_ROWS = 20_000
_GROUP_PHOTOS = 200
_SPLIT = re.compile(r"[A-Za-z]\w*")
LEFT_OUT_COLUMNS = {"_source": "text", "_place": "text", "step": "text", "reason": "text", "row": "json"}


def write_dataset(
    path: Path,
    parts: Iterable[tuple[str, pa.Table]],
    *,
    name: str,
    columns: Columns,
    history: Sequence[Mapping[str, Any]],
    left_out: Iterable[Row] = (),
    failed: Sequence[Mapping[str, Any]] = (),
    beside: Mapping[str, str] | None = None,
) -> Dataset:
    """Return the dataset that was written to `path` and read back from there.

    It is written beside `path`, checked, and put in place in one step. Until then an older dataset at `path` stays as
    it was, whatever fails; afterwards it is gone.

    Args:
        path: the folder; its parents are made.
        parts: (split, table) with the `columns`, in the order of the rows; never all in memory at once.
        name: for people.
        columns: column -> kind, the columns of `PROVENANCE` among them.
        history: all steps up to this one.
        left_out: rows of `LEFT_OUT_COLUMNS`.
        failed: what could not be read at all.
        beside: name -> text of further files.

    Raises:
        ConfigError: `path` holds something that is no dataset.
        DataError: a column of the provenance is missing, or what was written does not read back.
    """
    check_target(path)
    missing = [column for column in PROVENANCE if column not in columns]
    if missing:
        raise DataError(f"rows without {', '.join(missing)} cannot be written to a dataset: where are they from?")
    with staged(path) as staging:
        files = _write_parts(staging, parts, columns)
        rows = list(left_out)
        if rows:
            pyarrow.parquet.write_table(to_table(rows, LEFT_OUT_COLUMNS), staging / LEFT_OUT, compression="zstd")
            sync_file(staging / LEFT_OUT)
        if failed:
            _write_text(staging / FAILED, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in failed))
        for file_name, text in (beside or {}).items():
            _write_text(staging / file_name, text)
        info = DatasetInfo(
            name=name,
            columns=dict(columns),
            files=files,
            fingerprint=_fingerprint(files),
            history=tuple(dict(step) for step in history),
        )
        _write_text(staging / INFO, info.model_dump_json(indent=2) + "\n")
        _write_text(staging / CARD, render_card(info, left_out=len(rows), failed=len(failed)))
        found = read_dataset(staging)
        found.verify()
    return Dataset(path, found.info)


def check_target(path: Path) -> None:
    """Refuse to replace what is neither a dataset nor an empty folder: a mistyped path must not cost someone's work.

    Raises:
        ConfigError: says what is there.
    """
    if path.resolve() == Path.cwd():
        raise ConfigError("a dataset takes the place of its folder, and you are in it. Name a new folder.")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigError(f"{path} is not a folder, so a dataset cannot be written there. Name a folder.")
    if path.is_dir() and any(path.iterdir()) and not (path / INFO).is_file():
        raise ConfigError(f"{path} holds files but no {INFO}: it is no dataset, so it is not replaced. "
                          "Name another folder.")  # fmt: skip


class _SplitFiles:
    """The parquet files of one split, written in groups of so many rows however these come."""

    def __init__(self, folder: Path, split: str, columns: Columns) -> None:
        self.folder, self.split, self.schema = folder, split, schema_of(columns)
        self.sizes: dict[str, int] = {}
        self._group_rows = _GROUP_PHOTOS if {"image", "binary"} & set(columns.values()) else _GROUP_ROWS
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        self._held.append(table)
        while sum(map(len, self._held)) >= self._group_rows:
            whole = pa.concat_tables(self._held)
            self._write(whole.slice(0, self._group_rows))
            self._held = [whole.slice(self._group_rows)]

    def close(self) -> None:
        if self._held and any(map(len, self._held)):
            self._write(pa.concat_tables(self._held))
        self._held = []
        self.abandon()

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, group: pa.Table) -> None:
        name = self._current()
        if self._writer is None or self.sizes[name] >= FILE_ROWS or self._bytes >= FILE_BYTES:
            self.abandon()
            name = f"{DATA}/{self.split}-{len(self.sizes):05d}.parquet"
            self._writer = pyarrow.parquet.ParquetWriter(self.folder / name, self.schema, compression="zstd")
            self.sizes[name], self._bytes = 0, 0
        group = group.combine_chunks()
        self._writer.write_table(group)
        self.sizes[name] += len(group)
        self._bytes += group.nbytes

    def _current(self) -> str:
        return next(reversed(self.sizes), "")


def _write_parts(staging: Path, parts: Iterable[tuple[str, pa.Table]], columns: Columns) -> dict[str, DataFile]:
    (staging / DATA).mkdir()
    splits: dict[str, _SplitFiles] = {}
    with ExitStack() as stack:
        for split, table in parts:
            if split not in splits:
                if not _SPLIT.fullmatch(split):
                    raise DataError(f"a split cannot be called {split!r}: expected a word such as train, val or test.")
                splits[split] = _SplitFiles(staging, split, columns)
                stack.callback(splits[split].abandon)
            splits[split].add(table)
        for files in splits.values():
            files.close()
    found = {}
    for split, files in splits.items():
        for name, rows in files.sizes.items():
            file = staging / name
            sync_file(file)
            found[name] = DataFile(split=split, rows=rows, sha256=sha256_of(file), bytes=file.stat().st_size)
    return found


def _fingerprint(files: Mapping[str, DataFile]) -> str:
    lines = "".join(f"{name} {file.sha256}\n" for name, file in files.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sync_file(path)
