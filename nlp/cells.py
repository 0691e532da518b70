"""Texts out of the rows of a table that is answered in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlp.text import check_text
from shared.errors import InputError


def read_text(row: Mapping[str, Any], column: str) -> str:
    """Return a cell that must be a text.

    >>> read_text({"text": 7}, "text")
    Traceback (most recent call last):
    shared.errors.InputError: 'text' must be a text; came int.

    Raises:
        InputError: it is none, blank, or holds half a character.
    """
    value = row.get(column)
    if not isinstance(value, str):
        raise InputError(f"{column!r} must be a text; came {'nothing' if value is None else type(value).__name__}.")
    check_text(value)
    if not value.strip():
        raise InputError(f"{column!r} is blank.")
    return value
