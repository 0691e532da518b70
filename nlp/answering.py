"""Which of what was found answers a question: a score for each pair of passage and answer, comparable across kinds.

A passage of prose is read: the network points at the answer. The answer to a question that a document asks itself, a
row of a table and a command are not: they are the answer, whole or a cell of it, if they are about what is asked.

Every score is meant as the chance that the answer is right. Those of prose and of a document's own questions are fitted
by logistic regression; those of rows and commands were set by hand, on forty questions about our own documentation, and
are rough. `python -m benchmarks.answers` measures what comes of it on questions that nothing was chosen on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nlp.knowledge import Passage
from nlp.knowledge.search import words_of
from nlp.qa.predictor import Answer
from nlp.text import plain_words

_WORD = re.compile(r"\w+")
_WHICH = re.compile(r"\b(?:which|what)\s+(?:is\s+the\s+|are\s+the\s+)?(\w+)", re.IGNORECASE)
_AMOUNT = re.compile(
    r"\bhow\s+(?:many|much|long|large|big|far|fast|old|often|high|heavy|tall|wide|deep|soon)\b|\bcombien\b|\bat what\b",
    re.IGNORECASE,
)
_MEANING = re.compile(
    r"\b(?:mean|means|meaning|contain|contains|measure|measures|holds?|describes?|says?|for|count|counts)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"\b(?:command|option|flag|curl|run|install|start|launch|call|build|serve|train|deploy|upgrade|update|enable|disable"
    r"|list|clone|evaluate|execute|configure|set up|turn o(?:n|ff)|look at|show|delete|remove|add|write|print|process"
    r"|commande|lancer|installer|démarrer)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:which|what)\s+(?!command|option|flag)\w+", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w/.-])\d")
STEM = 5
"""Letters by which two words are taken for forms of one."""


@dataclass(frozen=True)
class SourcedAnswer(Answer):
    """An answer from the knowledge base. Its place is one in the document's plain text.

    `knowledge.text(passage.document)[start:end] == text`, and so is `passage.text`, counted from `passage.start`.
    """

    passage: Passage


_FOLLOWS = re.compile(
    r"^(?:and|but|or|also|then|what about|how about|what if|et|mais|ou|und|aber|oder|y|pero)\b", re.IGNORECASE
)
_POINTS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|that|this|these|those|there|one|ones|he|she|him|her|his|il|elle|ils|elles|ça|cela)\b",
    re.IGNORECASE,
)
_SHORT = 4
"""Words that mean something in a question that may point back to the one before."""


def completed(question: str, previous: str | None) -> str:
    """Return a question that can be understood alone: with the one before it, if it follows from that.

    >>> completed("And on Sundays?", "When is the shop open?")
    'When is the shop open, and on Sundays?'
    >>> completed("Who wrote Hamlet?", "When is the shop open?")
    'Who wrote Hamlet?'

    Args:
        question: what is asked now.
        previous: what was asked before; None at the beginning.
    """
    before = (previous or "").strip().rstrip("?!. ")
    asked = question.strip()
    follows = _FOLLOWS.match(asked) is not None
    points_back = _POINTS_BACK.search(asked) is not None and len(words_of(asked)) < _SHORT
    if not before or not (follows or points_back):
        return question
    return f"{before}, {asked[0].lower()}{asked[1:]}"


def asks_for_command(question: str) -> bool:
    """Whether a command or setting may be what is asked for.

    >>> asks_for_command("How do I run the tests?"), asks_for_command("Which setting may one call?")
    (True, False)
    """
    return _COMMAND.search(question) is not None and _NAMED.match(question.lstrip()) is None


def covered(question: str, passage: Passage) -> float:
    """Return how many of the question's words that mean something a passage has, with its headings, 0 to 1."""
    asked = _stems(" ".join(words_of(question)))
    has = _stems(" ".join((passage.title, *passage.headings, passage.lead, passage.text)))
    return len(asked & has) / len(asked) if asked else 0.0


def shared(question: str, other: str) -> float:
    """Return how alike the words of two questions are, 0 to 1 (Jaccard)."""
    first, second = (_stems(" ".join(words_of(text))) for text in (question, other))
    return len(first & second) / len(first | second) if first | second else 0.0


def whole_answers(question: str, passages: Sequence[Passage]) -> list[SourcedAnswer]:
    """Return what needs no reading: answers to the documents' own questions, rows and commands, best first."""
    found = _of_questions(question, passages)
    for passage in passages:
        if passage.kind == "row":
            found.append(_of_row(question, passage))
        elif passage.kind == "code":
            found.append(_sourced(passage, 0, len(passage.text), _chance(CODE, _about(question, passage))))
    return sorted(found, key=lambda answer: -answer.score)


def read_answer(passage: Passage, start: int, end: int, score: float) -> SourcedAnswer:
    """Return what the network points at in a passage of prose, with the chance that it is right.

    Args:
        passage: what was read.
        start: of the answer in the passage's text.
        end: likewise; an answer in what is set as code takes all of it.
        score: the network's own, given that the passage is the right one.
    """
    for _, first, last in passage.cells:
        if start < last and first < end:
            start, end = min(start, first), max(end, last)
    return _sourced(passage, start, end, _chance(PROSE, [_logit(score), passage.words]))


PROSE = (-1.28, 1.09, 0.26)
"""Constant, then weights of the network's log-odds and the words: on 1,576 questions that validated the starter, asked
of two thirds of their passages, so that a third have no answer. The calibration error on 1,831 others is 0.03."""
QUESTION = (-4.3, 6.8, 5.5)
"""Constant, then weights of the meaning and its distance to the next best passage's; on the questions in other words of
six FAQs that validated the encoder, asked of each alone and of all together, half of them also where their own answer
was missing, and on foreign ones. The calibration error on seven other FAQs is 0.04."""
ROW = (-5.4, 3.0, 2.0, 3.0, -1.5, 1.5)
"""Constant, then weights of words, meaning, cover, whether a command is asked for, whether the row is named;
set by hand."""
CODE = (-4.8, 0.5, 3.4, 1.8, 1.6)
"""The same, without the last."""


def _about(question: str, passage: Passage) -> list[float]:
    meaning = passage.meaning if passage.meaning is not None else 0.5 * passage.words
    return [passage.words, meaning, covered(question, passage), float(asks_for_command(question))]


def question_features(question: str, passages: Sequence[Passage]) -> list[tuple[Passage, list[float]]]:
    """Return each answer with how alike its question is, and the distance to the best of all else that was found."""
    alike = [max(each.meaning, 0.0) if each.meaning is not None else shared(question, each.lead) for each in passages]
    found = []
    for each, value in zip(passages, alike, strict=True):
        if each.kind == "answer":
            others = [
                o for one, o in zip(passages, alike, strict=True) if (one.kind, one.lead) != (each.kind, each.lead)
            ]
            found.append((each, [value, value - max(others, default=0.0)]))
    return found


def _of_questions(question: str, passages: Sequence[Passage]) -> list[SourcedAnswer]:
    asked = plain_words(question)
    found = []
    for each, features in question_features(question, passages):
        chance = 0.99 if plain_words(each.lead) == asked else _chance(QUESTION, features)
        found.append(_sourced(each, 0, len(each.text), chance))
    return found


def _of_row(question: str, passage: Passage) -> SourcedAnswer:
    start, end, certainty = chosen_cell(question, passage)
    return _sourced(passage, start, end, certainty * _chance(ROW, row_features(question, passage)))


def row_features(question: str, passage: Passage) -> list[float]:
    """Return what tells whether a row is about what is asked; the last is whether its first cell is named."""
    name = _stems(passage.text[slice(*passage.cells[0][1:])]) if passage.cells else set()
    return [*_about(question, passage), float(bool(name) and name <= _stems(question))]


def chosen_cell(question: str, passage: Passage) -> tuple[int, int, float]:
    """Return start and end of the cell of a row that a question asks for, or of the row, and how sure that is.

    The cell whose column is named, else a number if an amount is asked for, else the longest if a meaning is: but none
    that the question has already.
    """
    asked = _stems(question)
    rest = [each for each in passage.cells if not _stems(passage.text[each[1] : each[2]]) <= asked]
    which = _WHICH.search(question)
    for name, start, end in rest:
        if which and _stems(name) & _stems(which[1]):
            return start, end, 1.0
    for name, start, end in rest:
        if _stems(name) and _stems(name) <= asked:
            return start, end, 1.0
    if _AMOUNT.search(question):
        for _, start, end in rest:
            if _NUMBER.search(passage.text[start:end]) and len(passage.text[start:end].split()) <= 6:
                return start, end, 1.0
    if _MEANING.search(question) and rest:
        _, start, end = max(rest, key=lambda each: each[2] - each[1])
        return start, end, 1.0
    return 0, len(passage.text), 0.6


def _sourced(passage: Passage, start: int, end: int, score: float) -> SourcedAnswer:
    return SourcedAnswer(passage.text[start:end], score, passage.start + start, passage.start + end, passage)


def _chance(weights: Sequence[float], features: Sequence[float]) -> float:
    value = weights[0] + sum(weight * feature for weight, feature in zip(weights[1:], features, strict=False))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))


def _logit(score: float) -> float:
    bounded = min(max(score, 1e-9), 1 - 1e-9)
    return math.log(bounded / (1 - bounded))


def _stems(text: str) -> set[str]:
    words = _WORD.findall(text.casefold())
    return {word if "_" in word or any(map(str.isdigit, word)) else word[:STEM] for word in words}
