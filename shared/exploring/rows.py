"""A dataset in memory, without the bytes of its photos, and which of its columns is what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shared.dataset.layout import PLACE, PROVENANCE, SHA256
from shared.dataset.read import Dataset
from shared.errors import ConfigError
from shared.exploring.spelling import is_decimal, stands_for_nothing
from shared.exploring.statistics import MAX_CATEGORIES

TEXT_NAMES = ("text", "utterance", "sentence", "query", "question", "content", "message", "body")
LABEL_NAMES = ("label", "labels", "intent", "category", "class", "target", "tag", "tags")
JOINED = " + "
"""Between several labels of a row, where they are told as one text."""
_NUMBERS = ("int", "long", "float")
_LEAST_NUMBERS = 5
"""Different numbers of a column of texts, below which they are rather categories."""


@dataclass(frozen=True)
class Rows:
    """The rows of a dataset in their order."""

    dataset: Dataset
    values: dict[str, list[Any]]
    """Column -> cells, of all columns but photos, bytes and those of the provenance; None where one is missing."""
    splits: list[str]
    digests: list[str]
    places: list[str]
    text: str | None
    label: str | None
    image: str | None

    def __len__(self) -> int:
        return len(self.splits)

    @cached_property
    def texts(self) -> list[str | None]:
        """The main text of each row; of None where there is none."""
        return [None if value is None else str(value) for value in self.values[self.text]] if self.text else []

    @cached_property
    def labels(self) -> list[str | None]:
        """The label of each row; several ones joined by " + "."""
        if self.label is None:
            return [None] * len(self)
        return [JOINED.join(map(str, v)) if isinstance(v, list) else None if v is None else str(v)
                for v in self.values[self.label]]  # fmt: skip

    @cached_property
    def numbers(self) -> dict[str, list[float | None]]:
        """Columns of numbers, also those whose numbers are texts."""
        kinds = self.dataset.info.columns
        found = {name: cells for name, cells in self.values.items() if kinds[name] in _NUMBERS}
        for name in self.written_numbers:
            found[name] = [float(cell) if cell is not None and is_decimal(cell) else None for cell in self.values[name]]
        return found

    @cached_property
    def written_numbers(self) -> list[str]:
        """Columns of texts that all are numbers, but for those that stand for a missing value; as a CSV has them."""
        kinds = self.dataset.info.columns
        found = []
        for name, cells in self.values.items():
            if kinds[name] != "text" or name in (self.text, self.label):
                continue
            known = {cell for cell in cells if cell is not None}
            numbers = {float(cell) for cell in known if is_decimal(cell)}
            if len(numbers) >= _LEAST_NUMBERS and all(is_decimal(c) or stands_for_nothing(c) for c in known):
                found.append(name)
        return found

    @cached_property
    def categories(self) -> dict[str, list[Any]]:
        """Columns of few different words, the label among them."""
        found: dict[str, list[Any]] = {}
        for name, cells in self.values.items():
            if name in self.numbers or name == self.text:
                continue
            words = self.labels if name == self.label else cells
            if any(isinstance(cell, list | dict | bytes) for cell in words):
                continue
            known = [cell for cell in words if cell is not None]
            distinct = len(set(known))
            if distinct <= MAX_CATEGORIES and (distinct < 0.5 * len(known) or name == self.label):
                found[name] = list(words)
        return found

    def photos(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield (row number, file) of each photo, a few in memory at a time."""
        yield from () if self.image is None else enumerate(self.dataset.photos(self.image))


def load_rows(
    dataset: Dataset,
    *,
    text: str | None = None,
    label: str | None = None,
    image: str | None = None,
    as_table: bool = False,
) -> Rows:
    """Return the rows of a dataset.

    Args:
        dataset: as it was read.
        text: the column with the texts; the first that is called so if not given.
        label: likewise.
        image: the column of photos; the first there is if not given.
        as_table: no column is the texts, the labels or the photos unless it is named: a row is all its cells.

    Raises:
        ConfigError: there is no column of that name.
    """
    columns = dataset.info.columns
    for name in (text, label, image):
        if name is not None and name not in columns:
            raise ConfigError(f"{dataset.path} has no column {name!r}; it has "
                              f"{', '.join(each for each in columns if each not in PROVENANCE)}.")  # fmt: skip
    if not as_table:
        image = image or next((name for name, kind in columns.items() if kind == "image"), None)
    kept = [name for name, kind in columns.items() if name not in PROVENANCE and kind not in ("image", "binary")]
    values: dict[str, list[Any]] = {name: [] for name in kept}
    splits: list[str] = []
    digests: list[str] = []
    places: list[str] = []
    for split, batch in dataset.batches(columns=[*kept, SHA256, PLACE]):
        for name in kept:
            values[name] += [None if is_missing(cell) else cell for cell in batch.column(name).to_pylist()]
        splits += [split] * len(batch)
        digests += batch.column(SHA256).to_pylist()
        places += batch.column(PLACE).to_pylist()
    texts = [name for name in kept if columns[name] == "text" and not as_table]
    words = [] if as_table else [name for name in kept if columns[name] in ("text", "texts", "int", "bool")]
    return Rows(
        dataset,
        values,
        splits,
        digests,
        places,
        text=text or _named(TEXT_NAMES, texts) or (None if image else _longest(texts, values)),
        label=label or _named(LABEL_NAMES, words),
        image=image,
    )


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, or a text of nothing but blanks. An empty list says "none of them".

    >>> [is_missing(cell) for cell in (None, float("nan"), " ", 0, "0", [])]
    [True, True, True, False, False, False]
    """
    return (
        cell is None or (isinstance(cell, float) and math.isnan(cell)) or (isinstance(cell, str) and not cell.strip())
    )


def _named(known: Sequence[str], columns: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(columns)}
    return next((lower[name] for name in known if name in lower), None)


def _longest(columns: Sequence[str], values: dict[str, list[Any]]) -> str | None:
    """Return the column whose texts are sentences rather than words, if there is one."""
    lengths = {name: np.mean([len(v.split()) for v in values[name] if v] or [0]) for name in columns}
    best = max(lengths, key=lambda name: float(lengths[name]), default=None)
    return best if best is not None and lengths[best] >= 3 else None
