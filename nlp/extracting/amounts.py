"""Numbers in digits and words, and money, in one language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from text_to_num import text2num

from nlp.extracting.moments import Match

S = r"[ \t\u00a0\u202f]{1,3}"
"""Blanks between two words; bounded, so that no pattern is slow."""
S0 = r"[ \t\u00a0\u202f]{0,3}"
APART = r"(?<![\w.,/])"
"""Nothing before it that a number could be part of."""
MAX_DIGITS = 15
"""More are no number that anybody counts with, and no float holds them."""
_SYMBOLS = {
    "US$": "USD",
    "CA$": "CAD",
    "A$": "AUD",
    "$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₩": "KRW",
}
_CODES = (
    "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "CNY", "HKD", "SGD", "INR", "KRW", "SEK", "NOK", "DKK",
    "PLN", "CZK", "HUF", "RON", "BGN", "TRY", "ILS", "ZAR", "BRL", "MXN", "ARS", "CLP", "COP", "PEN", "MAD",
    "TND", "DZD",
    "EGP", "XOF", "XAF", "NGN", "KES", "AED", "SAR", "QAR", "THB", "VND", "IDR", "MYR", "PHP", "TWD", "UAH", "ISK",
)  # fmt: skip
"""Of ISO 4217, those that are traded most."""


@dataclass(frozen=True)
class Wording:
    """How a language writes numbers and money."""

    code: str
    digits: str
    """Pattern of a numeral."""
    thousands: str
    """What stands between groups of digits."""
    decimal: str
    words: str
    """Words of numbers, separated by blanks."""
    joint: str
    """Pattern of what may join two of them."""
    not_behind: str
    """Pattern of what makes such a word another one, as in "no one"."""
    articles: frozenset[str]
    """Words that count only before a unit."""
    multiples: Mapping[str, int]
    """Words behind a numeral -> what they multiply it by."""
    multiple_joint: str
    """Pattern between such a word and a currency."""
    dozens: Mapping[str, int]
    """Patterns -> what they count."""
    currencies: Mapping[str, str]
    """Patterns of words -> ISO 4217."""
    cents: str
    cents_of: str
    number: str = field(init=False)
    """Pattern of a number in digits or words."""

    def __post_init__(self) -> None:
        word = "|".join(sorted(self.words.split(), key=len, reverse=True))
        number = (
            rf"(?:{self.digits}|{self.not_behind}(?<![\w-])(?:{word})(?:(?:{self.joint})(?:{word})){{0,12}}(?![\w-]))"
        )
        object.__setattr__(self, "number", number)

    def value(self, text: str) -> float:
        """Return the number that is written so.

        Raises:
            ValueError: it is none.
        """
        if not text[0].isdigit():
            return float(text2num(" ".join(re.split(r"\s+", text.casefold())), self.code))
        plain = re.sub(rf"[{self.thousands}]", "", text) if re.search(rf"[{self.thousands}]\d{{3}}", text) else text
        plain = plain.replace(self.decimal, ".")
        if sum(map(str.isdigit, plain)) > MAX_DIGITS:
            raise ValueError("too many digits")
        return float(plain)


def plain_number(value: float) -> int | float:
    """Return a whole number as such.

    >>> plain_number(2.0), plain_number(2.5)
    (2, 2.5)
    """
    return int(value) if value == int(value) else value


class Amounts:
    """Finds numbers and money in one language."""

    def __init__(self, wording: Wording) -> None:
        self.wording = wording
        multiple = "|".join(wording.multiples)
        of = wording.multiple_joint
        named = "|".join(f"(?P<c{place}>{words})" for place, words in enumerate(wording.currencies))
        codes = "|".join(_CODES)
        symbols = "|".join(map(re.escape, _SYMBOLS))
        number = wording.number
        self._currencies = list(wording.currencies.values())
        self._number = re.compile(
            rf"(?P<dozen>(?<!\w)(?:{'|'.join(wording.dozens)})\b)"
            rf"|(?P<minus>(?<!\w)[-−])?(?P<number>{number})(?:{S}(?P<multiple>{multiple})\b)?",
            re.IGNORECASE,
        )
        self._dozens = {re.compile(words, re.IGNORECASE): count for words, count in wording.dozens.items()}
        self._behind = re.compile(
            rf"(?P<number>{number})(?:{S}(?P<multiple>{multiple})(?:{of}))?{S0}"
            rf"(?:(?:{named})\b|(?P<code>(?-i:{codes}))\b|(?P<symbol>{symbols})(?!\w))"
            rf"(?:(?:{S}(?:and|et))?{S}(?P<cents>\d{{1,2}})(?:{S}(?:{wording.cents}))?(?![\w.,:]))?"
            rf"|(?P<only>{number}){S}(?:{wording.cents})\b",
            re.IGNORECASE,
        )
        self._before = re.compile(
            rf"(?<![\w$])(?:(?P<code>(?-i:{codes})){S0}|(?P<symbol>{symbols}){S0})(?P<number>{wording.digits})"
            rf"(?:{S0}(?P<multiple>{multiple}|k|m|bn)\b)?",
            re.IGNORECASE,
        )

    def matches(self, text: str) -> Iterator[Match]:
        """Yield all that is found, some of it inside of other things."""
        for found in self._number.finditer(text):
            yield from self._numbers(found)
        for pattern in (self._before, self._behind):
            for found in pattern.finditer(text):
                yield from self._money(found)

    def _numbers(self, found: re.Match[str]) -> Iterator[Match]:
        if found["dozen"]:
            for pattern, count in self._dozens.items():
                if pattern.fullmatch(found["dozen"]):
                    yield Match(*found.span(), "number", count)
            return
        if found["number"].casefold() in self.wording.articles and not found["multiple"]:
            return
        try:
            value = self._times(self.wording.value(found["number"]), found["multiple"])
        except ValueError:
            return
        yield Match(*found.span(), "number", plain_number(-value if found["minus"] else value))

    def _money(self, found: re.Match[str]) -> Iterator[Match]:
        groups = found.groupdict()
        try:
            if groups.get("only"):
                amount, currency = self.wording.value(groups["only"]) / 100, self.wording.cents_of
            else:
                amount = self._times(self.wording.value(groups["number"]), groups["multiple"])
                amount += int(groups.get("cents") or 0) / 100
                currency = self._currency(groups)
        except ValueError:
            return
        yield Match(*found.span(), "money", {"amount": plain_number(round(amount, 6)), "currency": currency})

    def _times(self, value: float, multiple: str | None) -> float:
        if not multiple:
            return value
        short = {"k": 1_000, "m": 1_000_000, "bn": 1_000_000_000}
        known = {**short, **self.wording.multiples}
        for words, factor in known.items():
            if re.fullmatch(words, multiple, re.IGNORECASE):
                return value * factor
        raise ValueError(multiple)

    def _currency(self, groups: Mapping[str, Any]) -> str:
        if groups["code"]:
            return str(groups["code"])
        if groups["symbol"]:
            return _SYMBOLS[groups["symbol"].upper()]
        return next(code for place, code in enumerate(self._currencies) if groups[f"c{place}"])
