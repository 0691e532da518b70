"""What stands around the replies fits the models that are there, and is text."""

from __future__ import annotations

import json
import re
from html import unescape
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nlp.engine import LanguageEngine
from nlp.page import render

HOSTILE = '<img src=x onerror="window.wasRun=1">'


def engine(
    *labels: str, answers: bool = True, documents: str = "own", limits: Any = None, languages: tuple[str, ...] = ()
) -> LanguageEngine:
    bundle = SimpleNamespace(config=SimpleNamespace(card={"limits": limits}, languages=list(languages)))
    intent = SimpleNamespace(labels=list(labels), bundle=bundle) if labels else None
    made = SimpleNamespace(
        intent=intent,
        qa=SimpleNamespace(bundle=bundle) if answers else None,
        can_ask=answers and documents != "none",
        models=[intent] if intent else [],
        settings=SimpleNamespace(max_text_chars=2000, knowledge_documents=documents),
    )
    return cast("LanguageEngine", made)


def test_samples_fit_the_model():
    (in_scope, known), (out, _), (about, _) = render.sample_messages(engine("timer", "book_flight", "other"))
    assert (in_scope, out, about) == ("In scope", "Out of scope", "About Percept")
    assert known == [render.IN_SCOPE["book_flight"], render.IN_SCOPE["timer"]]


def test_model_with_other_labels_is_tried_with_their_names():
    assert render.sample_messages(engine("lost_parcel", answers=False))[0] == ("In scope", ["lost parcel"])


def test_service_with_documents_of_its_own_is_not_said_to_know_percept():
    other = engine("timer", documents="/srv/documents")
    assert [title for title, _ in render.sample_messages(other)] == ["In scope", "Out of scope"]
    assert "this service's documents" in unescape(render.chat(other))
    assert "Percept" not in render.chat(other)


def test_service_without_answers_takes_no_documents():
    assert "l-drop" not in render.chat(engine("timer", answers=False))
    assert "l-drop" in render.chat(engine("timer"))


def test_service_without_intents_asks_for_questions():
    html = render.chat(engine())
    assert "intents" not in html
    assert "question" in html


@pytest.mark.parametrize(
    ("made", "routes"),
    [
        (engine("timer"), ["/v1/understand", "/v1/intent", "/v1/answer", "/v1/answer", "/model/parse"]),
        (engine("timer", answers=False), ["/v1/understand", "/v1/intent", "/model/parse"]),
        (engine(documents="none"), ["/v1/understand", "/v1/answer"]),
    ],
)
def test_calls_are_those_that_the_service_answers(made: LanguageEngine, routes: list[str]):
    html = render.how_to_call(made)
    assert re.findall(r"</span>(/[\w/]+)", html) == routes
    for body in re.findall(r"-d '(.+?)'</code>", html):
        assert isinstance(json.loads(unescape(body)), dict)


def test_labels_and_the_card_are_escaped():
    made = engine(HOSTILE, limits=[HOSTILE])
    for html in (render.chat(made), render.knows(made), render.limits(made)):
        assert HOSTILE not in html
        assert HOSTILE in unescape(html)


def test_the_languages_that_the_model_reads_are_shown_if_it_says_them():
    html = render.knows(engine("timer", languages=("en", "fr")))
    assert 'data-languages="en fr">en, fr</b>' in html
    assert "Languages" not in render.knows(engine("timer"))
