"""How good answers from documents are: `python -m benchmarks.answers`.

A shop's hundred questions in three layouts, asked word for word and in other words, with foreign questions beside; and
sixty questions about this project's own documentation. Both are in tests/nlp/knowledge, written before the answers were
looked at; nothing was fitted on them. docs/faq.md came after the second set, so that one is a little flattered.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp.answering import SourcedAnswer
from nlp.engine import LanguageEngine
from nlp.text import plain_words
from shared.project import PROJECT_ROOT
from shared.serving.settings import Settings

SETS = PROJECT_ROOT / "tests" / "nlp" / "knowledge"
MAX_WORDS = 45
"""Of a right answer: all of a document would hold every answer."""


def _headings(questions: Sequence[dict[str, Any]]) -> tuple[str, str]:
    pairs = "".join(f"## {each['question']}\n\n{each['answer']}\n\n" for each in questions)
    return "faq.md", f"# Frequently asked questions\n\n{pairs}"


def _bold(questions: Sequence[dict[str, Any]]) -> tuple[str, str]:
    pairs = "".join(f"**Q: {each['question']}**\n\nA: {each['answer']}\n\n" for each in questions)
    return "faq.md", f"# Frequently asked questions\n\n{pairs}"


def _terms(questions: Sequence[dict[str, Any]]) -> tuple[str, str]:
    pairs = "".join(f"<dt>{each['question']}</dt><dd>{each['answer']}</dd>" for each in questions)
    return "faq.html", f"<h1>Frequently asked questions</h1><dl>{pairs}</dl>"


LAYOUTS: dict[str, Callable[[Sequence[dict[str, Any]]], tuple[str, str]]] = {
    "headings": _headings,
    'bold "Q:"': _bold,
    "dt and dd": _terms,
}


@dataclass
class Tally:
    """What questions got."""

    asked: int = 0
    right: int = 0
    silent: int = 0
    wrong: int = 0
    echoes: int = 0
    """Of the wrong: nothing but the question's own words."""
    seconds: list[float] = field(default_factory=list)

    def add(self, question: str, answer: SourcedAnswer | None, *, is_right: bool, took_s: float) -> None:
        """Count one question."""
        self.asked += 1
        self.seconds.append(took_s)
        self.silent += answer is None
        self.right += answer is not None and is_right
        self.wrong += answer is not None and not is_right
        self.echoes += answer is not None and plain_words(answer.text) in plain_words(question)

    def __str__(self) -> str:
        median_ms = 1000 * sorted(self.seconds)[len(self.seconds) // 2]
        return (
            f"{self.right / self.asked:.2f} right, {self.silent / self.asked:.2f} silent, "
            f"{self.wrong / self.asked:.2f} wrong of {self.asked}; {median_ms:.0f} ms"
        )


def read_lines(name: str) -> list[dict[str, Any]]:
    """Return the rows of one of the sets."""
    return [json.loads(line) for line in (SETS / name).read_text("utf-8").splitlines()]


def faq(layout: str) -> dict[str, Tally]:
    """Return what the shop's questions get in a layout: asked word for word, in other words, and foreign ones."""
    questions = read_lines("faq.jsonl")
    foreign = (SETS / "faq_foreign.txt").read_text("utf-8").splitlines()
    found = {"word for word": Tally(), "in other words": Tally(), "foreign": Tally()}
    name, content = LAYOUTS[layout](questions)

    async def ask(engine: LanguageEngine) -> None:
        assert engine.knowledge is not None
        engine.knowledge.put(name, content.encode())
        for each in questions:
            for kind, key in (("word for word", "question"), ("in other words", "paraphrase")):
                answer, took_s = await _asked(engine, each[key])
                is_right = answer is not None and plain_words(answer.text) in plain_words(each["answer"])
                found[kind].add(each[key], answer, is_right=is_right, took_s=took_s)
        for question in foreign:
            answer, took_s = await _asked(engine, question)
            found["foreign"].add(question, answer, is_right=False, took_s=took_s)

    _with_engine("none", ask)
    return found


def own_documents() -> dict[str, Tally]:
    """Return what the questions about our own documentation get, by kind; those of "none" have no answer there."""
    found: dict[str, Tally] = {}

    async def ask(engine: LanguageEngine) -> None:
        for each in read_lines("own_questions.jsonl"):
            answer, took_s = await _asked(engine, each["question"])
            is_right = answer is not None and is_one_of(answer.text, each["answers"])
            found.setdefault(each["kind"], Tally()).add(each["question"], answer, is_right=is_right, took_s=took_s)

    _with_engine("own", ask)
    return found


def is_one_of(text: str, answers: Sequence[str]) -> bool:
    """Whether a text of some words has one of the right answers in it.

    >>> is_one_of("default 16", ["16"]), is_one_of("160", ["16"])
    (True, False)
    """
    given = f" {plain_words(text)} "
    return len(given.split()) <= MAX_WORDS and any(f" {plain_words(answer)} " in given for answer in answers)


def _with_engine(documents: str, use: Callable[[LanguageEngine], Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "knowledge.sqlite"
        settings = Settings(tagger="none", intent="none", knowledge=file, knowledge_documents=documents, workers=1)

        async def run() -> None:
            engine = LanguageEngine.load(settings)
            await use(engine)
            await engine.close()

        asyncio.run(run())


async def _asked(engine: LanguageEngine, question: str) -> tuple[SourcedAnswer | None, float]:
    start = time.perf_counter()
    asked = await engine.ask(question)
    return asked.answer, time.perf_counter() - start


if __name__ == "__main__":
    for layout in LAYOUTS:
        for kind, tally in faq(layout).items():
            print(f"{layout:10} {kind:15} {tally}")
    for kind, tally in own_documents().items():
        print(f"our own    {kind:15} {tally}")
