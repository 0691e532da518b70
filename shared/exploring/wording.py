"""How messages for people say numbers and labels."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "row"), counted(2_000, "row"), counted(0, "copy", "copies")
    ('1 row', '2,000 rows', '0 copies')
    """
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def quoted(label: object) -> str:
    """Return a label in quotes.

    >>> quoted("login"), quoted(None)
    ('“login”', 'no label')
    """
    return "no label" if label is None else f"“{label}”"
