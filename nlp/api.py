"""The language API: Percept's own routes with their bodies, and with them all other routes of the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from nlp import compatible, knowledge_api, openai
from nlp.answering import SourcedAnswer
from nlp.engine import DEFAULT_PASSAGES, MAX_PASSAGES, Asked, IntentEngine, LanguageEngine
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
from shared.serving.settings import Settings

DEFAULT_TOP_K = 5
_UTTERANCE = "Say what a person says, in their words."
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


class IntentRequest(_Request):
    """One utterance or several."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "réserve-moi un vol pour Lyon"}, {"texts": ["play a song", "hello"]}],
            "oneOf": [  # what `_has_one_of_them` checks
                {"required": ["text"], "properties": {"text": {"type": "string"}}},
                {"required": ["texts"], "properties": {"texts": {"type": "array"}}},
            ],
        }
    )

    text: str | None = Field(default=None, description=_UTTERANCE)
    texts: list[Text] | None = Field(default=None, min_length=1, description="Several utterances, instead of `text`.")
    top_k: Whole = Field(default=DEFAULT_TOP_K, ge=1, description="Most intents in the ranking.")

    @model_validator(mode="after")
    def _has_one_of_them(self) -> IntentRequest:
        if (self.text is None) == (self.texts is None):
            raise ValueError("send either `text` or `texts`")
        return self


class IntentScoreOut(BaseModel):
    """One intent with its calibrated probability, given that the utterance belongs to one."""

    name: str
    confidence: float


class IntentOut(BaseModel):
    """What one utterance wants."""

    intent: str | None = Field(description="Null if the utterance belongs to no known intent.")
    confidence: float = Field(description="Calibrated probability of the best intent, even if it is not given.")
    out_of_scope: bool
    out_of_scope_score: float = Field(description="0 to 1, higher if the utterance belongs to no intent.")
    ranking: list[IntentScoreOut] = Field(description="The most probable first.")
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
                    "confidence": 0.97,
                    "out_of_scope": False,
                    "out_of_scope_score": 0.02,
                    "ranking": [{"name": "book_flight", "confidence": 0.97}],
                },
                {"error": {"type": "invalid_input", "message": "the text is empty. Send some words."}},
            ],
        }
    )

    model: ModelInfo
    results: list[IntentOut | ItemError]


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


class UnderstandRequest(_Request):
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
        model = engine().needed_intent()
        answered_by(request, model)
        asked = await read_json(request, IntentRequest)
        if asked.texts is not None:
            return await classify_texts(model, asked.texts, top_k=asked.top_k)
        text = checked_text(asked.text, model.settings.max_text_chars)
        result = await model.classify(text, top_k=asked.top_k)
        return IntentResponse.model_validate({"model": model, "results": [result]}, from_attributes=True)

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
        )

    return router


async def classify_texts(engine: IntentEngine, texts: Sequence[Any], *, top_k: int = DEFAULT_TOP_K) -> IntentResponse:
    """Return the answer for several utterances, with an error in place of each that cannot be answered.

    Raises:
        TooLarge: too many.
        ServiceError: the service cannot answer now.
    """
    limits = engine.settings
    if len(texts) > limits.max_texts:
        raise TooLarge(f"{len(texts)} texts came; the limit is {limits.max_texts}. Send fewer at once.")
    errors: dict[int, InputError] = {}
    for place, text in enumerate(texts):
        try:
            checked_text(text, limits.max_text_chars)
        except InputError as error:
            errors[place] = error
    items = [place for place in range(len(texts)) if place not in errors]
    found = iter(await engine.classify_many([texts[place] for place in items], top_k=top_k, items=items))
    results = [errors[place] if place in errors else next(found) for place in range(len(texts))]
    shown = [ItemError.of(each) if isinstance(each, InputError) else each for each in results]
    return IntentResponse.model_validate({"model": engine, "results": shown}, from_attributes=True)


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
) -> UnderstandResponse:
    """Return what an utterance wants and, if it asks something, the answer; raises as `answer_question`."""
    if style == "sentence":
        engine.needed_writer()
    text = checked_text(text, engine.settings.max_text_chars)
    if previous is not None:
        previous = checked_text(previous, engine.settings.max_text_chars, "the previous text")
    found = await engine.understand(text, previous=previous, top_k=top_k, passages=passages)
    looked_up = await _looked_up(engine, found.asked, style) if found.asked else _NOTHING
    models = {"intent": engine.intent, "qa": engine.qa}
    return UnderstandResponse.model_validate(
        {"models": models, "intent": found.intent, "is_question": found.is_question, **looked_up}, from_attributes=True
    )


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
