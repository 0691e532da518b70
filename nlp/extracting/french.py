"""Dates, times and durations in French, and how French writes numbers and money."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import ClassVar

from nlp.extracting.amounts import APART, S0, Amounts, S, Wording
from nlp.extracting.language import Groups, Language
from nlp.extracting.moments import Calendar, Clock, Unit

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


class French(Language):
    """Finds what is said of time in French."""

    amounts = Amounts(WORDING)
    patterns = _PATTERNS
    months = _MONTHS
    units = _UNITS
    late = frozenset({"après-midi", "soir", "nuit"})
    ahead: ClassVar[Mapping[str, int]] = {
        "prochain": 1, "prochaine": 1, "dernier": -1, "dernière": -1, "passé": -1, "passée": -1,
    }  # fmt: skip

    def clock(self, groups: Groups) -> Clock:
        """Return the time of day that is said."""
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

    def day(self, groups: Groups, when: Calendar) -> date | None:  # noqa: PLR0911
        """Return the day that is said."""
        if groups.get("after") or groups.get("before"):
            return when.days(2 if groups["after"] else -2)
        if groups.get("simple") or groups.get("part"):
            return when.days({"demain": 1, "hier": -1}.get(groups.get("simple") or "", 0))
        if weekday := groups.get("weekday"):
            number = _DAYS.index(weekday)
            if self.ahead.get(groups["which"] or "") == -1:
                return when.last_weekday(number)
            return when.weekday_in(number, 0) if groups["this"] else when.next_weekday(number)
        if iso := groups.get("iso"):
            return date.fromisoformat(iso)
        if numeric := groups.get("numeric"):
            return date(*map(int, reversed(re.split(r"[/.]", numeric))))
        if groups.get("day"):
            month = self.month(groups["month"] or "")
            day = 1 if groups["day"] == "premier" else int(groups["day"] or 0)
            return when.day_of(month, day, int(groups["year"]) if groups["year"] else None)
        return None


def _small(text: str) -> int:
    """Return an hour or minutes; "une heure" is one, and no article."""
    return int(text) if text.isdigit() else int(WORDING.value("un" if text == "une" else text))
