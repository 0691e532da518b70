"""What is in a cell: a number, a time, a text, labels; and how what a person wrote becomes one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from shared.errors import ConfigError
from shared.exploring.rows import JOINED, is_missing
from shared.sources.tables import as_text, normalised

_WHOLE = re.compile(r"[+-]?\d+")


def number_in(cell: Any, column: str) -> float | None:
    """Return a cell as a number; None where it lacks one.

    Raises:
        ConfigError: it holds something else.
    """
    if is_missing(cell):
        return None
    try:
        found = float(cell)
    except (TypeError, ValueError):
        found = math.nan
    if math.isnan(found):
        raise ConfigError(f"{column!r} has {str(cell)[:40]!r} in it, which is no number.")
    return found


def finite(numbers: Sequence[float], column: str) -> np.ndarray:
    """Return float64 [N].

    Raises:
        ConfigError: one of them is infinite, so that means and quantiles would be, too.
    """
    found = np.array(numbers, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ConfigError(
            f"{column!r} has infinite numbers in the training split, from which nothing can be learned. Drop or clip "
            f"them before: {{step: outliers, column: {column}, how: drop, reach: 3}}."
        )
    return found


def time_in(cell: Any, column: str) -> datetime | None:
    """Return a cell as a time; None where it lacks one.

    Raises:
        ConfigError: it holds something else.
    """
    if is_missing(cell):
        return None
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day)
    try:
        return datetime.fromisoformat(str(cell))
    except ValueError:
        raise ConfigError(
            f"{column!r} has {str(cell)[:40]!r} in it; expected a time such as 2026-11-30T12:30."
        ) from None


def order_of(cell: Any, column: str) -> float:
    """Return what puts times, or numbers, in order. A time without a zone is taken for UTC.

    >>> order_of("2026-11-30", "opened") < order_of("2026-11-30T12:30", "opened"), order_of(7, "week")
    (True, 7.0)

    Raises:
        ConfigError: the cell is empty, or holds something else.
    """
    if isinstance(cell, int | float) and math.isfinite(cell):
        return float(cell)
    time = time_in(cell, column)
    if time is None:
        raise ConfigError(
            f"a row has no {column!r}, so that it has no place in time. Leave such rows out before: "
            f"{{step: missing, column: {column}, how: drop}}."
        )
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def labels_in(cell: Any) -> list[str]:
    """Return the labels of a cell, each once.

    >>> labels_in(["cat", "dog", "cat"]), labels_in("cat"), labels_in(1), labels_in(" ")
    (['cat', 'dog'], ['cat'], ['1'], [])
    """
    return list(
        dict.fromkeys(str(each) for each in (cell if isinstance(cell, list) else [cell]) if not is_missing(each))
    )


def has_text(cell: Any) -> bool:
    """Whether a cell is a text or a list of texts."""
    return isinstance(cell, str) or (isinstance(cell, list) and all(isinstance(each, str | None) for each in cell))


def with_texts(cell: Any, change: Callable[[str], str]) -> Any:
    """Return a cell with its text changed, or each text of its list.

    >>> with_texts(["a", None], str.upper), with_texts(7, str.upper)
    (['A', None], 7)
    """
    if isinstance(cell, list):
        return [with_texts(each, change) for each in cell]
    return change(cell) if isinstance(cell, str) else cell


def comparable(cell: Any, *, loosely: bool) -> Any:
    """Return what is equal for cells that are the same.

    Texts of nothing but blanks and punctuation are the same if they are equal: "?" and "!" are not.

    >>> comparable("Hello! ", loosely=True), comparable("?", loosely=True), comparable(["a"], loosely=True)
    ('hello', '?', ('a',))
    """
    if isinstance(cell, str):
        return (normalised(cell) or cell) if loosely else cell
    return tuple(cell) if isinstance(cell, list) else cell


def reader_like(cells: Sequence[Any]) -> Callable[[Any], Any]:
    """Return what makes a cell of what a person said, of the kind of these cells where it can be read so.

    The page of `percept explore` says everything as text, and several labels joined by " + ".

    >>> reader_like([["cat"], None])("cat + dog"), reader_like([1, 2])("3"), reader_like([1, 2])("many")
    (['cat', 'dog'], 3, 'many')
    """
    kinds = {type(cell) for cell in cells if not is_missing(cell)}
    if list in kinds:
        return _list_reader([cell for cell in cells if isinstance(cell, list)])
    kind = float if kinds == {int, float} else next(iter(kinds)) if len(kinds) == 1 else None
    read = _READERS.get(kind)
    if read is None:
        return lambda value: value

    def reader(value: Any) -> Any:
        try:
            return value if value is None else read(value)
        except ValueError:
            return value

    return reader


def _list_reader(cells: Sequence[list[Any]]) -> Callable[[Any], Any]:
    single = {str(each) for cell in cells for each in cell}
    several = {JOINED.join(map(str, cell)): cell for cell in cells}

    def reader(value: Any) -> Any:
        if value is None:
            return None
        text = str(value)
        if text in several:
            return list(several[text])
        return [text] if text in single else text.split(JOINED)

    return reader


def _whole(value: Any) -> int:
    text = as_text(value) or ""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _real(value: Any) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is no number")
    return found


def _truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: lambda value: value if isinstance(value, str) else as_text(value),
    bool: _truth,
    int: _whole,
    float: _real,
    date: lambda value: date.fromisoformat(str(value)),
    datetime: lambda value: datetime.fromisoformat(str(value)),
}
"""Type of a column's cells -> what reads one; raises ValueError."""
