"""Replies as HTML: everything that a person, a label or a document says is text."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nlp.answering import SourcedAnswer
from nlp.engine import LanguageEngine
from nlp.extracting import Extracted
from nlp.intent.entities import Entity
from nlp.intent.predictor import IntentResult, IntentScore
from nlp.knowledge import DocumentInfo, Passage
from nlp.page.render import ReplyView, documents, explain, notice
from nlp.page.reply import Lookup, Reply
from shared.errors import (
    BundleError,
    DeadlineExceeded,
    InputError,
    NotFound,
    NotReady,
    Overloaded,
    PerceptError,
    TooLarge,
)

HOSTILE = '<img src=x onerror="window.wasRun=1">'
ESCAPED = HOSTILE.replace('"', "&#34;").replace("<", "&lt;").replace(">", "&gt;")


def model(**decision: Any) -> SimpleNamespace:
    return SimpleNamespace(labels=["a", "b"], predictor=SimpleNamespace(decision=SimpleNamespace(**decision)))


@pytest.fixture
def view() -> ReplyView:
    engine = SimpleNamespace(intent=model(abstain_below=0.375), qa=model(abstain_below=0.4))
    return ReplyView(cast("LanguageEngine", engine))


def passage(text: str, **changes: Any) -> Passage:
    values = {"document": "guide.md", "title": "Guide", "headings": ("Guide", "Limits"), "start": 100, "score": 1.0}
    return Passage(**{**values, "text": text, "end": 100 + len(text), **changes})


def answer(text: str, inside: str, *, score: float = 0.9, **changes: Any) -> SourcedAnswer:
    start = 100 + text.index(inside)
    return SourcedAnswer(inside, score, start, start + len(inside), passage(text, **changes))


def intent(name: str | None = "card_declined", other: str = "lost_card") -> IntentResult:
    ranking = [IntentScore("card_declined" if name is None else name, 0.91), IntentScore(other, 0.05)]
    return IntentResult(name, 0.91, name is None, 0.88 if name is None else 0.04, ranking)


def replied(intent: IntentResult | None = None, lookup: Lookup | None = None, *, wants: bool = False) -> Reply:
    return Reply(intent, lookup, wants, 3.0, 40.0)


def found(answer: SourcedAnswer, *others: Passage, is_own: bool = False) -> Lookup:
    own, service = ([answer.passage], list(others)) if is_own else ([], [answer.passage, *others])
    return Lookup(answer, answer, own, service)


def test_intent_is_readable_and_its_label_is_at_hand(view: ReplyView):
    html = view.reply(replied(intent()))
    assert ">card declined<" in html
    assert 'title="card_declined"' in html
    assert "in scope" in html
    assert "--score:0.9100" in html
    assert html.count("<li") == 2


def test_out_of_scope_shows_score_and_threshold(view: ReplyView):
    html = view.reply(replied(intent(None)))
    assert "None of my 2 intents" in html
    assert "out of scope" in html
    assert "--score:0.8800;--threshold:0.6250" in html
    assert "Above 62%" in html
    assert html.count('<li class="p-weak"') == 2  # no intent stands out


def test_answer_is_marked_where_it_stands(view: ReplyView):
    lookup = found(answer("An image may have 40 megapixels.", "40 megapixels"), passage("Other words."))
    html = view.reply(replied(lookup=lookup))
    assert "An image may have <mark>40 megapixels</mark>." in html
    assert "90% sure" in html
    assert '<cite translate="no">Guide <i>›</i> Limits</cite>' in html  # the title is not said twice
    assert "1 other passage that I looked at" in html
    assert "yours" not in html


def test_own_document_is_said_to_be_one(view: ReplyView):
    assert "yours" in view.reply(replied(lookup=found(answer("It is ada.", "ada"), is_own=True)))


def test_long_passage_is_cut_around_the_answer(view: ReplyView):
    html = view.reply(replied(lookup=found(answer("before " * 200 + "HERE" + " after" * 200, "HERE"))))
    assert "… before" in html
    assert "after …" in html
    assert "<mark>HERE</mark>" in html
    assert len(html) < 2500


def test_no_answer_shows_the_nearest_passages_and_the_best_guess(view: ReplyView):
    best = answer("It is ada.", "ada", score=0.12)
    lookup = Lookup(None, best, [], [passage(f"Passage {number}.") for number in range(5)])
    html = view.reply(replied(lookup=lookup))
    assert "No answer found" in html
    assert "“ada”, with 12%" in html
    assert "at least 38%" in html
    assert [f"Passage {number}." in html for number in range(5)] == [True, True, True, False, False]
    assert "<mark>" not in html


def test_no_passage_and_no_document_are_said_kindly(view: ReplyView):
    assert "in other words" in view.reply(replied(lookup=Lookup(None, None, [], [])))
    assert "Drop a document" in view.reply(replied(wants=True))


def entity(text: str, words: str, name: str, value: str | None = None, **more: Any) -> Entity:
    start = text.index(words)
    return Entity(start, start + len(words), name, words if value is None else value, words, 0.93, **more)


def test_entities_are_marked_in_the_sentence_with_their_names(view: ReplyView):
    text = "👋 from Paris to Nice, tomorrow"
    cities = [entity(text, "Nice", "home_city", role="to"), entity(text, "Paris", "home_city", "PAR", role="from")]
    day = Extracted(text.index("tomorrow"), len(text), "date", "2026-11-25", "tomorrow")
    html = view.reply(Reply(None, None, False, 1.0, 1.0, text, [*cities, day]))
    assert '👋 from <mark class="l-e0">Paris<small>home city, from</small></mark> to <mark class="l-e0">Nice' in html
    assert '<mark class="l-e1">tomorrow<small>date</small></mark></p>' in html
    sentence = re.search(r'<p class="l-marked"[^>]*>(.*?)</p>', html)[1]
    assert re.sub("<small>.*?</small>|<[^>]*>", "", sentence) == text
    assert 'Paris</td><td translate="no">PAR</td><td>93%</td>' in html
    assert 'tomorrow</td><td translate="no">2026-11-25</td><td>by rule</td>' in html
    said = view.summary(Reply(None, None, False, 1.0, 1.0, text, [*cities, day]))
    assert said == "It names home city, from: Paris; home city, to: Nice; date: tomorrow."


def test_of_entities_over_each_other_the_longest_is_marked_and_all_are_listed(view: ReplyView):
    text = "in two hours"
    over = [entity(text, "two", "count"), Extracted(0, 12, "money", {"amount": 2, "currency": "EUR"}, text)]
    html = view.reply(Reply(None, None, False, 1.0, 1.0, text, over))
    assert html.count("<mark") == 1
    assert "in two hours<small>money" in html
    assert ">2 EUR</td>" in html
    assert ">two</td>" in html


def test_everything_is_escaped_wherever_it_stands(view: ReplyView):
    text = f"It is {HOSTILE} indeed."
    hostile = answer(text, HOSTILE, title=HOSTILE, headings=(HOSTILE, HOSTILE + "2"), document=HOSTILE)
    other = passage(HOSTILE, title=HOSTILE, headings=(), document=HOSTILE)
    info = DocumentInfo(HOSTILE, HOSTILE, "text/plain", 1, 5, "", "")
    pages = [
        view.reply(replied(intent(HOSTILE, HOSTILE))),
        view.reply(replied(lookup=found(hostile, other, is_own=True))),
        view.reply(replied(lookup=Lookup(None, hostile, [other], []))),
        view.reply(Reply(None, None, False, 1.0, 1.0, HOSTILE, [entity(HOSTILE, HOSTILE, HOSTILE, role=HOSTILE)])),
        documents([info]),
        notice(HOSTILE, HOSTILE),
    ]
    for html in pages:
        assert ESCAPED in html
        assert HOSTILE not in html
        assert "<img" not in html


def test_markdown_of_a_document_is_shown_as_it_stands(view: ReplyView):
    text = "[here](javascript:alert(1)) ![x](https://example.com/a.png) <script>alert(1)</script> ada"
    html = view.reply(replied(lookup=found(answer(text, "ada"))))
    assert "<a " not in html
    assert "<img" not in html
    assert "<script" not in html
    assert "[here](javascript:alert(1))" in html


def test_screen_reader_hears_the_outcome(view: ReplyView):
    lookup = found(answer("It is ada.", "ada"))
    assert view.summary(replied(intent(), lookup)) == ("Answer: ada, from Guide. Intent: card declined, 91%, in scope.")
    assert view.summary(replied(intent(None), Lookup(None, None, [], []))) == (
        "Out of scope: none of the known intents. No answer found."
    )


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (TooLarge("it is long."), "more than I can take"),
        (NotFound("it is gone."), "is gone"),
        (InputError("it is blank."), "cannot read"),
        (Overloaded("queue: 64"), "Many people"),
        (DeadlineExceeded("30 s"), "too long"),
        (NotReady("drain"), "restarting"),
        (BundleError("/secret/path"), "right now"),
    ],
)
def test_every_error_has_kind_words(error: PerceptError, title: str):
    said, message = explain(error)
    assert title in said
    assert message[0].isupper()
    assert (str(error)[1:] in message) == isinstance(error, InputError)  # only these are meant for people
