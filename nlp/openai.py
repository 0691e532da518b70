"""OpenAI's API over the knowledge base, under /openai/v1: chat completions, models and embeddings.

For chat front ends and the clients `openai` in Python and JavaScript, whose base address is all that changes. A chat is
a question to the documents: the last message of the user, completed by the one before. The answer is quoted, with its
sources as footnotes and in the field `citations`; where the service has a writer, a sentence follows the quote, once
each of its words was checked. What the documents do not say gets a sentence that says so. Settings of sampling have no
effect, because nothing is sampled.

Source: platform.openai.com/docs/api-reference, chat, models, embeddings.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from nlp.answering import SourcedAnswer
from nlp.engine import AnswerEngine, Asked, LanguageEngine
from nlp.text import checked_text
from shared.errors import DeadlineExceeded, InputError, NotFound, Overloaded, TooLarge
from shared.serving.http.errors import error_responses
from shared.serving.http.middleware import answered_by
from shared.serving.http.requests import Count, examples, json_body, read_json

PREFIX = "/openai/v1"
SILENT = "I found nothing in the documents that answers this."
MAX_MESSAGES = 1_000
"""Of a conversation; only the last two of the user are read."""
_IGNORED = ConfigDict(extra="ignore", strict=True)
_ERRORS = error_responses(400, 404, 413, 415, 422, 429, 503, 504)


class TextPart(BaseModel):
    """A piece of a message's content."""

    model_config = _IGNORED
    type: str
    text: StrictStr | None = None


class ChatMessage(BaseModel):
    """One message of the conversation."""

    model_config = _IGNORED
    role: StrictStr
    content: StrictStr | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """Its text; pieces on lines of their own.

        Raises:
            InputError: a piece is no text.
        """
        if isinstance(self.content, str) or self.content is None:
            return self.content or ""
        kinds = [part.type for part in self.content if part.type != "text"]
        if kinds:
            raise InputError(f"a message has a part of type {kinds[0][:40]!r}; only text is read here.")
        return "\n".join(part.text or "" for part in self.content)


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = _IGNORED
    include_usage: StrictBool = False


class ResponseFormat(BaseModel):
    """Of the answer: text, and nothing else."""

    model_config = _IGNORED
    type: StrictStr


class ChatRequest(BaseModel):
    """OpenAI's body of a chat completion; what it says of sampling is ignored."""

    model_config = examples(
        {"model": "percept-qa", "messages": [{"role": "user", "content": "What does training need?"}]}, **_IGNORED
    )

    model: StrictStr
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None
    tools: list[Any] | None = None
    response_format: ResponseFormat | None = None


class Citation(BaseModel):
    """Where an answer is from; `document[start:end]` is its text, in the document's plain text."""

    index: int = Field(description="Its number among the footnotes, from 1.")
    document: str
    title: str
    headings: list[str]
    page: int | None
    text: str
    start: int
    end: int
    score: float


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    citations: list[Citation] = Field(description="Percept's own. Empty if the documents do not answer.")


class Choice(BaseModel):
    """The one answer there is."""

    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop"] = "stop"


class Usage(BaseModel):
    """Tokens of question and answer, as the reader counts them."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class ChatCompletion(BaseModel):
    """OpenAI's chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class ModelCard(BaseModel):
    """A model that may be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["percept"] = "percept"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class EmbeddingRequest(BaseModel):
    """OpenAI's body of embeddings."""

    model_config = examples({"model": "percept-encoder", "input": ["a lamp", "a light"]}, **_IGNORED)

    model: StrictStr
    input: StrictStr | list[StrictStr] = Field(description="One text or several; not tokens.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None


class EmbeddingItem(BaseModel):
    """One text's embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or float32 in base64.")


class EmbeddingList(BaseModel):
    """OpenAI's answer."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class EmbedRequest(BaseModel):
    """Texts to embed."""

    model_config = examples({"texts": ["a lamp", "a light"]}, extra="forbid", strict=True)

    texts: list[StrictStr] = Field(min_length=1)


class EmbedResponse(BaseModel):
    """Their embeddings."""

    model: str
    embeddings: list[list[float]] = Field(description="One for each text, of length 1: their products are cosines.")


def make_router(engine: Callable[[], LanguageEngine]) -> APIRouter:
    """Return the routes; `engine` returns the engine, at every request."""
    router = APIRouter(tags=["OpenAI"])

    @router.post(
        PREFIX + "/chat/completions",
        summary="Answer a chat from the documents",
        responses=_ERRORS,
        openapi_extra=json_body(ChatRequest),
        response_model=ChatCompletion,
    )
    async def chat(request: Request) -> Any:
        """For `openai.OpenAI(base_url=".../openai/v1")`, streamed or not.

        Quotes the documents, with footnotes; `citations` beside the content has the places.
        """
        current = engine()
        qa = current.needed_qa()
        answered_by(request, qa)
        asked = await read_json(request, ChatRequest)
        _check_chat(asked, qa.name)
        question, previous = _question(asked.messages, qa.settings.max_text_chars)
        found = await current.ask(question, previous=previous)
        citations = [_citation(place, answer) for place, answer in enumerate(_answers(found), 1)]
        completion = ChatCompletion(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=qa.name,
            choices=[Choice(message=AnswerMessage(content="", citations=citations))],
            usage=_usage(qa, question, ""),
        )
        parts = _parts(current, found, citations)
        if not asked.stream:
            content = "".join([part async for part in parts])
            completion.choices[0].message.content = content
            completion.usage = _usage(qa, question, content)
            return completion
        count = partial(_usage, qa, question)
        with_usage = asked.stream_options is not None and asked.stream_options.include_usage
        events = _events(completion, parts, count if with_usage else None)
        return StreamingResponse(events, media_type="text/event-stream")

    @router.get(PREFIX + "/models", summary="List models as OpenAI does", responses=error_responses(401, 404, 503))
    async def models() -> ModelList:
        """The reader for chats, and the sentence encoder for embeddings."""
        return ModelList(data=[ModelCard(id=name) for name in _names(engine())])

    @router.get(
        PREFIX + "/models/{model}",
        summary="One model as OpenAI shows it",
        responses=error_responses(401, 404, 422, 503),
    )
    async def model(model: str) -> ModelCard:
        """404 if there is none of that name."""
        if model not in _names(engine()):
            raise _unknown(model, _names(engine()))
        return ModelCard(id=model)

    @router.post(
        PREFIX + "/embeddings",
        summary="Embed texts as OpenAI does",
        responses=_ERRORS,
        openapi_extra=json_body(EmbeddingRequest),
    )
    async def embeddings(request: Request) -> EmbeddingList:
        """Of the sentence encoder, of length 1; a text beyond what it reads is cut."""
        current = engine()
        encoder = current.needed_encoder()
        asked = await read_json(request, EmbeddingRequest)
        if asked.model != encoder.bundle.name:
            raise _unknown(asked.model, [encoder.bundle.name])
        if asked.dimensions not in (None, encoder.size):
            raise InputError(f"dimensions is {asked.dimensions}; {encoder.bundle.name} gives {encoder.size}, no fewer.")
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        rows = await _embedded(current, texts, "input")
        count = sum(len(each) for each in encoder.encoder.encode_batch(texts))
        return EmbeddingList(
            data=[
                EmbeddingItem(index=place, embedding=_formatted(row, asked.encoding_format))
                for place, row in enumerate(rows)
            ],
            model=encoder.bundle.name,
            usage=Usage(prompt_tokens=count, total_tokens=count),
        )

    @router.post("/v1/embed", summary="Embed texts", responses=_ERRORS, openapi_extra=json_body(EmbedRequest))
    async def embed(request: Request) -> EmbedResponse:
        """What texts mean, as numbers: the nearer, the more alike."""
        current = engine()
        encoder = current.needed_encoder()
        asked = await read_json(request, EmbedRequest)
        rows = await _embedded(current, asked.texts, "texts")
        return EmbedResponse(model=encoder.bundle.name, embeddings=rows.tolist())

    return router


def _check_chat(asked: ChatRequest, name: str) -> None:
    """Refuse what a reader of documents cannot do."""
    if asked.model != name:
        raise _unknown(asked.model, [name])
    if (asked.n or 1) > 1:
        raise InputError(f"n is {asked.n}; a question has one answer here. Leave it out.")
    if asked.tools:
        raise InputError("tools cannot be called here. Leave them out.")
    if asked.response_format is not None and asked.response_format.type != "text":
        raise InputError(f"response_format is {asked.response_format.type[:40]!r}; answers are text.")


def _question(messages: Sequence[ChatMessage], max_chars: int) -> tuple[str, str | None]:
    """Return the last message of the user, and the one before."""
    said = [message.text for message in messages[-1:] if message.role == "user"]
    if not said:
        raise InputError(f"the last message is of the role {messages[-1].role[:40]!r}; expected one of the user.")
    question = checked_text(said[0], max_chars, "the last message")
    earlier = [message.text for message in messages[:-1] if message.role == "user"]
    previous = earlier[-1] if earlier and earlier[-1].strip() and len(earlier[-1]) <= max_chars else None
    return question, previous


def _answers(found: Asked) -> list[SourcedAnswer]:
    return [found.answer, *found.others] if found.answer else []


async def _parts(engine: LanguageEngine, found: Asked, citations: Sequence[Citation]) -> AsyncIterator[str]:
    """Yield the answers with footnotes, one paragraph after the other: quotes first, then the sentence once it is made.

    A writer that is too busy, or too slow, leaves the quotes as they are: they are the answer.
    """
    if not citations:
        yield SILENT
        return
    first, *others = (f"{each.text} [{each.index}]" for each in citations)
    yield first + "\n\n"
    for line in others:
        yield f"Also: {line}\n\n"
    if engine.writer is not None:
        try:
            sentence = await engine.phrase(found)
        except (Overloaded, DeadlineExceeded):
            sentence = None
        if sentence:
            yield sentence + "\n\n"
    yield "\n".join(f"[{each.index}] {' › '.join((each.title, *each.headings))}" for each in citations)


def _usage(qa: AnswerEngine, question: str, content: str) -> Usage:
    asked, answered = len(qa.encoder.encode(question)), len(qa.encoder.encode(content))
    return Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)


def _citation(index: int, answer: SourcedAnswer) -> Citation:
    passage = answer.passage
    asked = [passage.lead] if passage.kind == "answer" else []
    return Citation(
        index=index,
        document=passage.document,
        title=passage.title,
        headings=[*passage.headings, *asked],
        page=passage.page,
        text=answer.text,
        start=answer.start,
        end=answer.end,
        score=answer.score,
    )


async def _events(
    completion: ChatCompletion, parts: AsyncIterator[str], count: Callable[[str], Usage] | None
) -> AsyncIterator[bytes]:
    """Yield the completion as server-sent events: its role, its parts as they come, its end, and what `count` says."""
    [choice] = completion.choices
    with_usage = count is not None
    content = ""
    common: dict[str, Any] = {"id": completion.id, "object": "chat.completion.chunk"}
    common |= {"created": completion.created, "model": completion.model}

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        part = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**common, "choices": [part], **({"usage": None} if with_usage else {})})

    yield event({"role": "assistant", "content": ""})
    async for part in parts:
        content += part
        yield event({"content": part})
    yield event({"citations": [each.model_dump() for each in choice.message.citations]}, "stop")
    if count is not None:
        yield _event({**common, "choices": [], "usage": count(content).model_dump()})
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


async def _embedded(engine: LanguageEngine, texts: Sequence[str], field: str) -> np.ndarray:
    limits = engine.settings
    if len(texts) > limits.max_texts:
        raise TooLarge(f"{len(texts)} texts came; the limit is {limits.max_texts}. Send fewer at once.")
    if not texts:
        raise InputError(f"{field} is empty. Send at least one text.")
    for place, text in enumerate(texts):
        checked_text(text, limits.max_text_chars, f"{field}.{place}")
    characters = sum(map(len, texts))
    if characters > limits.max_context_chars:
        raise TooLarge(f"the texts have {characters} characters; the limit is {limits.max_context_chars} in all.")
    return await engine.embed(texts)


def _formatted(row: np.ndarray, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return [float(value) for value in row]


def _names(engine: LanguageEngine) -> list[str]:
    encoder = engine.encoder
    return [*([engine.qa.name] if engine.qa else []), *([encoder.bundle.name] if encoder else [])]


def _unknown(name: str, known: Sequence[str]) -> NotFound:
    return NotFound(f"there is no model {name[:80]!r} here; there is {', '.join(known) or 'none'}.")
