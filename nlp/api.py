"""The language API: Percept's own routes with their bodies, and with them all other routes of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from nlp import compatible, knowledge_api, openai
from nlp.answering import SourcedAnswer
from nlp.engine import DEFAULT_PASSAGES, MAX_PASSAGES, Asked, LanguageEngine
from nlp.extracting import Asking, Extracted
from nlp.intent.entities import Entity
from nlp.intent.predictor import IntentResult
from nlp.knowledge.passages import Kind
from nlp.qa.predictor import Answer
from nlp.text import checked_text
from shared.errors import InputError, TooLarge
from shared.serving.app import DirectApi, make_app
from shared.serving.http.answers import ItemError, ModelInfo
from shared.serving.http.errors import error_responses
from shared.serving.http.middleware import answered_by
from shared.serving.http.requests import Whole, examples, json_body, read_json
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import BuiltIn, Settings

DEFAULT_TOP_K = 5
_UTTERANCE = "Say what a person says, in their words."
ALL = Asking()
"""All that the service has switched on."""
Text = Annotated[Any, WithJsonSchema({"type": "string"})]
"""An item of a batch. Its type is checked when it is answered, so that a wrong one does not affect the others."""


Style = Literal["quote", "sentence"]
_STYLE = (
    "With “sentence”, a service that has a writer also makes a sentence of the answer, in `sentence`: 404 where it has "
    "none."
)
_SENTENCE = (
    "The answer as a sentence, each word of which is the question's or the source's. Null if a quote was asked for, or "
    "is best."
)
_PREVIOUS = "What was asked before. A question that follows from it, such as “and on Sundays?”, is completed by it."


class _Request(BaseModel):
    """Strict; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _moment(given: object) -> datetime:
    if isinstance(given, str):
        with suppress(ValueError):
            return datetime.fromisoformat(given)
    raise ValueError(f"it should be a moment such as 2026-12-01T10:15:00+01:00, and is {given!r:.60}")


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-12-01T10:15:00+01:00"]}),
]


class _Extracting(_Request):
    """What built-in extractors are asked, where a service has any."""

    extract: list[BuiltIn] | None = Field(
        default=None, description="Which built-in extractors read the text, of those switched on; all if not given."
    )
    language: Literal["en", "fr"] | None = Field(
        default=None, description="Of the text, for them; they find out if it is not given."
    )
    now: Moment | None = Field(
        default=None,
        description="When the text was said, ISO 8601: “tomorrow” counts from it. This moment if not given.",
    )
    time_zone: str | None = Field(
        default=None,
        description="IANA's name, such as Europe/Paris; if not given, the zone of `now`, or else the service's.",
    )

    @property
    def asking(self) -> Asking:
        return Asking(self.extract, self.language, self.now, self.time_zone)


class _TextOrTexts(_Extracting):
    """One utterance or several."""

    text: str | None = Field(default=None, description=_UTTERANCE)
    texts: list[Text] | None = Field(default=None, min_length=1, description="Several utterances, instead of `text`.")

    @model_validator(mode="after")
    def _has_one_of_them(self) -> _TextOrTexts:
        if (self.text is None) == (self.texts is None):
            raise ValueError("send either `text` or `texts`")
        return self


_ONE_OF_THEM: list[Any] = [  # what `_has_one_of_them` checks
    {"required": ["text"], "properties": {"text": {"type": "string"}}},
    {"required": ["texts"], "properties": {"texts": {"type": "array"}}},
]


class IntentRequest(_TextOrTexts):
    """One utterance or several."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "réserve-moi un vol pour Lyon"}, {"texts": ["play a song", "hello"]}],
            "oneOf": _ONE_OF_THEM,
        }
    )

    top_k: Whole = Field(default=DEFAULT_TOP_K, ge=1, description="Most intents in the ranking.")


class EntitiesRequest(_TextOrTexts):
    """One text or several, of which only the entities are wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "a table for two tomorrow at 8", "now": "2026-12-01T10:15:00+01:00"}],
            "oneOf": _ONE_OF_THEM,
        }
    )


class IntentScoreOut(BaseModel):
    """One intent with its calibrated probability, given that the utterance belongs to one."""

    name: str
    confidence: float


class EntityOut(BaseModel):
    """Something that an utterance names."""

    start: int
    end: int = Field(description="`text[start:end]` is what was written, counted in characters (code points).")
    entity: str = Field(description="What it is, such as “city”.")
    value: Any = Field(
        description="As written, or what that is a synonym of. Of built-in extractors: ISO 8601 for dates, times and "
        "durations, a number, `{amount, currency}` for money, E.164 for telephone numbers."
    )
    text: str = Field(description="As written.")
    score: float | None = Field(
        description="Calibrated probability that these words, all of them and no others, are this entity. Null for "
        "what a built-in extractor found."
    )
    role: str | None = Field(description="What it is there for, such as “from”.")
    group: str | None = Field(description="Which of several things it belongs to.")
    extractor: str = Field(description="“percept”, the network, or “built-in”.")


class IntentOut(BaseModel):
    """What one utterance wants."""

    intent: str | None = Field(description="Null if the utterance belongs to no known intent.")
    intents: list[str] = Field(
        default=[], description="What it wants: several if `intent` is one like “greet+order”, none out of scope."
    )
    confidence: float = Field(description="Calibrated probability of the best intent, even if it is not given.")
    out_of_scope: bool
    out_of_scope_score: float = Field(description="0 to 1, higher if the utterance belongs to no intent.")
    ranking: list[IntentScoreOut] = Field(description="The most probable first.")
    entities: list[EntityOut] = Field(
        default=[],
        description="What it names, also out of scope, in its order; one may be over one of another extractor.",
    )
    truncated: bool = Field(
        default=False, description="Whether the middle of the utterance was left out: the model reads no more."
    )


class IntentResponse(BaseModel):
    """The answer of POST /v1/intent: one result per utterance, in the order they were sent."""

    model_config = examples(
        {
            "model": {"name": "percept-intent", "version": "2026.11.24-1a2b3c4d"},
            "results": [
                {
                    "intent": "book_flight",
                    "intents": ["book_flight"],
                    "confidence": 0.97,
                    "out_of_scope": False,
                    "out_of_scope_score": 0.02,
                    "ranking": [{"name": "book_flight", "confidence": 0.97}],
                    "entities": [
                        {
                            "start": 28,
                            "end": 32,
                            "entity": "city",
                            "value": "Lyon",
                            "text": "Lyon",
                            "score": 0.96,
                            "role": "to",
                            "group": None,
                            "extractor": "percept",
                        }
                    ],
                    "truncated": False,
                },
                {"error": {"type": "invalid_input", "message": "the text is empty. Send some words."}},
            ],
        }
    )

    model: ModelInfo
    results: list[IntentOut | ItemError]


class EntitiesOut(BaseModel):
    """The entities of one text."""

    entities: list[EntityOut]
    truncated: bool = Field(description="Whether the network left out the middle of the text.")


class EntitiesResponse(BaseModel):
    """The answer of POST /v1/entities: one result per text, in the order they were sent."""

    model: ModelInfo | None = Field(description="Null if only built-in extractors read the texts.")
    results: list[EntitiesOut | ItemError]


class AnswerRequest(_Request):
    """A question, and the text to answer it from."""

    model_config = examples(
        {"question": "Who wrote it?", "context": "The first program was written by Ada Lovelace."},
        {"question": "How many images may one request hold?"},
    )

    question: str
    previous: str | None = Field(default=None, description=_PREVIOUS)
    context: str | None = Field(
        default=None, description="The text with the answer. Without one, the knowledge base is searched."
    )
    passages: Whole = Field(
        default=DEFAULT_PASSAGES,
        ge=1,
        le=MAX_PASSAGES,
        description="How many passages of the knowledge base to read at most.",
    )
    style: Style = Field(default="quote", description=_STYLE)


class SourceOut(BaseModel):
    """Where in the knowledge base an answer is."""

    document: str = Field(description="Its id, for GET /v1/knowledge/{document}.")
    title: str
    headings: list[str] = Field(description="Above the passage, the outermost first.")
    kind: Kind = Field(description="Prose, the answer to a question of the document's own, a table's row, or code.")
    lead: str = Field(description="That question, or the words that introduce the code or the table; else empty.")
    page: int | None = Field(description="Of a document with pages, counted from 1.")


class AnswerOut(BaseModel):
    """An answer, word for word as in the text."""

    text: str
    score: float = Field(description="Calibrated probability that it is the answer.")
    start: int
    end: int = Field(
        description="`context[start:end]` is the answer, counted in characters (code points). For an answer from the "
        "knowledge base, they count in the document's plain text."
    )
    source: SourceOut | None = Field(description="Null if the context came with the question.")


class PassageOut(BaseModel):
    """A passage of the knowledge base that was looked at for a question."""

    document: str
    title: str
    headings: list[str]
    kind: Kind
    lead: str
    page: int | None
    text: str
    start: int
    end: int = Field(description="Where it is in the document's plain text.")
    score: float = Field(description="How near it is to the question: for ordering only, not a probability.")


class AnswerResponse(BaseModel):
    """The answer of POST /v1/answer."""

    model_config = examples(
        {
            "model": {"name": "percept-qa", "version": "2026.11.24-1a2b3c4d"},
            "answer": {"text": "Ada Lovelace", "score": 0.98, "start": 33, "end": 45, "source": None},
            "sentence": None,
            "others": [],
            "passages": [],
        }
    )

    model: ModelInfo
    answer: AnswerOut | None = Field(description="Null if nothing is sure enough, which is a normal answer.")
    sentence: str | None = Field(description=_SENTENCE)
    others: list[AnswerOut] = Field(description="Further answers from the knowledge base that are sure enough.")
    passages: list[PassageOut] = Field(description="Those that were looked at, the nearest first.")


class UnderstandRequest(_Extracting):
    """What a person says to a chatbot."""

    model_config = examples({"text": "Combien d'images puis-je envoyer ?"})

    text: str = Field(description=_UTTERANCE)
    previous: str | None = Field(default=None, description=_PREVIOUS)
    top_k: Whole = Field(default=DEFAULT_TOP_K, ge=1, description="Most intents in the ranking.")
    passages: Whole = Field(default=DEFAULT_PASSAGES, ge=1, le=MAX_PASSAGES, description="As for /v1/answer.")
    style: Style = Field(default="quote", description=_STYLE)


class UnderstandModels(BaseModel):
    """Which models answered."""

    intent: ModelInfo | None
    qa: ModelInfo | None


class UnderstandResponse(BaseModel):
    """What a person wants and, if they ask or want nothing known, also what the knowledge base says."""

    models: UnderstandModels
    intent: IntentOut | None = Field(description="Null if the service has no intent model.")
    entities: list[EntityOut] = Field(
        default=[], description="What the text names: those of `intent`, or without an intent model of rules alone."
    )
    is_question: bool = Field(description="Whether it reads like a question.")
    answer: AnswerOut | None = Field(description="Null if nothing was looked up, or nothing was sure enough.")
    sentence: str | None = Field(description=_SENTENCE)
    others: list[AnswerOut] = Field(description="Further answers that are sure enough.")
    passages: list[PassageOut] = Field(description="Those that were looked at; none if nothing was looked up.")


def create_app(lifecycle: Lifecycle[LanguageEngine], settings: Settings, **options: Any) -> DirectApi:
    """Return the API as an ASGI app that loads its models when it starts; `options` are those of `make_app`."""
    return make_app(
        lifecycle,
        make_routers(lifecycle, settings),
        settings,
        title="Percept Language",
        description="Utterances to intents, questions to answers, with calibrated scores. "
        'Errors are `{"error": {…}}`, under /v2 `{"error": "…"}`.',
        **options,
    )


def make_routers(engine: Callable[[], LanguageEngine], settings: Settings) -> list[APIRouter]:
    """Return all routes of the service.

    Args:
        engine: returns the engine, at every request; may raise NotReady, or NotFound if there is none.
        settings: limits.
    """
    return [
        _make_router(engine),
        *compatible.make_routers(engine),
        openai.make_router(engine),
        knowledge_api.make_router(engine, settings),
    ]


def _make_router(engine: Callable[[], LanguageEngine]) -> APIRouter:
    router = APIRouter(tags=["language"])
    errors = error_responses(400, 404, 413, 415, 422, 429, 503, 504)

    @router.post("/v1/intent", summary="Understand", responses=errors, openapi_extra=json_body(IntentRequest))
    async def intent(request: Request) -> IntentResponse:
        """Send one utterance as `text`, or several as `texts`.

        If one of several cannot be answered, `{"error": {"type", "message"}}` takes its place in `results`, and the
        others are answered. A single one that cannot be answered gets its HTTP error.
        """
        current = engine()
        model = current.needed_intent()
        answered_by(request, model)
        asked = await read_json(request, IntentRequest)
        if asked.texts is not None:
            return await classify_texts(current, asked.texts, top_k=asked.top_k, asking=asked.asking)
        text = checked_text(asked.text, model.settings.max_text_chars)
        [extracted] = await current.extract([text], asked.asking)
        result = await model.classify(text, top_k=asked.top_k)
        return IntentResponse.model_validate(
            {"model": model, "results": [_with(result, extracted)]}, from_attributes=True
        )

    @router.post("/v1/entities", summary="Find entities", responses=errors, openapi_extra=json_body(EntitiesRequest))
    async def entities(request: Request) -> EntitiesResponse:
        """Send one text as `text`, or several as `texts`, to learn what they name, without their intents.

        Nothing of it is recorded. A text that cannot be read is told as for /v1/intent.
        """
        current = engine()
        model = current.needed_entities()
        if model is not None:
            answered_by(request, model)
        asked = await read_json(request, EntitiesRequest)
        if asked.texts is not None:
            return await find_entities(current, asked.texts, asking=asked.asking)
        text = checked_text(asked.text, current.settings.max_text_chars)
        return await find_entities(current, [text], asking=asked.asking, is_single=True)

    @router.post("/v1/answer", summary="Answer", responses=errors, openapi_extra=json_body(AnswerRequest))
    async def answer(request: Request) -> AnswerResponse:
        """Send a question with the context to answer it from, or alone to have the knowledge base searched.

        No answer is a normal answer: `null`, with status 200.
        """
        current = engine()
        answered_by(request, current.needed_qa())
        asked = await read_json(request, AnswerRequest)
        return await answer_question(
            current,
            asked.question,
            asked.context,
            previous=asked.previous,
            passages=asked.passages,
            style=asked.style,
        )

    @router.post(
        "/v1/understand",
        summary="Understand, and answer questions",
        responses=errors,
        openapi_extra=json_body(UnderstandRequest),
    )
    async def understand(request: Request) -> UnderstandResponse:
        """One call for a chatbot: the intent, and the answer if a question is asked or no known intent is meant."""
        current = engine()
        asked = await read_json(request, UnderstandRequest)
        return await understand_text(
            current,
            asked.text,
            previous=asked.previous,
            top_k=asked.top_k,
            passages=asked.passages,
            style=asked.style,
            asking=asked.asking,
        )

    return router


async def classify_texts(
    engine: LanguageEngine, texts: Sequence[Any], *, top_k: int = DEFAULT_TOP_K, asking: Asking = ALL
) -> IntentResponse:
    """Return the answer for several utterances, with an error in place of each that cannot be answered.

    Raises:
        NotFound: there is no intent model.
        InputError: what is asked of built-in extractors is wrong.
        TooLarge: too many.
        ServiceError: the service cannot answer now.
    """
    model = engine.needed_intent()
    errors = _errors(engine, texts)
    items = [place for place in range(len(texts)) if place not in errors]
    readable = [texts[place] for place in items]
    extracted = await engine.extract(readable, asking)
    results = await model.classify_many(readable, top_k=top_k, items=items)
    found: dict[int, Any] = {
        place: ItemError.of(each) if isinstance(each, InputError) else _with(each, read)
        for place, each, read in zip(items, results, extracted, strict=True)
    }
    shown = [ItemError.of(errors[place]) if place in errors else found[place] for place in range(len(texts))]
    return IntentResponse.model_validate({"model": model, "results": shown}, from_attributes=True)


async def find_entities(
    engine: LanguageEngine, texts: Sequence[Any], *, asking: Asking, is_single: bool = False
) -> EntitiesResponse:
    """Return the entities of texts, with an error in place of each that cannot be read.

    Args:
        engine: finds entities, with a network or with rules.
        texts: any number.
        asking: what is asked of the built-in extractors.
        is_single: whether the error of a text is raised instead.

    Raises:
        NotFound: nothing finds entities.
        InputError: what is asked of built-in extractors is wrong, or the single text cannot be read.
        TooLarge: too many.
        ServiceError: the service cannot answer now.
    """
    model = engine.needed_entities()
    errors = _errors(engine, texts)
    items = [place for place in range(len(texts)) if place not in errors]
    readable = [texts[place] for place in items]
    extracted = await engine.extract(readable, asking)
    named: Sequence[tuple[tuple[Entity, ...], bool] | InputError] = [((), False) for _ in readable]
    if model is not None:
        named = await model.entities(readable)
    found: dict[int, Any] = {}
    for place, of_model, of_rules in zip(items, named, extracted, strict=True):
        if isinstance(of_model, InputError):
            if is_single:
                raise of_model
            errors[place] = of_model
        else:
            found[place] = {"entities": _in_order(of_model[0], of_rules), "truncated": of_model[1]}
    shown = [ItemError.of(errors[place]) if place in errors else found[place] for place in range(len(texts))]
    return EntitiesResponse.model_validate({"model": model, "results": shown}, from_attributes=True)


def _errors(engine: LanguageEngine, texts: Sequence[Any]) -> dict[int, InputError]:
    """Return place -> error of each text that is none; raise TooLarge for too many."""
    limits = engine.settings
    if len(texts) > limits.max_texts:
        raise TooLarge(f"{len(texts)} texts came; the limit is {limits.max_texts}. Send fewer at once.")
    errors: dict[int, InputError] = {}
    for place, text in enumerate(texts):
        try:
            checked_text(text, limits.max_text_chars)
        except InputError as error:
            errors[place] = error
    return errors


def _with(result: IntentResult, extracted: Iterable[Extracted]) -> IntentResult | Mapping[str, Any]:
    """Return what an utterance wants, with what rules found in it."""
    extracted = tuple(extracted)
    return {**vars(result), "entities": _in_order(result.entities, extracted)} if extracted else result


def _in_order(*found: Iterable[Entity | Extracted]) -> list[Entity | Extracted]:
    return sorted((each for part in found for each in part), key=attrgetter("start", "end"))


async def answer_question(
    engine: LanguageEngine,
    question: str,
    context: str | None,
    *,
    previous: str | None = None,
    passages: int = DEFAULT_PASSAGES,
    style: Style = "quote",
) -> AnswerResponse:
    """Return the answer to a question, from a context or the knowledge base.

    Raises:
        NotFound: a sentence is asked for, and there is no writer.
        InputError: a text cannot be read, or the service has no model for it.
        ServiceError: the service cannot answer now.
    """
    qa = engine.needed_qa()
    if style == "sentence":
        engine.needed_writer()
    question = checked_text(question, qa.settings.max_text_chars, "the question")
    if previous is not None:
        previous = checked_text(previous, qa.settings.max_text_chars, "the previous question")
    if context is None:
        looked_up = await _looked_up(engine, await engine.ask(question, previous=previous, passages=passages), style)
    else:
        context = checked_text(context, qa.settings.max_context_chars, "the context")
        found = await qa.answer(question, context)
        answer = found[0] if found and qa.is_answer(found[0]) else None
        sentence = None
        if answer and style == "sentence":
            sentence = await engine.write(question, context, answer.start, answer.end)
        looked_up = {**_NOTHING, "answer": _answer(answer) if answer else None, "sentence": sentence}
    return AnswerResponse.model_validate({"model": qa, **looked_up}, from_attributes=True)


async def understand_text(
    engine: LanguageEngine,
    text: str,
    *,
    previous: str | None = None,
    top_k: int = DEFAULT_TOP_K,
    passages: int = DEFAULT_PASSAGES,
    style: Style = "quote",
    asking: Asking = ALL,
) -> UnderstandResponse:
    """Return what an utterance wants and, if it asks something, the answer; raises as `answer_question`."""
    if style == "sentence":
        engine.needed_writer()
    text = checked_text(text, engine.settings.max_text_chars)
    if previous is not None:
        previous = checked_text(previous, engine.settings.max_text_chars, "the previous text")
    [extracted] = await engine.extract([text], asking)
    found = await engine.understand(text, previous=previous, top_k=top_k, passages=passages)
    looked_up = await _looked_up(engine, found.asked, style) if found.asked else _NOTHING
    models = {"intent": engine.intent, "qa": engine.qa}
    understood = {
        "models": models,
        "intent": None if found.intent is None else _with(found.intent, extracted),
        "entities": _in_order(found.intent.entities if found.intent else (), extracted),
        "is_question": found.is_question,
        **looked_up,
    }
    return UnderstandResponse.model_validate(understood, from_attributes=True)


_NOTHING: Mapping[str, Any] = {"answer": None, "sentence": None, "others": [], "passages": []}


async def _looked_up(engine: LanguageEngine, asked: Asked, style: Style) -> Mapping[str, Any]:
    return {
        "answer": _answer(asked.answer) if asked.answer else None,
        "sentence": await engine.phrase(asked) if style == "sentence" else None,
        "others": [_answer(each) for each in asked.others],
        "passages": asked.passages,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {**vars(answer), "source": answer.passage if isinstance(answer, SourcedAnswer) else None}
