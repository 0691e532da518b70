"""Rows by stored split, from a file, a folder of tables or a dataset.

Formats with a shape of their own are in `rasa` and `squad`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import DataError
from shared.sources.files import walk
from shared.sources.splits import SPLIT_COLUMNS, splits_in
from shared.sources.tables import SUFFIXES, Row, TableForm, as_text, open_table

_MOST_SPLITS = 100
"""Different values of a column, above which it says no split."""
DATASET = "dataset.json"
"""Beside it, in `data`, are the parquet files of a dataset, and only these are its rows."""


@dataclass
class StoredRows:
    """The rows of a set."""

    splits: dict[str, list[Row]] = field(default_factory=dict)
    """Stored split ("train", "val", "test") -> rows."""
    notes: list[str] = field(default_factory=list)
    """How the set was understood, where that could be wrong, one line each."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(reason, line) of what is no row."""
    synonyms: dict[str, str] = field(default_factory=dict)
    """What is written -> what it means, whatever entity it is."""
    lookups: dict[str, list[str]] = field(default_factory=dict)
    """Entity -> values that it may have."""


def stored_files(place: Path, form: TableForm | None) -> StoredRows:
    """Return the rows of a file or of all tables in a folder.

    Raises:
        DataError: as for `load_rows`.
    """
    files = table_files(place)
    if not files:
        raise DataError(f"{place} holds no table. Expected {', '.join(SUFFIXES)}.")
    stored = StoredRows()
    split_of = splits_of(place, files)
    sizes: Counter[tuple[str, str]] = Counter()
    for file in files:
        table = open_table(file, form)
        stored.notes += table.notes
        rows = list(table.checked_rows())
        column, meaning = split_column(file, rows)
        for row in rows:
            split = split_of[file] or (meaning[as_text(row[column])] if column else None) or "train"
            stored.splits.setdefault(split, []).append(row)
            sizes[split, f"the column {column!r}" if column and not split_of[file] else file.name] += 1
    if len(stored.splits) > 1 or (files != [place] and any(split_of.values())):
        told = "; ".join(f"{split} from {origin} ({count:,})" for (split, origin), count in sizes.items())
        stored.notes.append(f"splits: {told}")
    return stored


def table_files(place: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Return the file, or the tables in a folder and below, sorted, without those that systems leave behind."""
    if place.is_file():
        return [place]
    if (place / DATASET).is_file():
        place = place / "data"
    return sorted(file for file in walk(place) if file.suffix.lower() in suffixes)


def splits_of(place: Path, files: list[Path]) -> dict[Path, str | None]:
    """Return file -> the split that it, or a folder around it, is called after; None for all if none is."""
    if files == [place]:
        return {place: None}
    if (place / DATASET).is_file():
        place = place / "data"
    for depth in range(max(len(file.relative_to(place).parts) for file in files)):
        names = {file: _name_at(file.relative_to(place), depth) for file in files}
        are_files = all(depth == len(file.relative_to(place).parts) - 1 for file in files)
        splits = splits_in(sorted(set(names.values()) - {""}), are_files=are_files)
        others = [file for file, name in names.items() if name not in splits]
        if splits and not others:
            return {file: splits[name] for file, name in names.items()}
        if splits:
            raise DataError(
                f"{place} has {others[0].relative_to(place)} beside {', '.join(sorted(splits)[:3])}, which are called "
                "after splits. Move it away, or rename it if it belongs to one of them, as in train-2.csv."
            )
    return dict.fromkeys(files)


def _name_at(file: Path, depth: int) -> str:
    parts = file.parts
    return (file.stem if depth == len(parts) - 1 else parts[depth]) if depth < len(parts) else ""


def has_split_column(columns: Sequence[str] | None) -> bool:
    """Whether a column may say which split a row is in; None where each row has columns of its own."""
    return columns is None or any(name.lower() in SPLIT_COLUMNS for name in columns)


def split_column(file: Path, rows: Iterable[Row]) -> tuple[str | None, dict[str | None, str]]:
    """Return the column that says which split each row is in, and what each of its values means; None if there is none.

    Raises:
        DataError: a column is called `split` and has other values, or is empty in some rows.
    """
    values: dict[str, set[str | None]] = {}
    sizes: Counter[str] = Counter()
    for row in rows:
        for name in row:
            if name.lower() in SPLIT_COLUMNS:
                found = values.setdefault(name, set())
                if len(found) <= _MOST_SPLITS:
                    found.add(as_text(row[name]))
                sizes[name] += 1
        sizes[""] += 1
    for known in SPLIT_COLUMNS:
        for column, named in values.items():
            if column.lower() != known:
                continue
            if sizes[column] < sizes[""]:
                named.add(None)
            meaning = splits_in(sorted(value for value in named if value is not None))
            strange = sorted(str(value) for value in named if value not in meaning)
            if not strange:
                return column, {value: split for value, split in meaning.items()}  # noqa: C416 for the types
            if known == "split":
                raise DataError(
                    f"{file}: the column {column!r} holds {strange[0]!r}, which is none of train, validation and test. "
                    "Correct it, or rename the column if it means something else."
                )
    return None, {}
