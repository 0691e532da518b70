"""What the page replies to a message: its intent, and the answer from the visitor's documents or the service's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from nlp.answering import SourcedAnswer
from nlp.engine import ANSWER_ITEM, Asked, LanguageEngine, is_question
from nlp.extracting import Asking, Extracted
from nlp.intent.entities import Entity
from nlp.intent.predictor import IntentResult
from nlp.knowledge import Passage
from nlp.page.documents import VisitorDocuments
from nlp.text import checked_text
from shared.errors import DeadlineExceeded, Overloaded

RANKED = 5
"""Intents that are shown."""


@dataclass(frozen=True)
class Lookup:
    """What was looked up for a message."""

    answer: SourcedAnswer | None
    """None if nothing is sure enough, which is a normal answer."""
    best: SourcedAnswer | None
    """The most probable answer, however improbable."""
    own: Sequence[Passage]
    """Passages that were looked at in the visitor's documents, the nearest first."""
    others: Sequence[Passage]
    """Those of the service's documents."""
    further: Sequence[SourcedAnswer] = ()
    """Other answers that are sure enough, from where the answer is."""
    sentence: str | None = None
    """The answer as a sentence; None where it is best quoted, or there is no writer."""

    @classmethod
    def of(cls, own: Asked | None, others: Asked | None, sentence: str | None = None) -> Lookup:
        """Return what was found in the visitor's documents and in the service's; None if those were not searched."""
        found = [asked for asked in (own, others) if asked]
        return cls(
            answer=next((asked.answer for asked in found if asked.answer), None),
            best=max((asked.best for asked in found if asked.best), key=lambda each: each.score, default=None),
            own=own.passages if own else [],
            others=others.passages if others else [],
            further=next((asked.others for asked in found if asked.answer), ()),
            sentence=sentence,
        )


@dataclass(frozen=True)
class Reply:
    """The whole reply to one message."""

    intent: IntentResult | None
    """None if there is no intent model."""
    lookup: Lookup | None
    """None if nothing was looked up: the message is no question and in scope, or there is nothing to search."""
    wants_documents: bool
    """Whether an answer was wanted, but there is no document to search."""
    intent_ms: float
    answer_ms: float
    text: str = ""
    """The message, in which the entities are."""
    entities: Sequence[Entity | Extracted] = ()
    """What it names, in its order."""


class Replier:
    """Replies with one engine; it keeps nothing between messages."""

    def __init__(self, engine: LanguageEngine, documents: VisitorDocuments) -> None:
        self.engine = engine
        self.documents = documents

    async def reply(self, text: object, visitor: object, previous: object = None) -> Reply:
        """Return the reply to a message.

        Args:
            text: the message.
            visitor: whose documents are searched, besides the service's own.
            previous: the message before, which this one may follow from; anything but a readable text counts as none.

        Raises:
            InputError: it is blank or too long, or the visitor's name is not valid.
            Overloaded, DeadlineExceeded, NotReady: the service cannot answer now.
        """
        engine = self.engine
        message = checked_text(text, engine.settings.max_text_chars, "the message")
        start = time.perf_counter()
        before = previous if isinstance(previous, str) and len(previous) <= engine.settings.max_text_chars else None
        [extracted] = await engine.extract([message], Asking())
        intent = await engine.intent.classify(message, top_k=RANKED) if engine.intent else None
        classified = time.perf_counter()
        lookup, wants_documents = None, False
        if engine.qa is not None:
            is_open = intent is None or intent.out_of_scope or is_question(message)
            lookup = await self._ask(message, before, visitor, is_open=is_open)
            wants_documents = is_open and lookup is None
        answered = time.perf_counter()
        return Reply(
            intent,
            lookup,
            wants_documents,
            intent_ms=(classified - start) * 1000,
            answer_ms=(answered - classified) * 1000,
            text=message,
            entities=[*(intent.entities if intent else ()), *extracted],
        )

    async def _ask(self, question: str, previous: str | None, visitor: object, *, is_open: bool) -> Lookup | None:
        """Return what the visitor's documents say or, if that is nothing sure, the service's; None if there are none.

        A visitor with documents asks about them, whatever form the message has.
        """
        own, others = None, None
        documents = await asyncio.to_thread(self.documents.open, visitor)
        if documents is not None:
            with closing(documents):
                own = await self.engine.ask(question, previous=previous, knowledge=documents, item=ANSWER_ITEM)
        if is_open and self.engine.can_ask and not (own and own.answer):
            others = await self.engine.ask(question, previous=previous, item=ANSWER_ITEM)
        answered = next((asked for asked in (own, others) if asked and asked.answer), None)
        sentence = await self._phrase(answered) if answered else None
        return Lookup.of(own, others, sentence) if own or others else None

    async def _phrase(self, answered: Asked) -> str | None:
        """Return the answer as a sentence; None without a writer, or where it is too busy: the quote is the answer."""
        if self.engine.writer is None:
            return None
        try:
            return await self.engine.phrase(answered)
        except (Overloaded, DeadlineExceeded):
            return None
