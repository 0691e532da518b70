"""Days, times of day and durations as ISO 8601, counted from a moment: what both languages share."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

Unit = Literal["second", "minute", "hour", "day", "week", "month", "year"]
When = Literal["date", "time", "duration"]
NOON = 12
_SHORT_YEAR = 100
_OF_TIME: Mapping[str, str] = {"hour": "H", "minute": "M", "second": "S"}
_OF_DATE: Mapping[str, str] = {"year": "Y", "month": "M", "week": "W", "day": "D"}


@dataclass(frozen=True)
class Match:
    """Words of a text with what they mean."""

    start: int
    end: int
    entity: str
    value: Any


@dataclass(frozen=True)
class Clock:
    """A time of day as it is said: 8 may be in the evening."""

    hour: int
    minute: int = 0
    is_half_day: bool = False
    """Whether it is from 1 to 12, and nothing said which half of the day."""


class Calendar:
    """Counts from a moment, in its time zone.

    Args:
        now: aware of its time zone.

    Its methods raise ValueError or OverflowError where there is no such day.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.today = now.date()

    def days(self, count: int) -> date:
        """Return the day so many days from today."""
        return self.today + timedelta(days=count)

    def next_weekday(self, weekday: int) -> date:
        """Return the next such day behind today, 0 for a Monday."""
        return self.days((weekday - self.today.weekday() - 1) % 7 + 1)

    def last_weekday(self, weekday: int) -> date:
        """Return the last such day before today."""
        return self.days(-((self.today.weekday() - weekday - 1) % 7 + 1))

    def weekday_in(self, weekday: int, weeks: int) -> date:
        """Return that day of this week, or of one so many weeks from it."""
        return self.days(weekday - self.today.weekday() + 7 * weeks)

    def day_of(self, month: int, day: int, year: int | None = None) -> date:
        """Return a day; without a year the next one, today included."""
        if year is not None:
            return date(year + (2000 if year < _SHORT_YEAR else 0), month, day)
        for ahead in range(9):  # 29 February is in one of eight years
            try:
                found = date(self.today.year + ahead, month, day)
            except ValueError:
                continue
            if found >= self.today:
                return found
        raise ValueError(f"there is no {day}.{month}.")

    def month(self, month: int, year: int | None = None) -> str:
        """Return a month; without a year the next one, this one included."""
        if year is None:
            year = self.today.year + (month < self.today.month)
        return f"{date(year, month, 1):%Y-%m}"

    def period(self, unit: Unit, ahead: int) -> str:
        """Return the week, month or year so many ahead, such as "2026-W49", "2026-12" or "2027"."""
        if unit == "week":
            year, week, _ = self.days(7 * ahead).isocalendar()
            return f"{year}-W{week:02}"
        if unit == "month":
            months = self.today.year * 12 + self.today.month - 1 + ahead
            return f"{date(months // 12, months % 12 + 1, 1):%Y-%m}"
        return f"{date(self.today.year + ahead, 1, 1):%Y}"

    def weekend(self, ahead: int) -> str:
        """Return the weekend of the week so many ahead, as an interval."""
        return f"{self.weekday_in(5, ahead)}/{self.weekday_in(6, ahead)}"

    def moved(self, count: float, unit: Unit) -> tuple[When, str]:
        """Return the day, or for hours and less the moment, so far from now."""
        if unit in _OF_TIME:
            seconds = count * {"hour": 3600, "minute": 60, "second": 1}[unit]
            return "time", self._shown(self.now.astimezone(UTC) + timedelta(seconds=seconds))
        if count != int(count):
            raise ValueError("no whole days")
        if unit in ("day", "week"):
            return "date", self.days(int(count) * (7 if unit == "week" else 1)).isoformat()
        months = self.today.year * 12 + self.today.month - 1 + int(count) * (12 if unit == "year" else 1)
        year, month = months // 12, months % 12 + 1
        day = min(self.today.day, calendar.monthrange(year, month)[1])
        return "date", date(year, month, day).isoformat()

    def at(self, day: date | None, clock: Clock, *, is_late: bool = False) -> str:
        """Return the moment of a time on a day; without a day the next one.

        Args:
            day: None for today, or tomorrow if that is over.
            clock: the time.
            is_late: whether it is said to be in the afternoon, the evening or at night.
        """
        hour = clock.hour + (NOON if is_late and clock.is_half_day and clock.hour < NOON else 0)
        at = time(hour, clock.minute)
        if day is not None:
            return self._shown(datetime.combine(day, at, self.now.tzinfo))
        found = datetime.combine(self.today, at, self.now.tzinfo)
        return self._shown(found if found >= self.now else datetime.combine(self.days(1), at, self.now.tzinfo))

    def present(self) -> str:
        """Return this moment."""
        return self._shown(self.now)

    def _shown(self, moment: datetime) -> str:
        return moment.astimezone(self.now.tzinfo).isoformat(timespec="seconds")


def duration(parts: Mapping[Unit, float]) -> str:
    """Return a duration as ISO 8601 writes it.

    >>> duration({"hour": 1, "minute": 30}), duration({"week": 2}), duration({"year": 1.5})
    ('PT1H30M', 'P2W', 'P1.5Y')
    """
    days = "".join(f"{_plain(parts[unit])}{sign}" for unit, sign in _OF_DATE.items() if unit in parts)  # type: ignore[index]
    hours = "".join(f"{_plain(parts[unit])}{sign}" for unit, sign in _OF_TIME.items() if unit in parts)  # type: ignore[index]
    return f"P{days}{'T' if hours else ''}{hours}"


def _plain(number: float) -> str:
    return f"{number:.10f}".rstrip("0").rstrip(".")
