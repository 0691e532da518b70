"""A dataset on its way from one to the next: cells by column, without photos, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.cleaning.cells import number_in
from shared.dataset.layout import PLACE, PROVENANCE, SHA256, SOURCE
from shared.dataset.read import Dataset
from shared.errors import ConfigError
from shared.exploring.rows import is_missing

WEIGHT = "weight"


@dataclass
class Working:
    """Rows that steps change.

    `row` says which row of the dataset each was, in rising order; one that is repeated comes several times.
    """

    dataset: Dataset
    cells: dict[str, list[Any]]
    """Column -> cells, of all columns but photos and bytes; None also where the dataset has NaN."""
    splits: list[str]
    row: list[int]
    sizes: list[float | None]
    """The shorter side of each photo in pixels; None where it was not asked for."""
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `LEFT_OUT_COLUMNS`."""
    changed: set[str] = field(default_factory=set)
    """Columns that are new, or not what they were."""
    dropped_columns: set[str] = field(default_factory=set)
    fitted: dict[str, Any] = field(default_factory=dict)
    """Number and name of a step -> what it learned from the training split; JSON."""
    is_applied: bool = False
    """Whether `fitted` came from before and is only applied."""

    def __len__(self) -> int:
        return len(self.row)

    def column(self, name: str) -> list[Any]:
        """Return a column's cells.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.cells or name in PROVENANCE:
            own = ", ".join(each for each in self.cells if each not in PROVENANCE)
            raise ConfigError(f"the plan names the column {name!r}; there are {own}.")
        return self.cells[name]

    def put(self, name: str, cells: list[Any]) -> None:
        """Set a column."""
        if name in PROVENANCE:
            raise ConfigError(f"{name!r} says where rows are from, and cannot be changed.")
        self.cells[name] = cells
        self.changed.add(name)

    def add(self, name: str, cells: list[Any]) -> None:
        """Set a column that is new.

        Raises:
            ConfigError: the data have one of that name.
        """
        if name in self.dataset.info.columns and name not in self.dropped_columns:
            raise ConfigError(
                f"the data have a column {name!r} already, which this step would overwrite. Rename it where it is "
                f"collected, or leave it out before: {{step: select, drop: [{name}]}}."
            )
        self.put(name, cells)

    def keep(self, wanted: Sequence[bool], step: str, reason: Callable[[int], str]) -> None:
        """Leave out the other rows.

        Args:
            wanted: of each row.
            step: that leaves them out.
            reason: number of a row here -> why.
        """
        for place, is_wanted in enumerate(wanted):
            if not is_wanted:
                row = {name: cells[place] for name, cells in self.cells.items() if name not in PROVENANCE}
                self.left_out.append(
                    {SOURCE: self.cells[SOURCE][place], PLACE: self.cells[PLACE][place], "step": step,
                     "reason": reason(place), "row": row}
                )  # fmt: skip
        self.take([place for place, is_wanted in enumerate(wanted) if is_wanted])

    def take(self, places: Sequence[int]) -> None:
        """Keep rows by their numbers here, in rising order; a number may come again."""
        self.cells = {name: [cells[place] for place in places] for name, cells in self.cells.items()}
        self.splits = [self.splits[place] for place in places]
        self.row = [self.row[place] for place in places]
        self.sizes = [self.sizes[place] for place in places]

    def training(self, name: str) -> list[Any]:
        """Return the cells of a column that the training split has, without missing ones and empty lists."""
        cells = [
            cell
            for cell, split in zip(self.column(name), self.splits, strict=True)
            if split == "train" and not is_missing(cell) and cell != []
        ]
        if not cells:
            raise ConfigError(f"the training split has no {name!r} to learn from.")
        return cells

    def numbers(self, name: str) -> list[float | None]:
        """Return a column's cells as numbers; None where one is missing.

        Raises:
            ConfigError: one of them is no number.
        """
        return [number_in(cell, name) for cell in self.column(name)]

    def content(self) -> list[list[Any]]:
        """Return what rows hold now, column by column; photos and bytes as their SHA-256, None where there is none."""
        columns = [cells for name, cells in self.cells.items() if name not in PROVENANCE]
        for name in self.dataset.info.columns:
            if name in self.cells or name in self.dropped_columns:
                continue
            digests = [None if file is None else hashlib.sha256(file).hexdigest() for file in self.dataset.photos(name)]
            columns.append([digests[row] for row in self.row])
        return columns

    def learned(self, key: str, learn: Callable[[], Any]) -> Any:
        """Return what a step learned: now, or before where the plan is applied to new data.

        Raises:
            ConfigError: nothing was learned before.
        """
        if self.is_applied:
            if key not in self.fitted:
                raise ConfigError(f"nothing was fitted for the step {key}: it is another plan.")
            return self.fitted[key]
        self.fitted[key] = learn()
        return self.fitted[key]

    @property
    def digests(self) -> list[str]:
        return self.cells[SHA256]
