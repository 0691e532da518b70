"""What a service extracts with rules: the kinds and languages that are switched on, read in one text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers

from nlp.extracting.asking import Asking, Extracted
from nlp.extracting.english import English
from nlp.extracting.french import French
from nlp.extracting.language import Language
from nlp.extracting.moments import Calendar, Match
from shared.errors import ConfigError, InputError

_ORDER = ("url", "email", "phone", "money", "time", "date", "duration", "number")
"""Of two that are as long, the first is given."""
_LANGUAGES: dict[str, type[Language]] = {"en": English, "fr": French}
_FUNCTION_WORDS = {
    "en": "the an to at in for of is are my i you it please from with by and was what this that next last tomorrow",
    "fr": "le la les un une de du des à au aux et je tu il elle mon ma mes pour dans est en sur avec par ce cette que",
}
"""Words that tell the two languages apart; none is in both lists."""
MAX_CHARS = 5_000
"""What is behind them is not read: 2,000 characters take up to 0.15 s (the worst of 32 hostile texts on one core,
2026-12)."""
_URL = re.compile(r"(?<![\w@.])(?:https?://|www\.)[^\s<>\"“”«»]{1,2000}", re.IGNORECASE)
_BEHIND_URL = ".,;:!?'’…"
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%'-]{1,64}@(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_PHONE_DIGITS = 7
_CALLED = re.compile(r"(?<![\w.,])[+(]?\d[\d\s().\u00a0\u202f/-]{5,30}\d(?!\w)")
"""Where a telephone number may be; libphonenumber judges it."""


class Extractors:
    """Reads texts; holds no state between calls.

    Args:
        entities: what is switched on.
        languages: the first counts where both find as much.
        time_zone: IANA's name of the zone where `now` is, unless a caller names another.
        region: ISO 3166's country of telephone numbers without a country's code; None for none.

    Raises:
        ConfigError: there is no such time zone or country.
    """

    def __init__(self, entities: Collection[str], languages: Sequence[str], time_zone: str, region: str | None) -> None:
        self.entities = frozenset(entities)
        self.languages: dict[str, Language] = {code: _LANGUAGES[code]() for code in languages}
        self._words: dict[str, frozenset[str]] = {code: frozenset(_FUNCTION_WORDS[code].split()) for code in languages}
        self.region = region
        if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
            raise ConfigError(f"phone_region is {region!r}; expected a country's two letters, such as FR.")
        try:
            self.zone = _zone(time_zone)
        except InputError as error:
            raise ConfigError(str(error)) from error

    def check(self, asking: Asking) -> Calendar:
        """Return the calendar of a caller's moment.

        Raises:
            InputError: something is not switched on, or there is no such time zone.
        """
        unknown = sorted(set(asking.entities or ()) - self.entities)
        if unknown:
            raise InputError(f"extract: {', '.join(unknown)} is not switched on here; there are {self._known()}.")
        if asking.language is not None and asking.language not in self.languages:
            raise InputError(
                f"language is {asking.language!r}; this service extracts in {', '.join(sorted(self.languages))}."
            )
        given = asking.now
        if given is not None and given.tzinfo is not None:
            zone = _zone(asking.time_zone) if asking.time_zone else given.tzinfo
            return Calendar(_moved(given, zone))
        zone = _zone(asking.time_zone) if asking.time_zone else self.zone
        return Calendar(datetime.now(UTC).astimezone(zone) if given is None else given.replace(tzinfo=zone))

    def read(self, text: str, asking: Asking) -> tuple[Extracted, ...]:
        """Return what is found in a text, in its order, none over another; raises as `check`."""
        when, text = self.check(asking), text[:MAX_CHARS]
        words = re.findall(r"[^\W\d_]+", text.casefold())
        alike = list(self._of_any_language(text))
        chosen = [asking.language] if asking.language else list(self.languages)
        best: list[Match] = []
        most = (-1, -1)
        for code in chosen:
            language = self.languages[code]
            found = _apart([*alike, *language.matches(text, when), *language.amounts.matches(text)])
            told = sum(word in self._words[code] for word in words)
            covered = sum(each.end - each.start for each in found)
            if (told, covered) > most:
                best, most = found, (told, covered)
        wanted = self.entities if asking.entities is None else asking.entities
        return tuple(
            Extracted(each.start, each.end, each.entity, each.value, text[each.start : each.end])
            for each in best
            if each.entity in wanted
        )

    def _of_any_language(self, text: str) -> Iterator[Match]:
        if "://" in text or "www." in text.casefold():
            yield from _urls(text)
        if "@" in text:
            for found in _EMAIL.finditer(text):
                name, _, host = found[0].rpartition("@")
                yield Match(*found.span(), "email", f"{name}@{host.lower()}")
        if sum(character.isdigit() for character in text) >= _PHONE_DIGITS:
            for found in _CALLED.finditer(text):
                yield from self._phones(text, found.start(), found.end())

    def _phones(self, text: str, start: int, end: int) -> Iterator[Match]:
        try:
            number = phonenumbers.parse(text[start:end], self.region)
        except phonenumbers.NumberParseException:
            return
        if phonenumbers.is_valid_number(number):
            shown = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            yield Match(start, end, "phone", shown)

    def _known(self) -> str:
        return ", ".join(each for each in _ORDER if each in self.entities)


def _urls(text: str) -> Iterator[Match]:
    for found in _URL.finditer(text):
        shown = found[0].rstrip(_BEHIND_URL)
        while shown.endswith((")", "]")) and shown.count(shown[-1]) > shown.count("(" if shown[-1] == ")" else "["):
            shown = shown[:-1].rstrip(_BEHIND_URL)
        has_scheme = "://" in shown[:8]
        if len(shown) > len("www.") + (4 if has_scheme else 0):
            yield Match(found.start(), found.start() + len(shown), "url", shown if has_scheme else f"http://{shown}")


def _apart(found: Sequence[Match]) -> list[Match]:
    """Return matches of which none is over another, the longer ones first chosen, in the text's order."""
    kept: list[Match] = []
    taken: set[int] = set()
    for each in sorted(found, key=lambda match: (match.start - match.end, _ORDER.index(match.entity), match.start)):
        places = range(each.start, each.end)
        if taken.isdisjoint(places):
            taken.update(places)
            kept.append(each)
    return sorted(kept, key=lambda match: match.start)


@cache
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"there is no time zone {name[:100]!r}; expected IANA's name, such as Europe/Paris."
        ) from error


def _moved(moment: datetime, zone: Any) -> datetime:
    try:
        return moment.astimezone(zone)
    except OverflowError as error:
        raise InputError("now is too near the end of time. Send another moment.") from error
