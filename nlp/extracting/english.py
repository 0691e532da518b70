"""Dates, times and durations in English, and how English writes numbers and money."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar

from nlp.extracting.amounts import APART, S0, Amounts, S, Wording
from nlp.extracting.language import Groups, Language
from nlp.extracting.moments import Calendar, Clock, Unit

WORDING = Wording(
    code="en",
    digits=APART + r"(?<!\d )(?:\d{1,3}(?:,\d{3}){1,4}(?:\.\d{1,6})?|\d{1,15}(?:\.\d{1,6})?)(?![.,/]?\d)(?! \d)",
    thousands=",",
    decimal=".",
    words="zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million "
    "billion",
    joint=rf"-|{S}and{S}|{S}",
    not_behind=r"(?<!\bno )(?<!\beach )(?<!\bthis )(?<!\bthat )",
    articles=frozenset(),
    multiples={"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000},
    multiple_joint=S,
    dozens={rf"(?:a{S})?dozen": 12, rf"two{S}dozen": 24, rf"half{S}a{S}dozen": 6},
    currencies={
        rf"canadian{S}dollars?": "CAD",
        rf"australian{S}dollars?": "AUD",
        rf"swiss{S}francs?": "CHF",
        rf"(?:us{S})?dollars?|bucks?": "USD",
        "euros?": "EUR",
        rf"pounds?(?:{S}sterling)?": "GBP",
        "yen": "JPY",
        "yuan": "CNY",
        "rupees?": "INR",
    },
    cents="cents?",
    cents_of="USD",
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january|jan", "february|feb", "march|mar", "april|apr", "may", "june|jun", "july|jul", "august|aug",
    "september|sept|sep", "october|oct", "november|nov", "december|dec",
)  # fmt: skip
_UNITS: dict[str, Unit] = {
    "seconds?|secs?": "second", "minutes?|mins?": "minute", "hours?|hrs?|h": "hour", "days?|nights?": "day",
    "weeks?": "week", "months?": "month", "years?": "year",
}  # fmt: skip
_N = WORDING.number
_UNIT = "|".join(_UNITS)
_MONTH = "|".join(_MONTHS)
_DAY = "|".join(_DAYS)
_PART = "morning|afternoon|evening|night"
_SMALL = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_CLOCK = (
    rf"(?:(?P<h>{APART}\d{{1,2}}):(?P<m>\d{{2}})(?::\d{{2}})?(?:{S0}(?P<half>[ap]\.?m\b\.?))?(?![\d:])"
    rf"|(?P<h2>{APART}\d{{1,2}}|\b(?:{_SMALL})\b)(?:\.(?P<m2>\d{{2}}))?{S0}(?:(?P<half2>[ap]\.?m\b\.?)|o['’]clock\b)"
    rf"|(?P<lean>half|(?:a{S})?quarter|\d{{1,2}}|\b(?:five|ten|twenty)\b)(?:{S}minutes)?{S}(?P<to>past|to){S}"
    rf"(?P<h3>\d{{1,2}}\b(?![:.]\d)|(?:{_SMALL})\b)|\b(?P<word>noon|midday|midnight)\b)"
)
_BARE = rf"(?P<bare>\d{{1,2}}(?![\d:]|[.,]\d|{S0}[%$€£])|(?:{_SMALL})\b)"
_DAY_OF = (
    rf"(?P<after>\b(?:the{S})?day{S}after{S}tomorrow\b)|(?P<before>\b(?:the{S})?day{S}before{S}yesterday\b)"
    rf"|\b(?P<simple>today|tomorrow|yesterday|tonight)\b|\bthis{S}(?P<part>{_PART})\b"
    rf"|\b(?:(?P<which>this|next|last){S})?(?P<weekday>{_DAY})\b"
    rf"|(?P<iso>(?<![\w-])\d{{4}}-\d{{2}}-\d{{2}}(?![\w-]))"
    rf"|(?P<numeric>(?<![\w/.-])\d{{1,2}}/\d{{1,2}}/\d{{4}}(?![\w/]))"
    rf"|(?:\bthe{S})?\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?{S}(?:of{S})?(?P<month>{_MONTH})\b\.?(?:,?{S}(?P<year>\d{{4}})\b)?"
    rf"|\b(?P<month2>{_MONTH})\.?{S}(?:the{S})?(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\b(?![:.]\d)(?:,?{S}(?P<year2>\d{{4}})\b)?"
)
_DAY_PART = rf"(?:{S}(?:in{S}the{S})?(?P<dpart>{_PART})\b)?"
_AT = rf"(?:,?{S}(?:at|around|by|@){S})"
_PATTERNS = {
    "day_clock": rf"(?:{_DAY_OF}){_DAY_PART}(?:{_AT}|,?{S})(?:{_CLOCK})",
    "day_bare": rf"(?:{_DAY_OF}){_DAY_PART}{_AT}{_BARE}",
    "clock_day": rf"(?:{_CLOCK}|(?<=at ){_BARE}){S}(?:on{S})?(?:{_DAY_OF}){_DAY_PART}",
    "day": rf"(?:{_DAY_OF}){_DAY_PART}",
    "clock": rf"{_CLOCK}(?:{S}in{S}the{S}(?P<dpart>{_PART})\b)?",
    "at": rf"(?<=\bat ){_BARE}(?={S0}(?:$|[.,;!?]))",
    "now": rf"\b(?:right{S})?now\b",
    "month": rf"(?<=\b(?:in|by) )(?P<month>{_MONTH})\b(?:{S}(?P<year>\d{{4}})\b)?",
    "month_year": rf"\b(?P<month>{_MONTH}){S}(?P<year>\d{{4}})\b",
    "period": rf"\b(?P<which>this|next|last){S}(?P<unit>week|month|year|weekend)\b|\b(?:the|at){S}(?P<unit2>weekend)\b",
    "ahead": rf"\bin{S}(?P<n>{_N}|an?){S}(?P<unit>{_UNIT})\b(?!{S}(?:and|{_N}))",
    "ago": rf"(?P<n>{_N}|\ban?){S}(?P<unit>{_UNIT}){S}ago\b",
    "compact": r"(?<![\w.,:])(?P<h>\d{1,2})h(?P<m>\d{2})(?![\w:])",
    "half_hour": rf"\b(?:(?P<half>half{S}an{S}hour)|(?P<quarter>a{S}quarter{S}of{S}an{S}hour))\b",
    "and_half": rf"(?P<n>{_N}|\ban){S}hours?{S}and{S}a{S}half\b",
    "lasting": rf"(?P<n>{_N}|\ban)(?:{S0}|-)(?P<unit>{_UNIT})\b"
    rf"(?:(?:,?{S}and)?{S}(?P<n2>{_N}){S0}(?P<unit2>{_UNIT})\b)?",
}


class English(Language):
    """Finds what is said of time in English."""

    amounts = Amounts(WORDING)
    patterns = _PATTERNS
    months = _MONTHS
    units = _UNITS
    late = frozenset({"afternoon", "evening", "night", "tonight"})
    ahead: ClassVar[Mapping[str, int]] = {"next": 1, "last": -1}

    def count(self, text: str) -> float:
        """Return the number of units; "an hour" is one, though "an" is no number."""
        return 1.0 if text in ("a", "an") else super().count(text)

    def clock(self, groups: Groups) -> Clock:
        """Return the time of day that is said."""
        word = groups.get("word")
        if word:
            return Clock(0 if word == "midnight" else 12)
        half = groups.get("half") or groups.get("half2")
        hour_text = groups.get("h") or groups.get("h2") or groups.get("h3") or groups.get("bare")
        assert hour_text is not None
        hour, minute = int(WORDING.value(hour_text)), int(groups.get("m") or groups.get("m2") or 0)
        lean = groups.get("lean")
        if lean:
            minute = 30 if lean == "half" else 15 if lean.endswith("quarter") else int(WORDING.value(lean))
            if groups["to"] == "to":
                if lean == "half":
                    raise ValueError(lean)
                hour, minute = (hour - 1) % 24, 60 - minute
        if half:
            if not 1 <= hour <= 12:
                raise ValueError(hour)
            return Clock(hour % 12 + (12 if half.startswith("p") else 0), minute)
        return Clock(hour, minute, is_half_day=1 <= hour <= 12)

    def day(self, groups: Groups, when: Calendar) -> date | None:  # noqa: PLR0911
        """Return the day that is said."""
        if groups.get("after") or groups.get("before"):
            return when.days(2 if groups["after"] else -2)
        if groups.get("simple") or groups.get("part"):
            return when.days({"tomorrow": 1, "yesterday": -1}.get(groups.get("simple") or "", 0))
        if weekday := groups.get("weekday"):
            number, which = _DAYS.index(weekday), groups["which"]
            if which == "last":
                return when.last_weekday(number)
            if which == "next":
                return when.weekday_in(number, 1)
            return when.weekday_in(number, 0) if which == "this" else when.next_weekday(number)
        if iso := groups.get("iso"):
            return date.fromisoformat(iso)
        if numeric := groups.get("numeric"):
            first, second, year = map(int, numeric.split("/"))
            if first <= 12 and second <= 12 and first != second:
                raise ValueError("3/4 is in March or in April")
            return date(year, min(first, second), max(first, second)) if first != second else date(year, first, first)
        day, month = groups.get("day") or groups.get("day2"), groups.get("month") or groups.get("month2")
        if day and month:
            year_text = groups.get("year") or groups.get("year2")
            return when.day_of(self.month(month), int(day), int(year_text) if year_text else None)
        return None
