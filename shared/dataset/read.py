"""Reading a dataset: what it says of itself, its rows, and whether its files are as they were written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from pydantic import ValidationError

from shared.bundle.read import sha256_of
from shared.dataset.layout import FORMAT_VERSION, INFO, DatasetInfo
from shared.errors import DataError

BATCH_ROWS = 4096
PHOTO_ROWS = 64


@dataclass(frozen=True)
class Dataset:
    """A dataset that was opened; its rows are read when they are asked for."""

    path: Path
    info: DatasetInfo

    def __len__(self) -> int:
        return sum(self.info.splits.values())

    def files(self, split: str | None = None) -> list[Path]:
        """Return the parquet files of a split, or of all, in the order of the rows."""
        return [self.path / name for name, file in self.info.files.items() if split in (None, file.split)]

    def batches(
        self, split: str | None = None, columns: Sequence[str] | None = None, rows: int = BATCH_ROWS
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yield (split, rows) in their order.

        Args:
            split: only this one; all if None.
            columns: only these; all if None.
            rows: at most so many at once.

        Raises:
            DataError: there is no such split or column, or a file cannot be read.
        """
        if split is not None and split not in self.info.splits:
            raise DataError(f"{self.path} has no split {split!r}; it has {', '.join(self.info.splits) or 'none'}.")
        unknown = [name for name in columns or () if name not in self.info.columns]
        if unknown:
            raise DataError(f"{self.path} has no column {unknown[0]!r}; it has {', '.join(self.info.columns)}.")
        for name, file in self.info.files.items():
            if split not in (None, file.split):
                continue
            try:
                with pyarrow.parquet.ParquetFile(self.path / name) as opened:
                    for batch in opened.iter_batches(batch_size=rows, columns=columns and list(columns)):
                        yield file.split, batch
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{self.path / name} cannot be read: {error}") from error

    def photos(self, column: str) -> Iterator[bytes | None]:
        """Yield the files of a column of photos in the order of the rows, a few in memory at a time."""
        for _, batch in self.batches(columns=[column], rows=PHOTO_ROWS):
            for cell in batch.column(0).to_pylist():
                yield cell.get("bytes") if isinstance(cell, dict) else cell

    def verify(self) -> None:
        """Compare every file with what dataset.json says.

        Raises:
            DataError: a file is missing or is not as it was written.
        """
        for name, file in self.info.files.items():
            path = self.path / name
            if not path.is_file():
                raise DataError(f"{self.path} has no {name}, which {INFO} names. Copy the dataset again.")
            if path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
                raise DataError(f"{path} is not as it was written: its SHA-256 differs. Datasets are not edited in "
                                "place; copy it again, or collect it anew.")  # fmt: skip


def is_dataset(path: Path) -> bool:
    """Whether a folder has a dataset.json."""
    return (path / INFO).is_file()


def read_dataset(path: Path) -> Dataset:
    """Return the dataset in a folder.

    Raises:
        DataError: there is none, or it was written by a newer version of Percept.
    """
    try:
        text = (path / INFO).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} is no dataset: it has no {INFO}. `percept collect` makes one.") from error
    try:
        info = DatasetInfo.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path / INFO} is broken: {place}: {first['msg']}.") from error
    if info.format_version > FORMAT_VERSION:
        raise DataError(
            f"{path} has format {info.format_version}; this version of Percept reads up to {FORMAT_VERSION}. Upgrade."
        )
    return Dataset(path, info)
