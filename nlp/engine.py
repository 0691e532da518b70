"""The language engine of one worker: what an utterance wants, and what answers a question.

`LanguageEngine` is what the routes and the page call. It holds an intent model, a question-answering model and the
knowledge base; each of them may be absent. Texts become encodings before they reach a batch, so a bad one fails alone.
The network runs on the batcher's thread, except for a short text that is alone; slow work beside it, such as reading a
long context, has a few threads of its own, and the event loop only waits.
"""

from __future__ import annotations

import asyncio
import copy
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from nlp.answering import SourcedAnswer, completed, read_answer, whole_answers
from nlp.embedding import NETWORK as EMBEDDING
from nlp.embedding.predictor import BATCH_TOKENS, EmbeddingPredictor
from nlp.extracting import Asking, Extracted
from nlp.intent import TASK as INTENT
from nlp.intent.entities import Entity, EntityRule
from nlp.intent.predictor import FEATURES, LOGITS, IntentPredictor, IntentResult
from nlp.knowledge import KnowledgeBase, Passage, SentenceEncoder, open_knowledge
from nlp.qa import TASK as QA
from nlp.qa.predictor import Answer, AnswerPredictor, Logits
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, Encoding, TextEncoder
from nlp.writing import TASK as WRITING
from nlp.writing.predictor import AnswerWriter
from shared.bundle.layout import TensorSignature
from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError, ConfigError, InputError, NotFound, TooLarge
from shared.runtime.batcher import MicroBatcher
from shared.runtime.protocol import Runtime, Tensors, check_inputs
from shared.serving.http.limits import Admission, within
from shared.serving.lifecycle.loading import answering_an_example, load_runtime
from shared.serving.observe import metrics
from shared.serving.observe.metrics import ModelMetrics
from shared.serving.recording.notes import Answered, noting
from shared.serving.recording.shadow import Candidate, candidate_paths, load_shadows
from shared.serving.settings import Settings

if TYPE_CHECKING:
    from nlp.extracting.extractors import Extractors

DEFAULT_PASSAGES = 3
MAX_PASSAGES = 20
"""Most passages that are read for one question."""
LOOKED_AT = 20
"""Passages that are found for one question; only prose is read."""
READ_AT_ONCE = 2
SURE, ENOUGH = 0.9, 0.5
"""Nothing is read beside an answer as sure as the former, and nothing more beside one as sure as the latter."""
MAX_OTHERS = 3
NEARLY_AS_SURE = 0.15
"""Further answers are given that are at most so much less sure than the first."""
ASKED_FROM = 0.48
"""Score from which the answer to a question that a document asks itself is given: of questions to other FAQs, nine in
ten get none then (six FAQs that validated the encoder)."""
GIVEN_FROM = 0.38
"""Chance of being right from which a row or a command is given."""
READ_FROM = 0.6
"""The same of what was read in prose, where nearly every passage has something that looks like an answer."""
ANSWER_ITEM = 1
"""Item of the answer in the records of what is understood; the intent is item 0."""
_OUTCOME = {False: "in_scope", True: "out_of_scope"}
"""Whether an utterance is out of scope -> its name in the metrics."""
LONG_TEXT = 2_000
"""Characters from which tokenising leaves the event loop: it takes about a millisecond then, and a thread 0.1."""
_SHORT_TEXT = 200
"""Characters up to which rules read a text on the event loop: it takes half a millisecond."""
_THREADS = 2
_SEARCH_THREADS = 2
_INLINE_S = 0.004
"""Below the time after which a thread must let others run (5 ms): nobody else notices."""
_QUESTION_MARKS = "?？؟⁇՞"
"""Latin, full-width, Arabic, doubled, Armenian."""
_QUESTION_WORDS = (
    # English
    *("what", "what's", "who", "who's", "whom", "whose", "which", "when", "where", "where's", "why", "how", "how's"),
    # French
    *("qui", "que", "quoi", "quel", "quelle", "quels", "quelles", "quand", "où", "pourquoi", "comment", "combien"),
    *("est-ce", "qu'est-ce", "qu'est"),
)
_FIRST_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")

Outputs = Mapping[str, np.ndarray]
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Done = TypeVar("Done")


@dataclass(frozen=True)
class Asked:
    """What the knowledge base says to a question."""

    answer: SourcedAnswer | None
    """None if nothing is sure enough, which is a normal answer."""
    best: SourcedAnswer | None
    """The most probable answer, however improbable; None if no passage was found."""
    passages: list[Passage]
    """Those that were looked at, the nearest first."""
    others: Sequence[SourcedAnswer] = ()
    """Other answers that are sure enough, from other passages."""
    question: str = ""
    """As it was understood: completed by the one before."""


@dataclass(frozen=True)
class Understood:
    """What an utterance wants, and the answer if it asks something."""

    intent: IntentResult | None
    """None if there is no intent model."""
    is_question: bool
    """Whether it reads like a question."""
    asked: Asked | None
    """None if nothing was looked up: the utterance is no question and in scope, or there is nothing to search."""


class LanguageEngine:
    """Answers for the language service in one worker.

    Args:
        intent: understands utterances; None for a service that does not.
        qa: reads contexts; None for a service that answers no questions.
        knowledge: where answers are looked up; None for a service without one.
        settings: limits.
        writer: makes sentences of answers; None for a service that quotes.
        extractors: rules that read texts besides the intent model; None for a service without any.
    """

    def __init__(
        self,
        *,
        intent: IntentEngine | None,
        qa: AnswerEngine | None,
        knowledge: KnowledgeBase | None,
        settings: Settings,
        writer: AnswerWriter | None = None,
        extractors: Extractors | None = None,
    ) -> None:
        self.intent = intent
        self.qa = qa
        self.knowledge = knowledge
        self.settings = settings
        self.writer = writer
        self.extractors = extractors
        self._extracting = Admission(settings.max_queued_texts, settings.deadline_s, "texts")
        self._extractor_thread = ThreadPoolExecutor(1, thread_name_prefix="extractors")
        self._writing = Admission(settings.max_queue, settings.deadline_s, "answers")
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._embedding = Admission(settings.max_queued_texts, settings.deadline_s, "texts")
        self._threads = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="search")

    @classmethod
    def load(cls, settings: Settings) -> LanguageEngine:
        """Return an engine whose models gave their golden outputs; blocks for as long as that takes.

        Raises:
            ConfigError: there is neither model, or both have the same name.
            BundleError: one is broken.
        """
        intent_path, qa_path = _bundles(settings)
        intent = IntentEngine.load(intent_path, settings) if intent_path else None
        qa = AnswerEngine.load(qa_path, settings) if qa_path else None
        if intent and qa and intent.name == qa.name:
            raise ConfigError(f"both bundles are called {qa.name!r}; models are asked for by name. Rename one.")
        encoder_path = settings.bundle("encoder") if qa else None
        encoder = _load_encoder(encoder_path, settings) if encoder_path else None
        knowledge = open_knowledge(settings, encoder) if qa else None
        writer_path = settings.bundle("writer") if qa else None
        writer = _load_writer(writer_path, settings) if writer_path else None
        engine = cls(
            intent=intent,
            qa=qa,
            knowledge=knowledge,
            settings=settings,
            writer=writer,
            extractors=_load_extractors(settings),
        )
        load_shadows(settings, [model.bundle for model in engine.models], _CANDIDATES)
        return engine

    def replaced(self, task: str, path: Path) -> LanguageEngine:
        """Return an engine with another model for that task; the other model and the knowledge base stay the same."""
        engine = copy.copy(self)
        if task == INTENT.name:
            engine.intent = IntentEngine.load(path, self.settings)
        else:
            engine.qa = AnswerEngine.load(path, self.settings)
        return engine

    @staticmethod
    def check(settings: Settings) -> None:
        """Refuse settings without a bundle, or with one that cannot be read; raises as `load`."""
        served = [read_bundle(path) for path in _bundles(settings) if path is not None]
        for path in (settings.bundle("encoder"), settings.bundle("writer")):
            if path is not None:
                read_bundle(path)
        candidate_paths(settings, served)
        _load_extractors(settings)

    @property
    def models(self) -> list[IntentEngine | AnswerEngine]:
        """The models that this service has."""
        return [model for model in (self.intent, self.qa) if model is not None]

    @property
    def encoder(self) -> EmbeddingPredictor | None:
        """The sentence encoder, if there is one."""
        found = self.knowledge.encoder if self.knowledge else None
        return found.predictor if found else None

    @property
    def can_ask(self) -> bool:
        """Whether it answers questions without a context."""
        return self.qa is not None and self.knowledge is not None

    async def ask(
        self,
        question: str,
        *,
        previous: str | None = None,
        passages: int = DEFAULT_PASSAGES,
        knowledge: KnowledgeBase | None = None,
        item: int = 0,
    ) -> Asked:
        """Return what the knowledge base says to a question.

        Of what is found, the documents' own questions with their answers, rows of tables and commands are judged as
        they are. Prose is read under its headings, the nearest first, until an answer is sure.

        Args:
            question: as for `AnswerEngine.answer`.
            previous: what was asked before, which this question may follow from.
            passages: how many are read at most, 1 to `MAX_PASSAGES`.
            knowledge: what is searched; None for the service's own.
            item: its place among what the request is answered.

        Raises:
            NotFound: there is no question-answering model or no knowledge base.
            InputError, Overloaded, DeadlineExceeded: as `AnswerEngine.answer`.
        """
        qa = self.needed_qa()
        searched = self.needed_knowledge() if knowledge is None else knowledge
        question = completed(question, previous)
        start = time.perf_counter()
        async with qa.admission.admitted():
            found: list[Passage] = await self.in_thread(searched.search, question, LOOKED_AT)
            answers = await self.in_thread(whole_answers, question, found)
            metrics.STAGE_SECONDS.labels(qa.name, "search").observe(time.perf_counter() - start)
            prose = [passage for passage in found if passage.kind == "prose"][: min(passages, MAX_PASSAGES)]
            read = 0
            while read < len(prose) and max((a.score for a in answers), default=0.0) < (ENOUGH if read else SURE):
                next_ones = prose[read : read + (1 if not read else READ_AT_ONCE)]
                answers += await self._read(qa, question, next_ones)
                read += len(next_ones)
        answers.sort(key=lambda answer: (not _is_given(answer), -answer.score))
        best = answers[0] if answers else None
        is_given = best is not None and _is_given(best)
        qa.count(best, is_given=is_given)
        if knowledge is None:
            qa.note(item, question, best.passage.text if best else None, best, is_given=is_given)
        else:  # a visitor's own documents, of which nothing is kept
            qa.note(item, question, None, best, is_given=is_given, has_answer=False)
        looked_at = [each for each in found if each in prose[:read] or each.kind != "prose"][:passages]
        if best is not None and best.passage not in looked_at:
            looked_at = [best.passage, *looked_at[: passages - 1]]
        least = best.score - NEARLY_AS_SURE if best else 1.0
        others = [
            each for each in answers[1:] if _is_given(each) and each.score >= least and best and each.text != best.text
        ]
        return Asked(best if is_given else None, best, looked_at, others[:MAX_OTHERS], question)

    async def phrase(self, asked: Asked) -> str | None:
        """Return the answer that was found as a sentence; None where it is best quoted, or there is none.

        What a document says in answer to a question of its own, and code, are quoted.

        Raises:
            NotFound, Overloaded, DeadlineExceeded: as `write`.
        """
        answer = asked.answer
        if answer is None or answer.passage.kind in ("answer", "code"):
            return None
        passage = answer.passage
        return await self.write(asked.question, passage.text, answer.start - passage.start, answer.end - passage.start)

    async def write(self, question: str, text: str, start: int, end: int) -> str | None:
        """Return an answer as a sentence, each word of which is the question's or the text's, or None.

        Args:
            question: which `text[start:end]` answers.
            text: what the answer is from.
            start: in characters.
            end: likewise.

        Raises:
            NotFound: there is no writer.
            Overloaded: as many answers as the limit are waiting for it.
            DeadlineExceeded: it took longer than allowed.
        """
        writer = self.needed_writer()
        async with self._writing.admitted():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._writer_thread, writer.write, question, text, start, end)

    @staticmethod
    async def _read(qa: AnswerEngine, question: str, passages: Sequence[Passage]) -> list[SourcedAnswer]:
        """Return the best answer in each passage of prose, as far as there is one."""
        # Headings say what a passage is about when its text takes that for granted.
        above = [f"{' – '.join((passage.title, *passage.headings))}\n" for passage in passages]
        contexts = [heading + passage.text for heading, passage in zip(above, passages, strict=True)]
        answers = await qa.read(question, contexts, above=[len(heading) for heading in above])
        return [
            read_answer(passage, answer.start - len(heading), answer.end - len(heading), answer.score)
            for passage, heading, of_passage in zip(passages, above, answers, strict=True)
            for answer in of_passage
        ]

    async def understand(
        self,
        text: str,
        *,
        previous: str | None = None,
        top_k: int | None = None,
        passages: int = DEFAULT_PASSAGES,
    ) -> Understood:
        """Return what an utterance wants; if it is out of scope or a question, also what the knowledge base says.

        Args:
            text: an utterance.
            previous: as for `ask`.
            top_k: most intents in the ranking; None for all.
            passages: as for `ask`.

        Raises:
            InputError, Overloaded, DeadlineExceeded: as `IntentEngine.classify` and `ask`.
        """
        async with within(self.settings.deadline_s):
            intent = await self.intent.classify(text, top_k=top_k) if self.intent else None
            asks = is_question(text)
            is_open = asks or intent is None or intent.out_of_scope
            asked = None
            if is_open and self.can_ask:
                asked = await self.ask(text, previous=previous, passages=passages, item=ANSWER_ITEM)
        return Understood(intent, asks, asked)

    async def extract(self, texts: Sequence[str], asking: Asking) -> list[tuple[Extracted, ...]]:
        """Return what rules find in each text, in its order; nothing where none are switched on.

        Raises:
            InputError: something is asked for that is not switched on, or there is no such time zone.
            Overloaded: as many texts as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        extractors = self.extractors
        if extractors is None:
            if not asking.is_plain:
                raise InputError(
                    "this service has no built-in extractors, so it takes no extract, language, now and time_zone. "
                    "Start it with PERCEPT_EXTRACTORS=date,time,…"
                )
            return [() for _ in texts]
        extractors.check(asking)
        async with self._extracting.admitted(len(texts)):
            if sum(map(len, texts)) <= _SHORT_TEXT:
                return [extractors.read(text, asking) for text in texts]
            # One text at a time: callers take turns, and of one who gave up no further text is read.
            loop = asyncio.get_running_loop()
            return [await loop.run_in_executor(self._extractor_thread, extractors.read, text, asking) for text in texts]

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [len(texts), d], rows of length 1.

        Raises:
            NotFound: there is no sentence encoder.
            Overloaded: as many texts as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        encoder = self.needed_encoder()
        async with self._embedding.admitted(len(texts)):
            rows: np.ndarray = await self.in_thread(encoder.embed, texts)
        return rows

    async def in_thread(self, function: Callable[..., Done], *arguments: Any) -> Done:
        """Return the result of a function of the knowledge base, without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def needed_intent(self) -> IntentEngine:
        """Return the intent model, or raise NotFound."""
        if self.intent is None:
            raise _missing("no intent model, so it understands no utterances. Start it with an intent bundle")
        return self.intent

    def needed_entities(self) -> IntentEngine | None:
        """Return the intent model if it finds entities, None if rules alone do; raise NotFound if nothing does."""
        if self.intent is not None and self.intent.predictor.entities is not None:
            return self.intent
        if self.extractors is None:
            raise NotFound(
                "this service finds no entities: its intent model has learned none, and no built-in extractors are "
                "switched on. Start it with a bundle that was trained on marked entities, or PERCEPT_EXTRACTORS=date,…"
            )
        return None

    def needed_qa(self) -> AnswerEngine:
        """Return the question-answering model, or raise NotFound."""
        if self.qa is None:
            raise _missing("no question-answering model, so it answers no questions. Start it with a qa bundle")
        return self.qa

    def needed_encoder(self) -> EmbeddingPredictor:
        """Return the sentence encoder, or raise NotFound."""
        if self.encoder is None:
            raise _missing("no sentence encoder, so it embeds nothing. Start it with a qa bundle and an encoder's")
        return self.encoder

    def needed_writer(self) -> AnswerWriter:
        """Return the writer, or raise NotFound."""
        if self.writer is None:
            raise _missing("no writer, so it quotes answers and makes no sentences. Start it with a writer's bundle")
        return self.writer

    def needed_knowledge(self) -> KnowledgeBase:
        """Return the knowledge base, or raise NotFound."""
        if self.knowledge is None:
            raise _missing("no knowledge base: it comes with a qa bundle. Start it with one")
        return self.knowledge

    async def close(self) -> None:
        """Refuse new requests, answer those in hand, then free the models and the knowledge base."""
        for model in self.models:
            await model.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._writer_thread.shutdown(wait=False, cancel_futures=True)
        self._extractor_thread.shutdown(wait=False, cancel_futures=True)
        if self.knowledge is not None:
            await asyncio.to_thread(self.knowledge.close)


def is_question(text: str) -> bool:
    """Return whether a text ends with a question mark, or starts with an English or French question word.

    >>> [is_question(text) for text in ("Where is my card", "block my card", "Tu peux ouvrir ?", "Où est ma carte")]
    [True, False, True, True]
    """
    stripped = text.strip()
    if stripped.rstrip("!\"'»”’) ").endswith(tuple(_QUESTION_MARKS)):
        return True
    first = _FIRST_WORD.match(stripped)
    return first is not None and first[0].lower().replace("’", "'") in _QUESTION_WORDS


def _bundles(settings: Settings) -> tuple[Path | None, Path | None]:
    paths = settings.bundle("intent"), settings.bundle("qa")
    if paths == (None, None):
        raise ConfigError("there is neither an intent bundle nor a qa bundle. Name one: percept serve BUNDLE…")
    return paths


def _load_encoder(path: Path, settings: Settings) -> SentenceEncoder:
    # It is small and asked in other threads: the GPU stays with the models that answer.
    bundle, runtime = load_runtime(path, EMBEDDING, settings.model_copy(update={"device": "cpu"}))
    with answering_an_example(bundle):
        encoder = SentenceEncoder(bundle, runtime)
        longest = encoder.predictor.encoder.longest()
        encoder.predictor.infer([longest] * max(1, BATCH_TOKENS // len(longest)))  # takes the memory that it ever needs
    return encoder


def _load_writer(path: Path, settings: Settings) -> AnswerWriter:
    bundle, runtime = load_runtime(path, WRITING.network, settings.model_copy(update={"device": "cpu"}))
    with answering_an_example(bundle):
        writer = AnswerWriter(bundle, runtime)
        writer.write("Who keeps the light?", "Ada Brandt keeps the light.", 0, 10)
    return writer


def _load_extractors(settings: Settings) -> Extractors | None:
    if not settings.extractors:
        return None
    try:
        from nlp.extracting.extractors import Extractors
    except ImportError as error:
        raise ConfigError(
            f"extractors needs {error.name}, which is not installed. Run: pip install 'percept[extractors]'"
        ) from error
    return Extractors(settings.extractors, settings.extractor_languages, settings.time_zone, settings.phone_region)


def _missing(what: str) -> NotFound:
    return NotFound(f"this service has {what}: percept serve BUNDLE…")


class TextPredictor(Protocol[Result_co]):
    """What a `TextModel` needs of a predictor."""

    bundle: Bundle
    runtime: Runtime
    encoder: TextEncoder

    def infer(self, batch: Sequence[Encoding], /) -> Sequence[Result_co]:
        """Return one result per encoding."""
        ...


@dataclass(frozen=True, eq=False)
class _RawInputs:
    """Tensors from an Open Inference client, which wait for the network among encodings."""

    tensors: Tensors
    input_ids: np.ndarray


class TextModel(Generic[Result]):
    """One language model: texts for many callers at once, and tensors for Open Inference clients.

    Args:
        predictor: called in batches; its runtime is closed with the model.
        settings: limits and sizes.
        items: what is counted, such as "questions", for messages.
        limit: how many of these may be in hand.
    """

    cpu_batch_size: ClassVar[int]
    """Encodings in one call of the network, unless the settings say how many."""
    gpu_batch_size: ClassVar[int]

    def __init__(self, predictor: TextPredictor[Result], settings: Settings, *, items: str, limit: int) -> None:
        self.bundle = predictor.bundle
        self.runtime = predictor.runtime
        self.settings = settings
        self.name = self.bundle.name
        self.version = self.bundle.version
        self.inputs: tuple[TensorSignature, ...] = self.runtime.inputs
        self.outputs: tuple[TensorSignature, ...] = self.runtime.outputs
        self.encoder = predictor.encoder
        self.admission = Admission(limit, settings.deadline_s, items)
        self.metrics = ModelMetrics(self.name, self.bundle.labels)
        on_gpu = self.runtime.device == "cuda"
        batch_size = settings.max_batch_size or (self.gpu_batch_size if on_gpu else self.cpu_batch_size)
        self.windows_at_once = 2 * batch_size
        """Encodings that one item may have with the network: a batch that is computed and one that waits."""
        self._infer_encodings = predictor.infer
        self._batcher: MicroBatcher[Encoding | _RawInputs, Any] = MicroBatcher(
            self._infer_batch,
            max_batch_size=batch_size,
            max_queue=self.windows_at_once * limit + settings.max_texts,  # admission refuses items before it is full
            name=self.name,
            size=attrgetter("input_ids.size"),
            on_batch=self.metrics.batch,
            inline_s=0.0 if on_gpu else _INLINE_S,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="text")

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return not self.admission.is_closed

    async def run_all(self, encodings: Sequence[Encoding], *, at_once: int) -> list[Result]:
        """Return the network's result for each encoding; if one fails, the others leave the queue.

        Args:
            encodings: of one caller, who was admitted before.
            at_once: how many of them may wait for the network at the same time.
        """
        if len(encodings) == 1:
            return [await self._batcher.submit(encodings[0])]
        room = asyncio.Semaphore(at_once)

        async def run(encoding: Encoding) -> Result:
            async with room:
                result: Result = await self._batcher.submit(encoding)
                return result

        tasks = [asyncio.ensure_future(run(each)) for each in encodings]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def off_loop(self, characters: int, function: Callable[..., Done], *arguments: Any) -> Done:
        """Return the result of a function, computed on a thread if it reads many characters."""
        if characters < LONG_TEXT:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the network's outputs for int64 [N, T] tensors of its signature.

        Raises:
            InputError: another name, dtype or shape, more rows or tokens than the limit, ids that are no tokens.
        """
        check_inputs(self.inputs, inputs)
        self._check_tokens(inputs)
        async with self.admission.admitted(len(inputs[INPUT_IDS])):
            outputs: dict[str, np.ndarray] = await self._batcher.submit(_RawInputs(inputs, inputs[INPUT_IDS]))
        if not all(np.isfinite(array).all() for array in outputs.values()):
            raise InputError("the network's answer is not finite: a row of attention_mask may hold no 1.")
        return outputs

    async def close(self) -> None:
        """Refuse new texts, answer those in hand, then free the model."""
        self.admission.close()
        await self._batcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.runtime.close()

    def _check_tokens(self, inputs: Mapping[str, np.ndarray]) -> None:
        rows, length = inputs[INPUT_IDS].shape
        if rows > self.settings.max_texts:
            raise InputError(f"the tensors have {rows} rows; the limit is {self.settings.max_texts}. Send fewer.")
        if length > self.encoder.max_length:
            raise InputError(f"the tensors are {length} tokens long; this model reads {self.encoder.max_length}.")
        for name, tokens in inputs.items():
            most = {INPUT_IDS: self.encoder.vocabulary_size - 1, ATTENTION_MASK: 1, TOKEN_TYPE_IDS: 1}.get(name)
            if most is not None and (tokens.min() < 0 or tokens.max() > most):
                raise InputError(f"the values of {name} must be 0 to {most}; came {tokens.min()} to {tokens.max()}.")

    # Runs where the batcher computes.
    def _infer_batch(self, batch: list[Encoding | _RawInputs]) -> list[Any]:
        encodings = [item for item in batch if isinstance(item, Encoding)]
        results = iter(self._infer_encodings(encodings) if encodings else ())
        return [next(results) if isinstance(item, Encoding) else self.runtime.run(item.tensors) for item in batch]


class IntentEngine(TextModel[Outputs]):
    """An intent model: utterances to intents."""

    cpu_batch_size = 16
    gpu_batch_size = 64

    def __init__(self, bundle: Bundle, runtime: Runtime, settings: Settings) -> None:
        self.predictor = IntentPredictor(bundle, runtime)
        super().__init__(self.predictor, settings, items="utterances", limit=settings.max_queued_texts)
        self.labels = bundle.labels

    @classmethod
    def load(cls, path: Path, settings: Settings) -> Self:
        """Return the model of the bundle in `path`; blocks, and raises as `load_runtime`."""
        bundle, runtime = load_runtime(path, INTENT.network, settings, gpu_batch_size=cls.gpu_batch_size)
        with answering_an_example(bundle):
            model = cls(bundle, runtime, settings)
            shown = model.predictor.infer([model.encoder.encode("a"), model.encoder.longest()])
            if any(outputs[LOGITS].shape != (len(bundle.labels),) for outputs in shown):
                raise BundleError(
                    f"{path} has {len(bundle.labels)} labels; its network gives another number of logits."
                )
            model.predictor.decide(shown[0], model.encoder.encode("a"))
        return model

    async def classify(self, text: str, *, top_k: int | None = None) -> IntentResult:
        """Return what an utterance wants; "nothing that is known" is a normal answer.

        Args:
            text: an utterance.
            top_k: most intents in the ranking; None for all.

        Raises:
            InputError: the text cannot be read.
            Overloaded: as many utterances as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        start = time.perf_counter()
        async with self.admission.admitted():
            encode = self.encoder.encode
            encoding = encode(text) if len(text) < LONG_TEXT else await self.off_loop(len(text), encode, text)
            encoded = time.perf_counter()
            outputs: Outputs = await self._batcher.submit(encoding)
        self.metrics.preprocess_seconds.observe(encoded - start)
        result = self.predictor.decide(outputs, encoding, top_k=top_k)
        self.metrics.answer(_OUTCOME[result.out_of_scope], result.intent or "", score=result.confidence)
        self.note(0, text, outputs, result)
        return result

    async def classify_many(
        self, texts: Sequence[str], *, top_k: int | None = None, items: Sequence[int] | None = None
    ) -> list[IntentResult | InputError]:
        """Return what each utterance wants, in their order, with the error in place of one that cannot be read.

        Args:
            texts: utterances.
            top_k: as for `classify`.
            items: their places in the request; None if it holds no others.
        """
        results: list[IntentResult | InputError] = []
        found = await self.run_texts(texts)
        for item, text, each in zip(items or range(len(texts)), texts, found, strict=True):
            if isinstance(each, InputError):
                results.append(each)
                continue
            result = self.predictor.decide(*each, top_k=top_k)
            self.metrics.answer(_OUTCOME[result.out_of_scope], result.intent or "", score=result.confidence)
            self.note(item, text, each[0], result)
            results.append(result)
        return results

    def note(self, item: int, text: str, outputs: Outputs, result: IntentResult) -> None:
        """Have one answer recorded, if answers are.

        Args:
            item: its place among the utterances of the request.
            text: the utterance.
            outputs: of the network.
            result: what was made of them.
        """
        notes = noting()
        if notes is not None:
            notes.keep(self, item, **_noted(result), features=outputs.get(FEATURES), text=text, again=text)

    async def entities(self, texts: Sequence[str]) -> list[tuple[tuple[Entity, ...], bool] | InputError]:
        """Return the entities that the network finds in each text and whether its middle was left out, or its error.

        Raises:
            NotFound: the model has learned none.
            Overloaded, DeadlineExceeded: as `classify`.
        """
        rule = self.needed_rule()
        return [
            each if isinstance(each, InputError) else (rule.entities(*each), each[1].is_cut)
            for each in await self.run_texts(texts)
        ]

    def needed_rule(self) -> EntityRule:
        """Return what the model knows of entities, or raise NotFound."""
        if self.predictor.entities is None:
            raise NotFound(
                f"{self.name} has learned no entities. Serve a bundle that was trained on utterances with marked ones."
            )
        return self.predictor.entities

    async def run_texts(self, texts: Sequence[str]) -> list[tuple[Outputs, Encoding] | InputError]:
        """Return the network's outputs for each utterance, with the error in place of one that cannot be read."""
        start = time.perf_counter()
        async with self.admission.admitted(len(texts)):
            encodings = await self.off_loop(sum(map(len, texts)), self._encode_all, texts)
            encoded = time.perf_counter()
            readable = [each for each in encodings if isinstance(each, Encoding)]
            results = iter(await self.run_all(readable, at_once=len(texts)))
        self.metrics.preprocess_seconds.observe(encoded - start)
        return [(next(results), each) if isinstance(each, Encoding) else each for each in encodings]

    def _encode_all(self, texts: Sequence[str]) -> list[Encoding | InputError]:
        found: list[Encoding | InputError] = []
        for text in texts:
            try:
                found.append(self.encoder.encode(text))
            except InputError as error:
                found.append(error)
        return found


class AnswerEngine(TextModel[Logits]):
    """A question-answering model: questions with contexts to places in them.

    A long context becomes many windows. A question has only a few of them with the network at once, so that short ones
    get their turn in between.
    """

    cpu_batch_size = 4
    """Windows are long: more at once gain nothing on a CPU and make a short one wait."""
    gpu_batch_size = 32

    def __init__(self, bundle: Bundle, runtime: Runtime, settings: Settings) -> None:
        self.predictor = AnswerPredictor(bundle, runtime)
        super().__init__(self.predictor, settings, items="questions", limit=settings.max_queue)

    @classmethod
    def load(cls, path: Path, settings: Settings) -> Self:
        """Return the model of the bundle in `path`; blocks, and raises as `load_runtime`."""
        bundle, runtime = load_runtime(path, QA.network, settings, gpu_batch_size=cls.gpu_batch_size)
        with answering_an_example(bundle):
            model = cls(bundle, runtime, settings)
            model.predictor.answer("a", "a")
            model.predictor.infer([model.encoder.longest()])
        return model

    async def answer(
        self, question: str, context: str, *, top_k: int = 1, max_answer_tokens: int | None = None
    ) -> list[Answer]:
        """Return the best answers, best first, however improbable; `is_answer` tells which are good enough.

        Args:
            question: cut off after a quarter of a window.
            context: the text with the answer; `context[answer.start:answer.end] == answer.text`.
            top_k: at most this many.
            max_answer_tokens: longer ones are no candidates; None for the bundle's own limit, which is also the most.

        Raises:
            InputError: a text cannot be read.
            Overloaded: as many questions as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        async with self.admission.admitted():
            (found,) = await self.read(question, [context], top_k=top_k, max_answer_tokens=max_answer_tokens)
        best = found[0] if found else None
        self.count(best)
        is_given = best is not None and self.is_answer(best)
        self.note(0, question, context, best, is_given=is_given, again=(question, context))
        return found

    def is_answer(self, answer: Answer) -> bool:
        """Whether it is sure enough to be given; if not, the context holds no answer, which is a normal answer."""
        return self.predictor.is_answer(answer)

    def count(self, best: Answer | None, *, is_given: bool | None = None) -> None:
        """Count the best answer to one question, or that there is none, in the metrics.

        Args:
            best: the most probable one.
            is_given: whether it is sure enough; None for the bundle's own threshold.
        """
        is_answered = best is not None and (self.is_answer(best) if is_given is None else is_given)
        self.metrics.answer("answered" if is_answered else "unanswerable", score=best.score if best else None)

    def note(
        self,
        item: int,
        question: str,
        context: str | None,
        best: Answer | None,
        *,
        is_given: bool,
        has_answer: bool = True,
        again: tuple[str, str] | None = None,
    ) -> None:
        """Have the answer to one question recorded, if answers are.

        Args:
            item: its place among what the request is answered.
            question: as it was understood.
            context: which the best answer is from; None if nothing of it may be kept.
            best: the most probable answer.
            is_given: whether it is sure enough.
            has_answer: whether its words may be kept.
            again: question and context, where a candidate can answer the same.
        """
        notes = noting()
        if notes is not None:
            notes.keep(
                self,
                item,
                **_answer_noted(best, is_given=is_given),
                text=question,
                context=context,
                answer=best.text if best is not None and is_given and has_answer else None,
                again=again,
            )

    async def read(
        self,
        question: str,
        contexts: Sequence[str],
        *,
        above: Sequence[int] | None = None,
        top_k: int = 1,
        max_answer_tokens: int | None = None,
    ) -> list[list[Answer]]:
        """Return the best answers of each context. The caller was admitted before.

        Args:
            question: as for `answer`.
            contexts: read side by side, the most important first: those beyond what one request may take are not read.
            above: how many characters at the start of each context are a heading: read, but never part of an answer.
                None for no headings.
            top_k: at most this many per context.
            max_answer_tokens: as for `answer`.
        """
        start = time.perf_counter()
        characters = len(question) + sum(map(len, contexts))
        headed = list(zip(contexts, above or [0] * len(contexts), strict=True))

        def encode() -> list[list[Encoding]]:
            room = self.settings.max_context_chars // 2  # the tokens of so much English, windows overlapping
            found: list[list[Encoding]] = []
            for context, heading in headed:
                windows = self.predictor.windows(question, context, above=heading)
                tokens = sum(map(len, windows))
                room -= tokens if len(windows) > 1 else 0
                if room < 0 and len(headed) == 1:
                    raise TooLarge(
                        f"the context takes {tokens} tokens to read; the limit is {tokens + room}. Send a shorter one."
                    )
                found.append(windows if room >= 0 else [])
            return found

        windows = await self.off_loop(characters, encode)
        encoded = time.perf_counter()
        logits = iter(await self.run_all([each for of_one in windows for each in of_one], at_once=self.windows_at_once))

        def decide() -> list[list[Answer]]:
            return [
                self.predictor.decide(
                    context,
                    of_one,
                    [next(logits) for _ in of_one],
                    question=question,
                    above=heading,
                    top_k=top_k,
                    max_answer_tokens=max_answer_tokens,
                )
                for (context, heading), of_one in zip(headed, windows, strict=True)
            ]

        found = await self.off_loop(characters, decide)
        self.metrics.preprocess_seconds.observe(encoded - start)
        return found


def _noted(result: IntentResult) -> Answered:
    """Return what a record says of an utterance's answer."""
    given = [] if result.intent is None else [result.intent]
    return {
        "outcome": _OUTCOME[result.out_of_scope],
        "confidence": result.confidence,
        "labels": given,
        "scores": [result.confidence] * len(given),
        "out_of_scope_score": result.out_of_scope_score,
    }


def _answer_noted(best: Answer | SourcedAnswer | None, *, is_given: bool) -> Answered:
    """Return what a record says of the answer to a question."""
    return {"outcome": "answered" if is_given else "unanswerable", "confidence": best.score if best else None}


def _intent_candidate(path: Path, settings: Settings) -> Candidate:
    bundle, runtime = load_runtime(path, INTENT.network, settings)
    with answering_an_example(bundle):
        predictor = IntentPredictor(bundle, runtime)

        def answer(text: str) -> Answered:
            encoding = predictor.encoder.encode(text)
            [outputs] = predictor.infer([encoding])
            return _noted(predictor.decide(outputs, encoding))

        answer("a")
    return Candidate(bundle, runtime, answer)


def _answer_candidate(path: Path, settings: Settings) -> Candidate:
    bundle, runtime = load_runtime(path, QA.network, settings)
    with answering_an_example(bundle):
        predictor = AnswerPredictor(bundle, runtime)

        def answer(asked: tuple[str, str]) -> Answered:
            question, context = asked
            windows = predictor.windows(question, context)
            logits = [predictor.infer([window])[0] for window in windows]  # one at a time takes little memory
            found = predictor.decide(context, windows, logits, question=question)
            best = found[0] if found else None
            return _answer_noted(best, is_given=best is not None and predictor.is_answer(best))

        answer(("a", "a"))
    return Candidate(bundle, runtime, answer)


_CANDIDATES = {INTENT.name: _intent_candidate, QA.name: _answer_candidate}


def _is_given(answer: SourcedAnswer) -> bool:
    """Whether an answer is sure enough to be given."""
    return answer.score >= {"prose": READ_FROM, "answer": ASKED_FROM}.get(answer.passage.kind, GIVEN_FROM)
