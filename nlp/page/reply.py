"""What the page replies to a message: its intent, and the answer out of the visitor's documents or the service's own.

Neighbours: `documents` keeps what visitors dropped, `render` makes HTML of a `Reply`, `nlp.engine` does the work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from nlp.engine import Asked, LanguageEngine, SourcedAnswer, is_question
from nlp.intent.predictor import IntentResult
from nlp.knowledge import Passage
from nlp.page.documents import VisitorDocuments
from nlp.text import checked_text

RANKED = 5
"""Intents that are shown."""
READ_PASSAGES = 5
"""Of each knowledge base, for one question."""


@dataclass(frozen=True)
class Found:
    """A passage and whose document it stands in."""

    passage: Passage
    is_own: bool
    """Whether the visitor dropped its document."""


@dataclass(frozen=True)
class Sighting:
    """A possible answer and whose document it stands in."""

    answer: SourcedAnswer
    is_own: bool


@dataclass(frozen=True)
class Lookup:
    """What was looked up for a message."""

    answer: Sighting | None
    """None where nothing is sure enough, which is a normal answer."""
    best: Sighting | None
    """The most probable answer, however improbable."""
    passages: Sequence[Found]
    """That were read: the visitor's first, the nearest first."""


@dataclass(frozen=True)
class Reply:
    """All that is said to one message."""

    intent: IntentResult | None
    """None where there is no intent model."""
    lookup: Lookup | None
    """None where nothing was looked up: it is no question and in scope, or there is nothing to look it up in."""
    wants_documents: bool
    """Whether an answer was wanted, but there is no document to look it up in."""
    intent_ms: float
    answer_ms: float


class Replier:
    """Replies in one worker; of one message nothing stays here for the next."""

    def __init__(self, engine: LanguageEngine, documents: VisitorDocuments) -> None:
        self.engine = engine
        self.documents = documents

    async def reply(self, text: object, visitor: object) -> Reply:
        """Return what is said to a message.

        Args:
            text: the message.
            visitor: whose documents are looked into, besides the service's own.

        Raises:
            InputError: it is blank or too long, or the visitor's name is none.
            Overloaded, DeadlineExceeded, NotReady: the service cannot answer now.
        """
        engine = self.engine
        message = checked_text(text, engine.settings.max_text_chars, "the message")
        start = time.perf_counter()
        intent = await engine.intent.classify(message, top_k=RANKED) if engine.intent else None
        classified = time.perf_counter()
        lookup, wants_documents = None, False
        if engine.qa is not None:
            is_open = intent is None or intent.out_of_scope or is_question(message)
            asked = await self._ask(message, visitor, is_open=is_open)
            lookup = _joined(asked) if asked else None
            wants_documents = is_open and not asked
        answered = time.perf_counter()
        return Reply(intent, lookup, wants_documents, (classified - start) * 1000, (answered - classified) * 1000)

    async def _ask(self, question: str, visitor: object, *, is_open: bool) -> list[tuple[Asked, bool]]:
        """Return what the visitor's documents say, and where that is nothing sure, what the service's own say.

        Who dropped documents asks about them, whatever the form of the message.
        """
        asked: list[tuple[Asked, bool]] = []
        own = await asyncio.to_thread(self.documents.open, visitor)
        if own is not None:
            with closing(own):
                found = await self.engine.ask(question, passages=READ_PASSAGES, knowledge=own)
            asked.append((found, True))
        if is_open and self.engine.can_ask and not (asked and asked[0][0].answer):
            asked.append((await self.engine.ask(question, passages=READ_PASSAGES), False))
        return asked


def _joined(asked: Sequence[tuple[Asked, bool]]) -> Lookup:
    answers = [Sighting(found.answer, is_own) for found, is_own in asked if found.answer]
    bests = [Sighting(found.best, is_own) for found, is_own in asked if found.best]
    return Lookup(
        answer=answers[0] if answers else None,
        best=max(bests, key=lambda each: each.answer.score, default=None),
        passages=[Found(passage, is_own) for found, is_own in asked for passage in found.passages],
    )
