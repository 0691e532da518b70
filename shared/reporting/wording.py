"""The words of the page in English and French, and numbers as each language writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from typing import Literal, get_args

import yaml

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
_THIN = "\N{NARROW NO-BREAK SPACE}"
_HARD = "\N{NO-BREAK SPACE}"
_BEFORE_MARKS = re.compile(" (?=[:;!?])")
"""Blanks at which a line of French must not end."""


class Words:
    """Says things in one language.

    >>> Words("en").number(1234.6), Words("fr").number(1234.6).replace("\\u202f", "_"), Words("fr").number(3.456)
    ('1,235', '1_235', '3,46')
    >>> Words("en").number(0.0004)
    '0.0004'
    """

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of a key, with its blanks filled."""
        text = str(_SAID["texts"][key][self.language])
        if self.language == "fr":
            text = _BEFORE_MARKS.sub(_HARD, text)
        return text.format(**values)

    def number(self, value: float, digits: int | None = None) -> str:
        """Return a number with so many digits behind the point; if not given, with as many as matter: three in all."""
        shown = digits
        if shown is None:
            size = abs(value)
            small = 2 - math.floor(math.log10(size)) if 0 < size < 0.1 else 2
            shown = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else small
        text = f"{round(value, shown) + 0.0:,.{shown}f}"  # + 0.0: a small loss is not shown as minus nothing
        if digits is None and "." in text:
            text = text.rstrip("0").rstrip(".")
        text = text.replace("-", "\N{MINUS SIGN}")
        if self.language == "fr":
            return text.replace(",", _THIN).replace(".", ",")
        return text

    def money(self, value: float, currency: str) -> str:
        """Return an amount, without cents from 10 on."""
        return f"{self.number(value, 0 if abs(value) >= 10 or value == int(value) else 2)}{_HARD}{currency}"

    def of_hundred(self, share: float) -> str:
        """Return a share as so many of 100, to the tenth where only that tells it from none or all.

        >>> Words("en").of_hundred(0.934), Words("en").of_hundred(0.9996), Words("fr").of_hundred(0.004)
        ('93', 'more than 99.9', '0,4')
        """
        digits = 1 if 0 < share < 0.01 or 0.99 < share < 1 else 0
        shown = round(100 * share, digits)
        if shown >= 100 and share < 1:
            return self("more than", number=self.number(99.9))
        if shown <= 0 and share > 0:
            return self("less than", number=self.number(0.1))
        return self.number(shown, digits)

    def count(self, number: float, noun: str) -> str:
        """Return a number with what is counted: "1 example", "2 examples"; French has the plural from 2 on."""
        one, many = _SAID["nouns"][noun][self.language]
        is_one = abs(number) < 2 if self.language == "fr" else number == 1
        return f"{self.number(number)}{_HARD if self.language == 'fr' else ' '}{one if is_one else many}"

    def listed(self, names: Sequence[str]) -> str:
        """Return names as a sentence lists them.

        >>> Words("fr").listed(["a", "b", "c"])
        'a, b et c'
        """
        *first, last = names
        return f"{', '.join(first)} {self('and')} {last}" if first else last

    def date(self, written: str) -> str:
        """Return the day of a date as people say it; what is no date in ISO 8601 as it is.

        >>> Words("en").date("2026-12-01T10:00:00Z"), Words("fr").date("2026-12-01"), Words("fr").date("today")
        ('1 December 2026', '1er décembre 2026', 'today')
        """
        try:
            day = date.fromisoformat(written[:10])
        except ValueError:
            return written
        first = "1er" if day.day == 1 and self.language == "fr" else str(day.day)
        return f"{first} {_SAID['months'][self.language][day.month - 1]} {day.year}"

    def quoted(self, text: str) -> str:
        """Return a text in the language's quotation marks."""
        return f"«{_HARD}{text}{_HARD}»" if self.language == "fr" else f"“{text}”"

    def languages(self, codes: Sequence[str]) -> str:
        """Return the names of languages, or their codes where it knows no name."""
        names = _SAID["languages"]
        return self.listed([names[code][self.language] if code in names else code for code in codes])

    def known(self, phrase: str) -> str:
        """Return a phrase that Percept writes into bundles in English, in this language where it is known."""
        return str(_SAID["phrases"].get(phrase, phrase)) if self.language == "fr" else phrase


_SAID = yaml.safe_load((files("shared.reporting") / "templates" / "words.yaml").read_text("utf-8"))
