"""Built-in extractors: phrases with their values, what is no entity, time zones, and hostile texts."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest

from nlp.extracting import Asking
from nlp.extracting.extractors import _FUNCTION_WORDS, MAX_CHARS, Extractors
from shared.errors import ConfigError, InputError
from shared.serving.settings import BuiltIn

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 24, 10, 15, tzinfo=ZoneInfo("Europe/Paris"))
"""A Tuesday."""
ALL = get_args(BuiltIn)


def phrases(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def extractors() -> Extractors:
    return Extractors(ALL, ["en", "fr"], "Europe/Paris", "FR")


def found(extractors: Extractors, text: str, **asked: Any) -> list[tuple[str, str, Any]]:
    read = extractors.read(text, Asking(**{"now": NOW, **asked}))
    assert all(text[each.start : each.end] == each.text for each in read)
    return [(each.entity, each.text, each.value) for each in read]


def expected(phrase: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(each["entity"], each["text"], each["value"]) for each in phrase["found"]]


@pytest.mark.parametrize("phrase", phrases("phrases.jsonl"), ids=lambda phrase: phrase["text"])
def test_a_phrase_has_these_values(extractors: Extractors, phrase: dict[str, Any]):
    assert found(extractors, phrase["text"], language=phrase["language"]) == expected(phrase)


def test_the_language_is_found_out():
    both = Extractors(ALL, ["en", "fr"], "Europe/Paris", "FR")
    told = [found(both, each["text"]) == expected(each) for each in phrases("phrases.jsonl")]
    assert sum(told) >= 159  # of 160: "call 020 7946 0958" has no word of either


def test_phrases_that_the_rules_were_not_written_for_are_mostly_right(extractors: Extractors):
    """35 of 40 were, before any of them had been seen."""
    right = [
        found(extractors, each["text"], language=each["language"]) == expected(each)
        for each in phrases("held_out.jsonl")
    ]
    assert sum(right) >= 36


def test_no_word_tells_both_languages():
    assert not set(_FUNCTION_WORDS["en"].split()) & set(_FUNCTION_WORDS["fr"].split())


@pytest.mark.parametrize(
    ("now", "text", "value"),
    [
        (datetime(2026, 3, 28, 12, tzinfo=ZoneInfo("Europe/Paris")), "tomorrow at 8", "2026-03-29T08:00:00+02:00"),
        (datetime(2026, 3, 28, 12, tzinfo=ZoneInfo("Europe/Paris")), "in 24 hours", "2026-03-29T13:00:00+02:00"),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "tomorrow", "2027-01-01"),
        (datetime(2028, 2, 29, 9, tzinfo=UTC), "in one year", "2029-02-28"),
        (datetime(2027, 1, 31, 9, tzinfo=UTC), "in a month", "2027-02-28"),
        (datetime(2026, 3, 1, 9, tzinfo=UTC), "on 29 February", "2028-02-29"),
        (datetime(2026, 12, 30, 9, tzinfo=UTC), "next week", "2027-W01"),
        (datetime(2026, 1, 5, 9, tzinfo=UTC), "last month", "2025-12"),
        (datetime(2026, 11, 24, 9, tzinfo=UTC), "on 24 November", "2026-11-24"),
        (datetime(2026, 11, 24, 9, tzinfo=UTC), "on Tuesday", "2026-12-01"),
    ],
)
def test_calendars_have_their_ways(extractors: Extractors, now: datetime, text: str, value: str):
    assert [each[2] for each in found(extractors, text, now=now, language="en")] == [value]


@pytest.mark.parametrize(
    "text",
    [
        "192.168.0.1", "no one", "un", "une", "0612", "-",
        "on 31 February", "at 25:00", "24:61", "13 pm", "le 31/02/2026", "à 99 h", "in 99999999999 years",
        "9999999999 days ago", "dans 999999999999999 ans", "1" * 400, "a@b", "@", "www.", "http://", "+", "$", "3.11.7",
    ],
)  # fmt: skip
def test_what_is_no_date_no_amount_and_no_address_is_none(extractors: Extractors, text: str):
    for language in ("en", "fr"):
        kinds = {entity for entity, _, _ in found(extractors, text, language=language)}
        assert kinds <= {"number", "duration"}, language


def test_a_date_that_is_either_is_none_in_english(extractors: Extractors):
    assert found(extractors, "on 3/4/2027", language="en") == []
    assert found(extractors, "on 13/4/2027", language="en") == [("date", "13/4/2027", "2027-04-13")]
    assert found(extractors, "le 3/4/2027", language="fr") == [("date", "3/4/2027", "2027-04-03")]


def test_places_are_code_points_behind_emoji_and_marks(extractors: Extractors):
    text = "👩‍👧 İe\u0301 à demain, 3,50\u00a0€ 🇫🇷 12\u202f000\u00a0€"
    assert found(extractors, text, language="fr") == [
        ("date", "demain", "2026-11-25"),
        ("money", "3,50\u00a0€", {"amount": 3.5, "currency": "EUR"}),
        ("money", "12\u202f000\u00a0€", {"amount": 12000, "currency": "EUR"}),
    ]


def test_only_what_is_switched_on_is_given_and_the_rest_is_still_understood():
    numbers = Extractors(["number"], ["en"], "UTC", None)
    assert found(numbers, "call +44 20 7946 0958 at 6pm with 3 friends") == [("number", "3", 3)]


def test_without_a_region_a_telephone_number_needs_its_country():
    anywhere = Extractors(["phone"], ["fr"], "UTC", None)
    assert found(anywhere, "06 12 34 56 78 ou +33 6 12 34 56 79") == [("phone", "+33 6 12 34 56 79", "+33612345679")]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="no time zone 'Mars/Olympus'"):
        Extractors(ALL, ["en"], "Mars/Olympus", None)
    with pytest.raises(ConfigError, match="phone_region is 'XX'"):
        Extractors(ALL, ["en"], "UTC", "XX")


def test_a_language_that_is_not_switched_on_is_refused():
    with pytest.raises(InputError, match="extracts in en"):
        Extractors(ALL, ["en"], "UTC", None).check(Asking(language="fr"))


PIECES = [
    "1", "2026", " ", "\u00a0", "-", "/", ":", ".", ",", "'", "’", "le ", "the ", "at ", "à ", "dans ", "in ", "mars",
    "march",
    "lundi", "monday", "deux", "two", "cent", "hundred", "heures", "hours", "h", "€", "$", "EUR", "@", "www.", "http://",
    "demain", "tomorrow", "quart", "half past ", "prochain", "next ", "(", ")", "+33", "🎶", "e\u0301", "İ", "\0", "\n",
    "demi-heure", "une ", "douzaine", "million", "ago", "il y a ", "pm", "et ", "and ", "１２", "²", "٣", "Ⅷ", "०",
]  # fmt: skip


def test_any_text_is_read_without_an_error_and_in_order(extractors: Extractors):
    rng = random.Random(7)
    for _ in range(1500):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 30)))
        last = 0
        for each in extractors.read(text, Asking(now=NOW)):
            assert last <= each.start < each.end <= len(text)
            assert text[each.start : each.end] == each.text
            json.dumps(each.value, allow_nan=False)
            last = each.end


@pytest.mark.parametrize("now", [datetime.min, datetime.max])
def test_the_first_and_the_last_day_are_read_or_refused(extractors: Extractors, now: datetime):
    for each in phrases("phrases.jsonl"):
        with suppress(InputError):
            extractors.read(each["text"], Asking(now=now))


def test_behind_the_limit_nothing_is_read(extractors: Extractors):
    assert found(extractors, "x " * (MAX_CHARS // 2) + "tomorrow") == []


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5 APRİL 2027", "date", "2027-04-05"),
        ("dans 5 mınutes", "time", "2026-11-24T10:20:00+01:00"),
        ("for 3 mİnutes", "duration", "PT3M"),
        ("demain à mİnuit", "time", "2026-11-25T00:00:00+01:00"),
    ],
)
def test_a_turkish_i_is_an_i(extractors: Extractors, text: str, kind: str, value: str):
    assert (kind, value) in [(entity, meant) for entity, _, meant in found(extractors, text)]
