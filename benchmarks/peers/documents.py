"""Documents in BM25, and the best passages to a reader: what a tutorial of retrieval and reading builds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bm25s

from shared.project import PROJECT_ROOT

READ = 3
"""Passages, as many as Percept reads at most."""
WORDS = 200
Reader = Callable[[str, str], dict[str, Any]]


class Documents:
    """Maps a question to the best span in this project's own documentation, which Percept answers from as well.

    Args:
        answers: maps a question and a context to a span with a `score`.
    """

    def __init__(self, answers: Reader) -> None:
        self.answers = answers
        files = [PROJECT_ROOT / "README.md", PROJECT_ROOT / "CONTRIBUTING.md", *PROJECT_ROOT.glob("docs/*.md")]
        self.passages = [each for file in sorted(files) for each in passages_of(file.read_text("utf-8").split("\n\n"))]
        self.index = bm25s.BM25()
        self.index.index(bm25s.tokenize(self.passages, show_progress=False), show_progress=False)

    def __call__(self, question: str) -> dict[str, Any]:
        tokens = bm25s.tokenize(question, show_progress=False)
        (found,), _ = self.index.retrieve(tokens, corpus=self.passages, k=READ, show_progress=False)
        return max((self.answers(question, str(passage)) for passage in found), key=lambda each: each["score"])


def passages_of(paragraphs: Sequence[str]) -> list[str]:
    """Return paragraphs joined to passages of about `WORDS` words."""
    passages: list[str] = []
    for paragraph in paragraphs:
        if not passages or len(passages[-1].split()) + len(paragraph.split()) > WORDS:
            passages.append(paragraph)
        else:
            passages[-1] += f"\n\n{paragraph}"
    return passages
