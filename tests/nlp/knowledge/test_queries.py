from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.knowledge.queries import MAX_WORDS, match_expression, words_of


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What are the opening hours of the museum?", ["opening", "hours", "museum"]),
        ("Quels sont les horaires d’ouverture du musée ?", ["horaires", "ouverture", "musée"]),
        ("Où se trouve la mairie", ["trouve", "mairie"]),
        ("comment on the pull request", ["comment", "the", "pull", "request"]),
        ("Comment faire du thé ?", ["thé"]),
        ("Who was the Who?", ["who", "was", "the"]),
        ("max_length", ["max_length"]),
        ("hours hours HOURS", ["hours"]),
        ("?!", []),
        ("", []),
    ],
)
def test_words_that_every_question_has_are_left_out(question: str, expected: list[str]):
    assert words_of(question) == expected


def test_long_text_is_searched_by_its_first_words():
    assert len(words_of(" ".join(f"word{number}" for number in range(500)))) == MAX_WORDS


HOSTILE = st.one_of(
    st.text(),
    st.text(st.sampled_from("\"'*^:+-(){}[]~\\\x00\ud800 ANDORNOT NEAR/,é_;%")),
    st.sampled_from(["AND", "NOT", "NEAR(a b)"]),
)


@pytest.fixture(scope="module")
def index() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE stems USING fts5 (title, text, tokenize = 'porter unicode61')")
    return connection


@given(question=HOSTILE)
def test_no_question_is_a_syntax_error(index: sqlite3.Connection, question: str):
    expression = match_expression(question)
    if expression is not None:
        index.execute("SELECT * FROM stems WHERE stems MATCH ?", (expression,)).fetchall()
