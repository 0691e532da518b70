"""The dataset's files and what dataset.json says."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 1
INFO = "dataset.json"
CARD = "README.md"
DATA = "data"
"""The folder of the parquet files."""
LEFT_OUT = "left_out.parquet"
"""Rows that are not in the data, each with the step that left it out and the reason."""
FAILED = "failed.jsonl"
"""What could not be read at all, such as a page: where, why, and how to try it again."""
SOURCE, PLACE, TIME, LICENCE, SHA256 = "_source", "_place", "_time", "_licence", "_sha256"
PROVENANCE = (SOURCE, PLACE, TIME, LICENCE, SHA256)
"""Columns that every row has: the source's name, the place in it, when it was read (ISO 8601, UTC), the licence, and
the SHA-256 of its content as it was read, by which decisions about a row are kept."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFile(_Part):
    """One parquet file."""

    split: str
    rows: int = Field(ge=0)
    sha256: str
    bytes: int = Field(ge=0)


class DatasetInfo(_Part):
    """What dataset.json says."""

    format_version: int = FORMAT_VERSION
    name: str
    columns: dict[str, str]
    """Column -> kind, one of `shared.dataset.columns.KINDS`."""
    files: dict[str, DataFile]
    """Path below the folder -> what it holds, in the order of the rows."""
    fingerprint: str
    """Changes with any row, its place or its order."""
    history: tuple[dict[str, Any], ...]
    """What was done, the first step first; each has a `step`."""

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of rows."""
        found: dict[str, int] = {}
        for file in self.files.values():
            found[file.split] = found.get(file.split, 0) + file.rows
        return found
