"""What may be given as a sentence: the answer word for word, and nothing that neither question nor text has."""

from __future__ import annotations

import pytest

from nlp.writing.checking import problem
from nlp.writing.wording import BLANK, MAX_WORDS, ask, blanked

TEXT = (
    "The lamp museum was opened in 1962 by Ada Brandt. A ferry carries visitors to the island, which takes forty "
    "minutes in summer. It does not sail on Sundays! Tickets cost 12.50 euros."
)


def asked(question: str, answer: str):
    start = TEXT.index(answer)
    return ask(question, TEXT, start, start + len(answer))


@pytest.mark.parametrize(
    ("question", "answer", "written"),
    [
        ("Who opened the museum?", "Ada Brandt", "The museum was opened by @@."),
        ("When did the lamp museum open?", "1962", "The lamp museum opened in @@."),
        ("How long does the ferry take?", "forty minutes", "The ferry takes @@."),
        ("How long does the ferry take?", "forty minutes", "In summer, the ferry takes @@."),
        ("What carries visitors?", "A ferry", "@@ carries visitors to the island."),
        ("When is there no ferry?", "Sundays", "There is no ferry on @@."),
        ("When does it not sail?", "Sundays", "It doesn't sail on @@."),
        ("What does a ticket cost?", "12.50 euros", "A ticket costs @@!"),
    ],
)
def test_a_sentence_of_the_sources_words_may_be_given(question: str, answer: str, written: str):
    assert problem(asked(question, answer), written) is None


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("The museum was opened by her.", "the answer is in it 0 times"),
        ("@@ opened the museum, @@.", "the answer is in it 2 times"),
        ("The museum was opened by @@s.", "joined to another word"),
        ("The museum was opened by @@", "no whole sentence"),
        ("Was the museum opened by @@?", "no whole sentence"),
        ("The museum was opened by @@ in 1963.", "'1963' is neither"),
        ("The museum was opened by @@ of Lisbon.", "'Lisbon' is neither"),
        ("The museum was closed by @@.", "'closed' is neither"),
        ("The famous museum was opened by @@.", "'famous' is neither"),
        ("The museum was not opened by @@.", "says no where the text does not"),
        ("It was @@.", "leaves out most of what was asked"),
        ("The museum was opened by @@. " + "The museum was opened. " * MAX_WORDS, "too long"),
    ],
)
def test_anything_else_is_not_given_and_it_says_why(written: str, wrong: str):
    assert wrong in (problem(asked("Who opened the museum?", "Ada Brandt"), written) or "")


def test_a_question_that_says_no_is_not_turned_round():
    wrong = problem(asked("When does it not sail?", "Sundays"), "It sails on @@.")
    assert wrong == "the question says no, and it does not"


def test_only_the_answers_sentence_is_read():
    found = asked("How long does the ferry take?", "forty minutes")
    assert found.evidence == "A ferry carries visitors to the island, which takes forty minutes in summer."
    assert found.answer == "forty minutes"
    assert f"takes {BLANK} in summer." in found.prompt
    assert found.filled(f"It takes {BLANK}.") == "It takes forty minutes."


def test_of_a_long_sentence_the_words_around_the_answer_are_read():
    text = "word " * 200 + "the answer " + "more " * 200
    start = text.index("answer")
    found = ask("What?", text, start, start + 6)
    assert len(found.evidence.split()) <= MAX_WORDS
    assert found.answer == "answer"
    whole = ask("What?", text, 0, len(text))
    assert whole.answer == text[: len(text)].rstrip()[: whole.end]


def test_a_sentence_is_learned_with_a_blank_for_the_answer():
    assert blanked("It takes  forty minutes.", "forty\nminutes") == "It takes @@."
    assert blanked("Forty minutes it takes.", "forty minutes") == "@@ it takes."
    assert blanked("It takes forty minutes or forty minutes.", "forty minutes") is None
    assert blanked("It is in Lisbona.", "Lisbon") is None
