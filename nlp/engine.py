"""The language engine: what an utterance wants, what answers a question, and where that stands.

Its parts may be absent: a service with an intent bundle alone understands and never answers. Neighbours: the routes and
the page call it; `intent_engine` and `answer_engine` hold a model each, `nlp.knowledge` the documents.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nlp.answer_engine import AnswerEngine
from nlp.embedding import NETWORK as EMBEDDING
from nlp.first_documents import open_knowledge
from nlp.intent import TASK as INTENT
from nlp.intent.predictor import IntentResult
from nlp.intent_engine import IntentEngine
from nlp.knowledge import KnowledgeBase, Passage
from nlp.knowledge.rerank import SentenceReranker
from nlp.qa.predictor import Answer
from nlp.questions import is_question
from shared.bundle.read import read_bundle
from shared.errors import ConfigError, NotFound
from shared.serving.http.limits import within
from shared.serving.lifecycle.loading import load_runtime
from shared.serving.observe import metrics
from shared.serving.settings import Settings

MAX_PASSAGES = 20
"""That are read for one question."""
_SEARCH_THREADS = 2

Done = TypeVar("Done")


@dataclass(frozen=True)
class SourcedAnswer:
    """An answer that was found in the knowledge base."""

    text: str
    score: float
    start: int
    end: int
    """In the document's plain text: `knowledge.text(passage.document)[start:end] == text`."""
    passage: Passage
    """Where it was read: `passage.text[start - passage.start : end - passage.start] == text`."""


@dataclass(frozen=True)
class Asked:
    """What the knowledge base says to a question."""

    answer: SourcedAnswer | None
    """None where nothing is sure enough, which is a normal answer."""
    best: SourcedAnswer | None
    """The most probable answer, however improbable; None where no passage was found."""
    passages: list[Passage]
    """That were read, the nearest first."""


@dataclass(frozen=True)
class Understood:
    """What an utterance wants, and where it asks something, the answer."""

    intent: IntentResult | None
    """None where there is no intent model."""
    is_question: bool
    """Whether it reads like a question."""
    asked: Asked | None
    """None where nothing was looked up: it is no question and in scope, or there is nothing to look it up in."""
    timings: dict[str, float] = field(compare=False, default_factory=dict)
    """Stage -> seconds."""


class LanguageEngine:
    """Answers for the language service in one worker.

    Args:
        intent: understands utterances; None for a service that does not.
        qa: reads contexts; None likewise.
        knowledge: where answers are looked up; None likewise.
        settings: limits.
    """

    def __init__(
        self,
        *,
        intent: IntentEngine | None,
        qa: AnswerEngine | None,
        knowledge: KnowledgeBase | None,
        settings: Settings,
    ) -> None:
        self.intent = intent
        self.qa = qa
        self.knowledge = knowledge
        self.settings = settings
        self._threads = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="search")

    @classmethod
    def load(cls, settings: Settings) -> LanguageEngine:
        """Return an engine whose models gave their golden outputs; blocks for as long as that takes.

        Raises:
            ConfigError: neither model is there, or both have one name.
            BundleError: one is broken.
        """
        intent_path, qa_path = _bundles(settings)
        intent = IntentEngine.load(intent_path, settings) if intent_path else None
        qa = AnswerEngine.load(qa_path, settings) if qa_path else None
        if intent and qa and intent.name == qa.name:
            raise ConfigError(f"both bundles are called {qa.name!r}; models are asked for by name. Rename one.")
        reranker = None
        if qa and settings.reranker:
            reranker = SentenceReranker(*load_runtime(settings.reranker, EMBEDDING, settings))
        knowledge = open_knowledge(settings, reranker) if qa else None
        return cls(intent=intent, qa=qa, knowledge=knowledge, settings=settings)

    def replaced(self, task: str, path: Path) -> LanguageEngine:
        """Return an engine with another model for that task; the other one and the knowledge base are the same."""
        engine = copy.copy(self)
        if task == INTENT.name:
            engine.intent = IntentEngine.load(path, self.settings)
        else:
            engine.qa = AnswerEngine.load(path, self.settings)
        return engine

    @staticmethod
    def check(settings: Settings) -> None:
        """Refuse settings without a bundle, or with one that cannot be read; raises as `load`."""
        for path in (*_bundles(settings), settings.reranker):
            if path is not None:
                read_bundle(path)

    @property
    def models(self) -> list[IntentEngine | AnswerEngine]:
        """Those that are there."""
        return [model for model in (self.intent, self.qa) if model is not None]

    @property
    def can_ask(self) -> bool:
        """Whether questions without a context are answered."""
        return self.qa is not None and self.knowledge is not None

    async def classify(self, text: str, *, top_k: int | None = None) -> IntentResult:
        """Return what an utterance wants, as `IntentEngine.classify`.

        Raises:
            NotFound: there is no intent model.
        """
        return await self.needed_intent().classify(text, top_k=top_k)

    async def answer(self, question: str, context: str, *, top_k: int = 1) -> list[Answer]:
        """Return the best answers out of a context, as `AnswerEngine.answer`; `is_answer` says which may be given.

        Raises:
            NotFound: there is no question-answering model.
        """
        return await self.needed_qa().answer(question, context, top_k=top_k)

    def is_answer(self, answer: Answer) -> bool:
        """Whether it is sure enough to be given."""
        return self.needed_qa().is_answer(answer)

    async def ask(self, question: str, *, passages: int = 5, knowledge: KnowledgeBase | None = None) -> Asked:
        """Return what the knowledge base says to a question.

        The best passages are searched and read, each with its headings above it. The answer is the one with the largest
        score of all; of two that are equal, the one in the nearer passage.

        Args:
            question: as for `answer`.
            passages: how many are read, 1 to `MAX_PASSAGES`.
            knowledge: what is searched; None for the service's own.

        Raises:
            NotFound: there is no question-answering model or no knowledge base.
            InputError, Overloaded, DeadlineExceeded: as `AnswerEngine.answer`.
        """
        qa = self.needed_qa()
        searched = self.needed_knowledge() if knowledge is None else knowledge
        start = time.perf_counter()
        async with qa.admission.admitted():
            found: list[Passage] = await self.in_thread(searched.search, question, min(passages, MAX_PASSAGES))
            metrics.STAGE_SECONDS.labels(qa.name, "search").observe(time.perf_counter() - start)
            above = [_heading(passage) for passage in found]
            contexts = [heading + passage.text for heading, passage in zip(above, found, strict=True)]
            answers = await qa.read(question, contexts, above=[len(heading) for heading in above])
        sourced = [
            _sourced(each[0], passage, len(heading))
            for each, passage, heading in zip(answers, found, above, strict=True)
            if each
        ]
        best = max(sourced, key=lambda answer: answer.score, default=None)
        if best is None:
            qa.count(None)
            return Asked(None, None, found)
        answer = Answer(best.text, best.score, best.start, best.end)
        qa.count(answer)
        is_sure = qa.is_answer(answer)
        return Asked(best if is_sure else None, best, found)

    async def understand(self, text: str, *, top_k: int | None = None, passages: int = 5) -> Understood:
        """Return what an utterance wants; where it is out of scope or a question, also what the knowledge base says.

        Args:
            text: an utterance.
            top_k: most intents of the ranking; None for all.
            passages: as for `ask`.

        Raises:
            InputError, Overloaded, DeadlineExceeded: as `classify` and `ask`.
        """
        start = time.perf_counter()
        async with within(self.settings.deadline_s):
            intent = await self.intent.classify(text, top_k=top_k) if self.intent else None
            timings = {"intent": time.perf_counter() - start}
            asks = is_question(text)
            is_open = asks or intent is None or intent.out_of_scope
            asked = await self.ask(text, passages=passages) if is_open and self.can_ask else None
        timings["answer"] = time.perf_counter() - start - timings["intent"]
        return Understood(intent, asks, asked, timings)

    async def in_thread(self, function: Callable[..., Done], *arguments: Any) -> Done:
        """Return what a function of the knowledge base gives, without holding the event loop up."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def needed_intent(self) -> IntentEngine:
        """Return the intent model, or raise NotFound."""
        return _there(self.intent, "no intent model, so it understands no utterances. Start it with an intent bundle")

    def needed_qa(self) -> AnswerEngine:
        """Return the question-answering model, or raise NotFound."""
        return _there(self.qa, "no question-answering model, so it answers no questions. Start it with a qa bundle")

    def needed_knowledge(self) -> KnowledgeBase:
        """Return the knowledge base, or raise NotFound."""
        return _there(self.knowledge, "no knowledge base: it comes with a qa bundle. Start it with one")

    async def close(self) -> None:
        """Refuse new requests, answer those in hand, then free the models and the knowledge base."""
        for model in self.models:
            await model.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.knowledge is not None:
            await asyncio.to_thread(self.knowledge.close)


def _bundles(settings: Settings) -> tuple[Path | None, Path | None]:
    paths = settings.bundle("intent"), settings.bundle("qa")
    if paths == (None, None):
        raise ConfigError("there is neither an intent bundle nor a qa bundle. Name one: percept serve BUNDLE…")
    return paths


def _there(part: Done | None, message: str) -> Done:
    if part is None:
        raise NotFound(f"this service has {message}: percept serve BUNDLE…")
    return part


def _heading(passage: Passage) -> str:
    """Return what is read above a passage: its headings say what it is about, where its text takes that for granted."""
    return f"{' – '.join((passage.title, *passage.headings))}\n"


def _sourced(answer: Answer, passage: Passage, above: int) -> SourcedAnswer:
    start = passage.start + answer.start - above
    return SourcedAnswer(answer.text, answer.score, start, start + len(answer.text), passage)
