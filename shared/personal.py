"""Personal data in texts, by rules: addresses of e-mail, telephone, bank account, credit card and IP numbers."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True)
class Personal:
    """A place in a text."""

    kind: str
    start: int
    end: int


def personal_data(text: str) -> Iterator[Personal]:
    """Yield what looks like personal data, in the order of the text; no place twice.

    >>> [(p.kind, "mail ada@example.org or +44 20 7946 0958"[p.start : p.end]) for p in
    ...  personal_data("mail ada@example.org or +44 20 7946 0958")]
    [('e-mail', 'ada@example.org'), ('telephone', '+44 20 7946 0958')]
    >>> [p.kind for p in personal_data("card 4111 1111 1111 1111, not 4111 1111 1111 1112 in 2026-11-30")]
    ['card']
    """
    taken: list[Personal] = []  # sorted; none overlaps another
    for kind, (pattern, is_valid) in _RULES.items():
        for found in pattern.finditer(text):
            place = Personal(kind, *found.span())
            at = bisect(taken, place.start, key=lambda each: each.start)
            overlaps = any(
                place.start < other.end and other.start < place.end for other in taken[max(0, at - 1) : at + 1]
            )
            if not overlaps and is_valid(found[0]):
                taken.insert(at, place)
    yield from taken


def masked(text: str) -> str:
    """Return a text with its personal data as [e-mail], [telephone] and so on.

    >>> masked("write to ada@example.org")
    'write to [e-mail]'
    """
    parts, last = [], 0
    for each in personal_data(text):
        parts += [text[last : each.start], f"[{each.kind}]"]
        last = each.end
    return "".join([*parts, text[last:]])


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _is_card(text: str) -> bool:
    """Whether digits have the check digit of ISO/IEC 7812 (Luhn)."""
    digits = [int(digit) for digit in reversed(_digits(text))]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether an account number has the check digits of ISO 13616."""
    plain = text.replace(" ", "").upper()
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _is_telephone(text: str) -> bool:
    digits = _digits(text)
    if not 8 <= len(digits) <= 15 or _DATE.search(text):
        return False
    return text.startswith(("+", "00", "0", "(")) or _GROUPS.fullmatch(text) is not None


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return any(character.isdigit() for character in text)


_DATE = re.compile(r"\b(?:19|20)\d\d[-./ ][01]?\d[-./ ][0-3]?\d\b|\b[0-3]?\d[-./ ][01]?\d[-./ ](?:19|20)\d\d\b")
_GROUPS = re.compile(r"\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}")
_RULES: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "e-mail": (re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b"), lambda _: True),
    "account": (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), _is_iban),
    "card": (re.compile(r"(?<![\d-])\d(?:[ .-]{0,2}\d){12,18}(?![\d-])"), _is_card),
    "ip": (
        re.compile(
            r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"
            r"|(?<![\w:.])(?:[0-9a-fA-F]{1,4}:{1,2}){2,7}(?:[0-9a-fA-F]{1,4})?(?![\w:])"
        ),
        _is_ip,
    ),
    "telephone": (re.compile(r"(?<![\w+.,-])(?:\+|\(|\d)[\d ()/.-]{6,22}\d(?![\w-])"), _is_telephone),
}
"""Kind -> how it is written, and what else must hold; earlier kinds go first."""
