"""Answers from documents by the models that ship: questions of a shop, and about our own documentation.

The bounds are what was reached when they were set, less what another processor's rounding may change. Neither set was
used to choose or fit anything.
"""

from __future__ import annotations

import pytest

from benchmarks.answers import LAYOUTS, faq, own_documents, read_lines
from nlp.page.render import ABOUT_PERCEPT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shops_questions_get_their_own_answers_and_foreign_ones_none(layout: str):
    found = faq(layout)
    same, other, foreign = (found[kind] for kind in ("word for word", "in other words", "foreign"))
    assert same.asked >= 100
    assert same.right >= 0.96 * same.asked
    assert same.echoes == other.echoes == 0
    assert foreign.silent >= 0.9 * foreign.asked
    assert other.right > 3 * other.wrong
    assert other.right >= 0.2 * other.asked


def test_questions_about_our_own_documents():
    found = own_documents()
    answerable = [found[kind] for kind in ("fact", "setting", "command")]
    assert sum(tally.asked for tally in answerable) == 45
    assert sum(tally.right for tally in answerable) >= 31
    assert sum(tally.wrong for tally in found.values()) <= 7
    assert found["none"].silent >= 13


def test_the_pages_examples_are_among_the_questions():
    assert set(ABOUT_PERCEPT) <= {each["question"] for each in read_lines("own_questions.jsonl")}
