"""How patterns of time are read in any language; a language brings its patterns, its words, and its clock and days."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import ClassVar

from nlp.extracting.amounts import Amounts
from nlp.extracting.moments import Calendar, Clock, Match, Unit, duration

Groups = Mapping[str, str | None]
"""Group of a pattern -> what it found, in lower case; None if nothing."""
_LIKE_I = str.maketrans("İı", "ii")
"""Turkish letters that `re.IGNORECASE` takes for an i, and `str.casefold` does not."""


class Language(ABC):
    """Finds what is said of time in one language."""

    amounts: ClassVar[Amounts]
    patterns: ClassVar[Mapping[str, str]]
    """Name -> pattern; what is called unlike any in `_readers` is a moment."""
    months: ClassVar[Sequence[str]]
    """From January on; ways to write one are separated by "|"."""
    units: ClassVar[Mapping[str, Unit]]
    """Patterns of words -> what they count."""
    late: ClassVar[frozenset[str]]
    """Words for what is behind noon."""
    ahead: ClassVar[Mapping[str, int]]
    """Words for the next or the last week, month or year -> how many from this one."""

    def __init__(self) -> None:
        self._patterns = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in self.patterns.items()}
        self._readers: dict[str, Callable[[Groups, Calendar], tuple[str, object]]] = {
            "day": self._date, "now": self._now, "month": self._month, "month_year": self._month,
            "period": self._period, "ahead": partial(self._moved, 1), "ago": partial(self._moved, -1),
            "compact": self._lasting, "half_hour": self._lasting, "and_half": self._lasting, "lasting": self._lasting,
        }  # fmt: skip

    def matches(self, text: str, when: Calendar) -> Iterator[Match]:
        """Yield all that is found, some of it inside of other things."""
        for name, pattern in self._patterns.items():
            read = self._readers.get(name, self._moment)
            for found in pattern.finditer(text):
                groups = {group: _lower(value) if value else None for group, value in found.groupdict().items()}
                try:
                    entity, value = read(groups, when)
                except (ValueError, OverflowError):
                    continue
                yield Match(*found.span(), entity, value)

    @abstractmethod
    def clock(self, groups: Groups) -> Clock:
        """Return the time of day that is said; raises ValueError if there is none such."""

    @abstractmethod
    def day(self, groups: Groups, when: Calendar) -> date | None:
        """Return the day that is said, None if none is; raises ValueError or OverflowError if there is none such."""

    def count(self, text: str) -> float:
        """Return the number of units that words mean; raises ValueError if they are none."""
        return self.amounts.wording.value(text)

    def month(self, text: str) -> int:
        """Return the number of a month, 1 for January; raises ValueError if it is none."""
        for number, names in enumerate(self.months, start=1):
            if text in names.split("|"):
                return number
        raise ValueError(text)

    def _moment(self, groups: Groups, when: Calendar) -> tuple[str, object]:
        is_late = any(groups.get(part) in self.late for part in ("dpart", "part", "simple"))
        return "time", when.at(self.day(groups, when), self.clock(groups), is_late=is_late)

    def _date(self, groups: Groups, when: Calendar) -> tuple[str, object]:
        day = self.day(groups, when)
        assert day is not None
        return "date", day.isoformat()

    def _now(self, _: Groups, when: Calendar) -> tuple[str, object]:
        return "time", when.present()

    def _month(self, groups: Groups, when: Calendar) -> tuple[str, object]:
        year = groups["year"]
        return "date", when.month(self.month(groups["month"] or ""), int(year) if year else None)

    def _period(self, groups: Groups, when: Calendar) -> tuple[str, object]:
        ahead = self.ahead.get(groups["which"] or "", 0)
        unit = groups["unit"] or groups["unit2"] or groups.get("unit3")
        if unit in ("weekend", "week-end"):
            return "date", when.weekend(ahead)
        return "date", when.period(self._unit(unit), ahead)

    def _moved(self, sign: int, groups: Groups, when: Calendar) -> tuple[str, object]:
        return when.moved(sign * self.count(groups["n"] or ""), self._unit(groups["unit"]))

    def _lasting(self, groups: Groups, _: Calendar) -> tuple[str, object]:
        if groups.get("m"):
            return "duration", duration({"hour": int(groups["h"] or 0), "minute": int(groups["m"] or 0)})
        if groups.get("half") or groups.get("quarter"):
            return "duration", duration({"minute": 30 if groups["half"] else 15})
        count = self.count(groups["n"] or "")
        if "unit" not in groups:
            return "duration", duration({"hour": count, "minute": 30})
        unit = self._unit(groups["unit"])
        parts: dict[Unit, float] = {unit: count}
        if groups["n2"]:
            second = self._unit(groups["unit2"])
            if second == unit:
                raise ValueError("the same unit twice")
            parts[second] = self.count(groups["n2"])
        return "duration", duration(parts)

    def _unit(self, text: str | None) -> Unit:
        for words, unit in self.units.items():
            if re.fullmatch(words, text or "", re.IGNORECASE):
                return unit
        raise ValueError(text)


def _lower(text: str) -> str:
    return text.translate(_LIKE_I).casefold()
