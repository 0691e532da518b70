"""What answers a question, of all that was found: a document's own answer, a cell, a command, a place in prose."""

from __future__ import annotations

from typing import Any

import pytest

from nlp.answering import asks_for_command, chosen_cell, read_answer, whole_answers
from nlp.engine import ASKED_FROM
from nlp.knowledge import Passage
from nlp.knowledge.passages import readable_row


def passage(text: str, kind: str = "prose", **changes: Any) -> Passage:
    values = {"document": "a.md", "title": "A", "headings": (), "start": 100, "score": 1.0} | changes
    return Passage(text=text, end=values["start"] + len(text), kind=kind, **values)


def row(header: list[str], cells: list[str], **changes: Any) -> Passage:
    text, places = readable_row(header, cells)
    return passage(text, "row", cells=places, **changes)


SETTING = row(["setting", "default", "what"], ["max_queue", "64", "images a worker holds before it answers 429"])
ERROR = row(["status", "type", "when"], ["429", "overloaded", "the queue is full"])
PLAN = row(["Plan", "Price", "Seats"], ["Team plan", "29 EUR", "10"])


@pytest.mark.parametrize(
    ("question", "asked_of", "expected"),
    [
        ("What is the default of max_queue?", SETTING, "64"),
        ("How many images may a worker hold?", SETTING, "64"),
        ("What does max_queue mean?", SETTING, "images a worker holds before it answers 429"),
        ("Which setting limits the queue?", SETTING, "max_queue"),
        ("Which status comes when the queue is full?", ERROR, "429"),
        ("What is the type of 429?", ERROR, "overloaded"),
        ("What does 429 mean?", ERROR, "the queue is full"),
        ("What is the price of the team plan?", PLAN, "29 EUR"),
        ("How many seats does the team plan have?", PLAN, "10"),
        ("Tell me about the team plan", PLAN, PLAN.text),
    ],
)
def test_of_a_row_the_cell_that_is_asked_for_is_the_answer(question: str, asked_of: Passage, expected: str):
    start, end, certainty = chosen_cell(question, asked_of)
    assert asked_of.text[start:end] == expected
    assert 0 < certainty <= 1
    [answer] = whole_answers(question, [asked_of])
    assert (answer.text, answer.start, answer.end) == (expected, 100 + start, 100 + end)


def test_a_question_that_agrees_with_the_documents_own_gets_its_whole_answer():
    own = passage("Nine euros.\n\nChildren pay nothing.", "answer", lead="What does it cost?", meaning=0.9, words=1.0)
    other = passage("At nine.", "answer", lead="When do you open?", meaning=0.3)
    best, last = whole_answers("what does it cost", [other, own])
    assert (best.text, best.score) == ("Nine euros.\n\nChildren pay nothing.", 0.99)
    assert last.text == "At nine."
    assert last.score < 0.2


def test_a_question_that_is_like_two_gets_neither_surely():
    def surest(of_the_other: float) -> float:
        ones = [
            passage("Nine euros.", "answer", lead="What does a ticket cost?", meaning=0.58),
            passage("At nine.", "answer", lead="When does the ticket office open?", meaning=of_the_other),
        ]
        return max(each.score for each in whole_answers("Where do I get a ticket?", ones))

    assert surest(0.56) < ASKED_FROM < 0.75 < surest(0.2)


def test_without_an_encoder_the_questions_are_compared_by_their_words():
    own = passage("Nine euros.", "answer", lead="What does a ticket cost?", words=1.0)
    other = passage("At nine.", "answer", lead="When does the office open?", words=0.4)
    best, last = whole_answers("How much does the ticket cost?", [own, other])
    assert best.text == "Nine euros."
    assert best.score > 0.6 > last.score


def test_a_command_is_an_answer_to_a_question_for_one_alone():
    command = passage("make demo", "code", lead="Serve the models:", words=1.0, meaning=0.6)
    [wanted] = whole_answers("How do I serve the models?", [command])
    [not_wanted] = whole_answers("Who made the models?", [command])
    assert wanted.text == not_wanted.text == "make demo"
    assert wanted.score > 0.5 > not_wanted.score


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How do I install it?", True),
        ("Which command deletes a document?", True),
        ("Which option trains on two GPUs?", True),
        ("Which setting turns the page off?", False),
        ("What is a bundle?", False),
        ("Who wrote it?", False),
    ],
)
def test_what_asks_for_a_command(question: str, expected: bool):
    assert asks_for_command(question) is expected


def test_an_answer_inside_code_takes_all_of_it():
    text = "Pass --ckpt_path last to go on."
    read = passage(text, cells=(("code", 5, 21),), words=1.0)
    answer = read_answer(read, 7, 11, 0.9)
    assert (answer.text, answer.start, answer.end) == ("--ckpt_path last", 105, 121)
    assert read_answer(read, 22, 24, 0.9).text == "to"


def test_a_score_rises_with_the_networks_and_with_the_words_that_were_found():
    read = [(0.2, 0.2), (0.2, 1.0), (0.9, 1.0)]
    scores = [read_answer(passage("Ada lit it.", words=words), 0, 3, own).score for own, words in read]
    assert 0 < scores[0] < scores[1] < scores[2] < 1
    for odd in (0.0, 1.0):
        assert 0 < read_answer(passage("Ada"), 0, 3, odd).score < 1
