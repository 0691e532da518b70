"""Labels and cells that were written in several ways: spellings of one label, and words that stand for nothing."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

_MEANING = frozenset("#&%@*")
"""Punctuation that tells labels apart, as in C and C#; signs such as + and < are no punctuation to Unicode."""
_PLACEHOLDERS = frozenset(
    ("n/a", "n.a.", "n.a", "na", "#n/a", "<na>", "nan", "null", "(null)", "#null!", "nil", "none", "(none)", "-", "--",
     "–", "—", "?")
)  # fmt: skip
_MEANT = frozenset(("none", "nil", "na", "-", "--", "–", "—", "?"))
"""What a label or an utterance may well be."""
_DECIMAL = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?")
_EXACT_DIGITS = 15
"""A number of more digits is not held exactly, and is rather a key."""


def spelling_key(label: str) -> str:
    """Return what is equal for spellings of one label: those that differ only in case, blanks or punctuation.

    >>> spelling_key("Log-in ") == spelling_key("login"), spelling_key("-1") == spelling_key("1")
    (True, False)
    >>> spelling_key("1.5") == spelling_key("15"), spelling_key("C#") == spelling_key("C")
    (False, False)
    """
    text = "".join(unicodedata.normalize("NFKC", label).casefold().split())
    kept = [
        mark
        for place, mark in enumerate(text)
        if not unicodedata.category(mark).startswith("P")
        or mark in _MEANING
        or (mark == "-" and place in (0, len(text) - 1))  # a sign, as in -1 and A-
        or (text[place - 1 : place].isdigit() and text[place + 1 : place + 2].isdigit())
    ]
    return "".join(kept) or text


def best_spellings(labels: Iterable[str]) -> dict[str, str]:
    """Return label -> the most frequent spelling of it, where that is another one.

    >>> best_spellings(["Invoice", "invoice", "Invoice", "delivery"])
    {'invoice': 'Invoice'}
    """
    counts = Counter(labels)
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[spelling_key(label)].append(label)
    best = {key: max(group, key=lambda label: (counts[label], label == label.strip())) for key, group in groups.items()}
    return {label: best[key] for key, group in groups.items() for label in group if label != best[key]}


def stands_for_nothing(cell: str, *, may_be_meant: bool = False) -> bool:
    """Whether a text looks like a missing value.

    >>> stands_for_nothing("N/A"), stands_for_nothing("none"), stands_for_nothing("none", may_be_meant=True)
    (True, True, False)

    Args:
        cell: the whole text.
        may_be_meant: labels and utterances may be "none" or "?".
    """
    word = cell.strip().casefold()
    return word in _PLACEHOLDERS and not (may_be_meant and word in _MEANT)


def is_decimal(cell: str) -> bool:
    """Whether a text is a number in plain decimal notation, and no key.

    >>> [is_decimal(cell) for cell in ("7", " -0.5", "007", "1e5", "1,5", "4915112345678901")]
    [True, True, False, False, False, False]
    """
    text = cell.strip()
    return _DECIMAL.fullmatch(text) is not None and sum(mark.isdigit() for mark in text) <= _EXACT_DIGITS
