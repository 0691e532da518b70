"""What a writer is asked, and how what it wrote becomes a sentence. Torch-free.

The answer itself is never written: a blank stands for it, which is filled in word for word. So a long answer costs
nothing, and names and numbers in it cannot change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BLANK = "@@"
"""Stands for the answer in what is read and written; two characters that texts hardly have."""
END = "\n"
"""A sentence ends with its line."""
MAX_WORDS = 40
"""Of the text around the answer, and of a sentence; more is cut off, or refused."""
SHOWN_WORDS = 12
"""Of the answer, so that the writer sees whether it is a name, a number or a clause."""
_MARK = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[^a-z\s])|\n+")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Ask:
    """A question with its answer in a piece of text."""

    question: str
    evidence: str
    """The sentence with the answer, or as much of it as is near."""
    start: int
    end: int
    """`evidence[start:end]` is the answer."""

    @property
    def answer(self) -> str:
        """The answer, word for word."""
        return self.evidence[self.start : self.end]

    @property
    def prompt(self) -> str:
        """What the network reads; what it writes follows."""
        shown = " ".join(self.answer.split()[:SHOWN_WORDS])
        around = f"{self.evidence[: self.start]}{BLANK}{self.evidence[self.end :]}"
        return f"Question: {_line(self.question)}\nText: {_line(around)}\nAnswer: {shown}\nSentence:"

    def filled(self, written: str) -> str:
        """Return the sentence that was written, with the answer in its blank."""
        answer = " ".join(self.answer.split())
        said = " ".join(written.split())
        return said.replace(f"{BLANK}.", answer) if answer.endswith(".") and said.endswith(f"{BLANK}.") else (
            said.replace(BLANK, answer)
        )  # fmt: skip


def ask(question: str, text: str, start: int, end: int) -> Ask:
    """Return what a writer is asked about an answer.

    Args:
        question: as a person put it.
        text: what the answer is from; only its sentence is read.
        start: of the answer in the text.
        end: likewise.

    >>> ask("Who keeps it?", "A light. Ada keeps the light. It is old.", 9, 12).evidence
    'Ada keeps the light.'
    """
    ends = list(_SENTENCE_END.finditer(text))
    first = max((m.end() for m in ends if m.end() <= start), default=0)
    behind = next((m.start() for m in ends if m.start() >= end), len(text))
    words = list(_WORD.finditer(text, first, behind))
    inside = [i for i, m in enumerate(words) if m.start() < end and start < m.end()]
    if len(words) > MAX_WORDS and inside:
        spare = max(0, MAX_WORDS - len(inside)) // 2
        kept = words[max(0, inside[0] - spare) : inside[-1] + 1 + spare]
        first, behind = min(kept[0].start(), start), max(kept[-1].end(), end)
    return Ask(question, text[first:behind].rstrip(), start - first, end - first)


def marked(text: str) -> tuple[str, int, int] | None:
    """Return a text without the asterisks that mark its answer, and where the answer is; None where none is marked.

    >>> marked("Ada keeps **the light**.")
    ('Ada keeps the light.', 10, 19)
    """
    found = _MARK.search(text)
    if found is None:
        return None
    start = found.start()
    return text[:start] + found[1] + text[found.end() :], start, start + len(found[1])


def blanked(sentence: str, answer: str) -> str | None:
    """Return a sentence with a blank in place of the answer, as it is learned; None where it does not have it once.

    >>> blanked("The ferry takes forty minutes.", "forty minutes"), blanked("It takes long.", "forty minutes")
    ('The ferry takes @@.', None)
    """
    whole = " ".join(sentence.split())
    pattern = rf"(?<!\w){re.escape(' '.join(answer.split()))}(?!\w)"
    found = list(re.finditer(pattern, whole)) or list(re.finditer(pattern, whole, re.IGNORECASE))
    if len(found) != 1 or BLANK in whole:
        return None
    return f"{whole[: found[0].start()]}{BLANK}{whole[found[0].end() :]}"


def _line(text: str) -> str:
    return " ".join(text.split())
