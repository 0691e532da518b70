"""Dates, times and durations in French, and how French writes numbers and money."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date

from nlp.extracting.amounts import APART, S0, Amounts, S, Wording
from nlp.extracting.moments import Calendar, Clock, Match, Unit, duration

WORDING = Wording(
    code="fr",
    digits=APART + r"(?:\d{1,3}(?:[ \u00a0\u202f.]\d{3}){1,4}(?!\d)(?:,\d{1,6})?|\d{1,15}(?:[.,]\d{1,6})?)(?![.,/]?\d)",
    thousands=" \u00a0\u202f.",
    decimal=",",
    words="zéro un une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize vingt "
    "vingts trente quarante cinquante soixante septante huitante octante nonante cent cents mille million millions "
    "milliard milliards",
    joint=rf"-et-|-|{S}et{S}(?=une?\b|onze\b)|{S}",
    not_behind="",
    articles=frozenset({"un", "une"}),
    multiples={"mille": 1_000, "millions?": 1_000_000, "milliards?": 1_000_000_000},
    multiple_joint=rf"{S}(?:de{S}|d['’])?",
    dozens={
        rf"(?:une{S})?demi-douzaine": 6, rf"(?:une{S})?douzaine": 12, rf"(?:une{S})?dizaine": 10,
        rf"(?:une{S})?quinzaine": 15, rf"(?:une{S})?vingtaine": 20, rf"(?:une{S})?centaine": 100,
    },
    currencies={
        rf"dollars?{S}canadiens?": "CAD",
        rf"dollars?{S}australiens?": "AUD",
        rf"francs?{S}suisses?": "CHF",
        rf"dollars?(?:{S}américains?)?": "USD",
        "euros?": "EUR",
        rf"livres?{S}sterling": "GBP",
        "yens?": "JPY",
        "yuans?": "CNY",
        "roupies?": "INR",
    },
    cents="centimes?|cents?",
    cents_of="EUR",
)  # fmt: skip
_DAYS = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")
_MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
    "décembre",
)  # fmt: skip
_UNITS: dict[str, Unit] = {
    "secondes?": "second", "minutes?|min|mn": "minute", "heures?|h": "hour", "jours?|nuits?": "day",
    "semaines?": "week", "mois": "month", "ans?|années?": "year",
}  # fmt: skip
_N = WORDING.number
_UNIT = "|".join(_UNITS)
_MONTH = "|".join(_MONTHS)
_DAY = "|".join(_DAYS)
_PART = r"matin|midi|après-midi|soir|nuit"
_LATE = ("après-midi", "soir", "nuit")
_HOURS = (
    "zéro", "une", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze", "treize",
    "quatorze", "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf", "vingt", "vingt-et-une", "vingt-deux",
    "vingt-trois",
)  # fmt: skip
_HOUR = "|".join(sorted(_HOURS, key=len, reverse=True))
_MINUTE = r"\d{2}(?![\w]|[.,:]\d)|(?:cinq|dix|quinze|vingt-cinq|vingt)\b"
_CLOCK = (
    rf"(?:(?P<h>{APART}\d{{1,2}}):(?P<m>\d{{2}})(?::\d{{2}})?(?![\d:])"
    rf"|(?P<h2>{APART}\d{{1,2}}|\b(?:{_HOUR})\b){S0}(?:heures?|h)(?![^\W\d])"
    rf"(?:{S0}(?P<m2>{_MINUTE})|{S}et{S}(?P<half>demie?|quart)\b|{S}moins{S}(?P<less>le{S}quart|{_MINUTE}))?"
    rf"|\b(?P<word>midi|minuit)\b(?:{S}et{S}(?P<half2>demie?|quart)\b)?)"
)
_DAY_OF = (
    rf"(?P<after>\baprès-demain\b)|(?P<before>\bavant-hier\b)"
    rf"|\b(?P<simple>aujourd['’]hui|demain|hier)\b|\bcet?(?:te)?{S}(?P<part>{_PART})\b"
    rf"|(?:\b(?P<this>ce){S})?\b(?P<weekday>{_DAY})\b(?:{S}(?P<which>prochain|dernier|passé)\b)?(?!{S}\d{{1,2}}{S}(?:{_MONTH}))"
    rf"|(?P<iso>(?<![\w-])\d{{4}}-\d{{2}}-\d{{2}}(?![\w-]))"
    rf"|(?P<numeric>(?<![\w/.-])\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{4}}(?![\w/]))"
    rf"|(?:\b(?:le{S})?(?:(?:{_DAY}){S})?)(?<![\w,.])(?P<day>\d{{1,2}}|premier)(?:er)?{S}(?P<month>{_MONTH})\b(?:{S}(?P<year>\d{{4}})\b)?"
)
_DAY_PART = rf"(?:{S}(?:(?:au|le|dans{S}l['’]){S0})?(?P<dpart>{_PART})\b)?"
_AT = rf",?{S}(?:(?:à|vers|dès|pour|avant|après){S})?"
_PATTERNS = {
    "day_clock": rf"(?:{_DAY_OF}){_DAY_PART}{_AT}(?:{_CLOCK})",
    "clock_day": rf"(?:{_CLOCK}){S}(?:{_DAY_OF}){_DAY_PART}",
    "day": rf"(?:{_DAY_OF}){_DAY_PART}",
    "clock": rf"(?:(?<=\bà )|(?<=\bvers )|(?<=\bdès )|(?<=\bavant )|(?<=\baprès )|(?<=\bentre )|(?<=\bdepuis ))"
    rf"(?:{_CLOCK})(?:{S}du{S}(?P<dpart>{_PART})\b)?",
    "written": rf"(?<=\bpour )(?P<h>\d{{1,2}}){S0}h(?![^\W\d])(?:{S0}(?P<m>\d{{2}})(?!\d))?",
    "range": rf"(?<=\bde )(?:{_CLOCK})(?={S}à{S}(?:\d{{1,2}}{S0}(?:h|:)|midi|minuit|(?:{_HOUR}){S}heures?))",
    "colon": rf"{APART}(?P<h>\d{{1,2}}):(?P<m>\d{{2}})(?![\d:])",
    "now": r"\b(?:maintenant|tout de suite)\b",
    "noon": r"\b(?P<word>midi|minuit)\b(?<!-midi)",
    "month": rf"(?<=\b(?:en) )(?P<month>{_MONTH})\b(?:{S}(?P<year>\d{{4}})\b)?",
    "month_year": rf"\b(?P<month>{_MONTH}){S}(?P<year>\d{{4}})\b",
    "period": rf"\b(?:(?:la|le|l['’]){S0}(?P<unit>semaine|mois|année|an|week-end){S}"
    rf"(?P<which>prochaine?|derni(?:er|ère)|passée?)|(?:cette{S}(?P<unit2>semaine|année)|ce{S}(?P<unit3>mois|week-end))(?:-ci)?)\b",
    "ahead": rf"\bdans{S}(?P<n>{_N}){S}(?P<unit>{_UNIT})\b(?!{S}et{S})",
    "ago": rf"\bil{S}y{S}a{S}(?P<n>{_N}){S}(?P<unit>{_UNIT})\b",
    "compact": r"(?<![\w.,:])(?P<h>\d{1,2})h(?P<m>\d{2})(?![\w:])",
    "half_hour": rf"\b(?:(?P<half>(?:une{S})?demi-heure)|(?P<quarter>(?:un{S})?quart{S}d['’]heure))\b",
    "and_half": rf"(?P<n>{_N}){S}heures?{S}et{S}demie?\b",
    "lasting": rf"(?P<n>{_N}){S0}(?P<unit>{_UNIT})\b(?:(?:,?{S}et)?{S}(?P<n2>{_N}){S0}(?P<unit2>{_UNIT})\b)?",
}
_LAST = ("dernier", "dernière", "passé", "passée")


class French:
    """Finds what is said of time in French."""

    amounts = Amounts(WORDING)

    def __init__(self) -> None:
        self._patterns = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PATTERNS.items()}
        self._readers: dict[str, Callable[[re.Match[str], Calendar], tuple[str, object]]] = {
            "day_clock": _moment, "clock_day": _moment, "clock": _moment, "written": _moment, "range": _moment,
            "colon": _moment, "noon": _moment, "day": _date, "now": lambda _, when: ("time", when.present()),
            "month": _month, "month_year": _month, "period": _period, "ahead": _ahead, "ago": _ahead,
            "compact": _lasting, "half_hour": _lasting, "and_half": _lasting, "lasting": _lasting,
        }  # fmt: skip

    def matches(self, text: str, when: Calendar) -> Iterator[Match]:
        """Yield all that is found, some of it inside of other things."""
        for name, pattern in self._patterns.items():
            for found in pattern.finditer(text):
                try:
                    entity, value = self._readers[name](found, when)
                except (ValueError, OverflowError):
                    continue
                yield Match(*found.span(), entity, value)


def _groups(found: re.Match[str]) -> dict[str, str | None]:
    return {name: value.casefold() if value else None for name, value in found.groupdict().items()}


def _unit(text: str) -> Unit:
    return next(unit for pattern, unit in _UNITS.items() if re.fullmatch(pattern, text, re.IGNORECASE))


def _small(text: str) -> int:
    """Return an hour or minutes; "une heure" is one, and no article."""
    return int(text) if text.isdigit() else int(WORDING.value("un" if text == "une" else text))


def _clock(groups: dict[str, str | None]) -> Clock:
    half = groups.get("half") or groups.get("half2")
    extra = 0 if not half else 15 if half == "quart" else 30
    if word := groups.get("word"):
        return Clock(0 if word == "minuit" else 12, extra)
    hour_text = groups.get("h") or groups.get("h2")
    assert hour_text is not None
    hour, minute_text, less = _small(hour_text), groups.get("m") or groups.get("m2"), groups.get("less")
    minute = _small(minute_text) if minute_text else extra
    if less:
        hour, minute = (hour - 1) % 24, 60 - (15 if less.endswith("quart") else _small(less))
    return Clock(hour, minute, is_half_day=1 <= hour <= 12)


def _day(groups: dict[str, str | None], when: Calendar) -> date | None:  # noqa: PLR0911
    if groups.get("after") or groups.get("before"):
        return when.days(2 if groups["after"] else -2)
    if groups.get("simple") or groups.get("part"):
        return when.days({"demain": 1, "hier": -1}.get(groups.get("simple") or "", 0))
    if weekday := groups.get("weekday"):
        number = _DAYS.index(weekday)
        if groups["which"] in _LAST:
            return when.last_weekday(number)
        return when.weekday_in(number, 0) if groups["this"] else when.next_weekday(number)
    if iso := groups.get("iso"):
        return date.fromisoformat(iso)
    if numeric := groups.get("numeric"):
        return date(*map(int, reversed(re.split(r"[/.]", numeric))))
    if groups.get("day"):
        month = _MONTHS.index(groups["month"] or "") + 1
        day = 1 if groups["day"] == "premier" else int(groups["day"] or 0)
        return when.day_of(month, day, int(groups["year"]) if groups["year"] else None)
    return None


def _moment(found: re.Match[str], when: Calendar) -> tuple[str, object]:
    groups = _groups(found)
    is_late = any(groups.get(each) in _LATE for each in ("dpart", "part"))
    return "time", when.at(_day(groups, when), _clock(groups), is_late=is_late)


def _date(found: re.Match[str], when: Calendar) -> tuple[str, object]:
    day = _day(_groups(found), when)
    assert day is not None
    return "date", day.isoformat()


def _month(found: re.Match[str], when: Calendar) -> tuple[str, object]:
    groups = _groups(found)
    return "date", when.month(_MONTHS.index(groups["month"] or "") + 1, int(groups["year"]) if groups["year"] else None)


def _period(found: re.Match[str], when: Calendar) -> tuple[str, object]:
    groups = _groups(found)
    unit = groups["unit"] or groups["unit2"] or groups["unit3"] or ""
    which = groups["which"]
    ahead = 0 if which is None else -1 if which in _LAST else 1
    return "date", when.weekend(ahead) if unit == "week-end" else when.period(_unit(unit), ahead)


def _ahead(found: re.Match[str], when: Calendar) -> tuple[str, object]:
    groups = _groups(found)
    sign = 1 if found[0].casefold().startswith("dans") else -1
    return when.moved(sign * WORDING.value(groups["n"] or ""), _unit(groups["unit"] or ""))


def _lasting(found: re.Match[str], _: Calendar) -> tuple[str, object]:
    groups = _groups(found)
    if groups.get("m"):
        return "duration", duration({"hour": int(groups["h"] or 0), "minute": int(groups["m"] or 0)})
    if groups.get("half") or groups.get("quarter"):
        return "duration", duration({"minute": 30 if groups["half"] else 15})
    count = WORDING.value(groups["n"] or "")
    if "unit" not in groups:
        return "duration", duration({"hour": count, "minute": 30})
    unit = _unit(groups["unit"] or "")
    parts: dict[Unit, float] = {unit: count}
    if groups["n2"]:
        second = _unit(groups["unit2"] or "")
        if second == unit:
            raise ValueError("the same unit twice")
        parts[second] = WORDING.value(groups["n2"])
    return "duration", duration(parts)
