"""The language API: Percept's own routes, and all others of the service put beside them.

Neighbours: `service` mounts the app, `engine` answers, `schemas` has the bodies; `rasa`, `hugging_face` and
`knowledge_api` have the routes of those names; `shared.serving.app` adds errors, health and Open Inference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request

from nlp import hugging_face, knowledge_api, rasa
from nlp.answer_engine import AnswerEngine
from nlp.engine import Asked, LanguageEngine, SourcedAnswer
from nlp.intent.predictor import IntentResult
from nlp.intent_engine import IntentEngine
from nlp.limits import checked_text
from nlp.schemas import (
    DEFAULT_PASSAGES,
    DEFAULT_TOP_K,
    AnswerOut,
    AnswerRequest,
    AnswerResponse,
    IntentOut,
    IntentRequest,
    IntentResponse,
    IntentScoreOut,
    ItemError,
    ItemErrorDetail,
    ModelInfo,
    PassageOut,
    SourceOut,
    UnderstandModels,
    UnderstandRequest,
    UnderstandResponse,
)
from shared.errors import InputError, TooLarge
from shared.serving.app import DirectApi, make_app
from shared.serving.http.bodies import json_body, read_json
from shared.serving.http.errors import classify, error_responses
from shared.serving.http.middleware import answered_by
from shared.serving.lifecycle.engine import Alongside, Lifecycle
from shared.serving.settings import Settings


def create_app(
    lifecycle: Lifecycle[LanguageEngine],
    settings: Settings,
    *,
    home: str = "/docs",
    alongside: Alongside[LanguageEngine] | None = None,
) -> DirectApi:
    """Return the API as an ASGI app that loads its models when it starts.

    Args:
        lifecycle: holds the engine.
        settings: limits.
        home: where `/` leads.
        alongside: as in `Lifecycle.run`.
    """
    return make_app(
        lifecycle,
        make_routers(lifecycle, settings),
        settings,
        title="Percept Language",
        description="Utterances to intents, questions to answers, with calibrated scores. "
        'Errors are `{"error": {…}}`, under /v2 `{"error": "…"}`.',
        home=home,
        alongside=alongside,
    )


def make_routers(engine: Callable[[], LanguageEngine], settings: Settings) -> list[APIRouter]:
    """Return all routes of the service.

    Args:
        engine: gives the engine at every request; may raise NotReady, or NotFound where there is none.
        settings: limits.
    """
    return [
        _make_router(engine),
        rasa.make_router(engine),
        hugging_face.make_router(engine),
        knowledge_api.make_router(engine, settings),
    ]


def _make_router(engine: Callable[[], LanguageEngine]) -> APIRouter:
    router = APIRouter(tags=["language"])
    errors = error_responses(400, 404, 413, 415, 422, 429, 503, 504)

    @router.post("/v1/intent", summary="Understand", responses=errors, openapi_extra=json_body(IntentRequest))
    async def intent(request: Request) -> IntentResponse:
        """Send one utterance as `text`, or several as `texts`.

        Of several, one that cannot be answered has `{"error": {"type", "message"}}` in its place in `results` and
        disturbs no other. A single one is answered with its HTTP error.
        """
        model = engine().needed_intent()
        answered_by(request, model)
        asked = await read_json(request, IntentRequest)
        if asked.texts is not None:
            return await classify_texts(model, asked.texts, top_k=asked.top_k)
        return await classify_text(model, asked.text, top_k=asked.top_k)

    @router.post("/v1/answer", summary="Answer", responses=errors, openapi_extra=json_body(AnswerRequest))
    async def answer(request: Request) -> AnswerResponse:
        """Send a question with the context that holds its answer, or alone to have the knowledge base searched.

        No answer is a normal answer: `null`, with status 200.
        """
        current = engine()
        answered_by(request, current.needed_qa())
        asked = await read_json(request, AnswerRequest)
        return await answer_question(current, asked.question, asked.context, passages=asked.passages)

    @router.post(
        "/v1/understand",
        summary="Understand, and answer what is asked",
        responses=errors,
        openapi_extra=json_body(UnderstandRequest),
    )
    async def understand(request: Request) -> UnderstandResponse:
        """One call for a chatbot: the intent, and the answer where a question is asked or no intent is meant."""
        current = engine()
        asked = await read_json(request, UnderstandRequest)
        return await understand_text(current, asked.text, top_k=asked.top_k, passages=asked.passages)

    return router


async def classify_text(engine: IntentEngine, text: Any, *, top_k: int = DEFAULT_TOP_K) -> IntentResponse:
    """Return the answer for one utterance.

    Raises:
        InputError: it cannot be answered.
        ServiceError: the service cannot answer now.
    """
    checked = checked_text(text, engine.settings.max_text_chars)
    result = await engine.classify(checked, top_k=top_k)
    return IntentResponse(model=_info(engine), results=[_intent(result)])


async def classify_texts(engine: IntentEngine, texts: Sequence[Any], *, top_k: int = DEFAULT_TOP_K) -> IntentResponse:
    """Return the answer for several utterances; what is wrong with one stands in its place.

    Raises:
        TooLarge: too many.
        ServiceError: the service cannot answer now.
    """
    limits = engine.settings
    if len(texts) > limits.max_texts:
        raise TooLarge(f"{len(texts)} texts came; the limit is {limits.max_texts}. Send fewer at once.")
    results: list[IntentOut | ItemError | None] = [None] * len(texts)
    readable: list[int] = []
    for place, text in enumerate(texts):
        try:
            checked_text(text, limits.max_text_chars)
            readable.append(place)
        except InputError as error:
            results[place] = _item_error(error)
    found = await engine.classify_many([texts[place] for place in readable], top_k=top_k)
    for place, result in zip(readable, found, strict=True):
        results[place] = _item_error(result) if isinstance(result, InputError) else _intent(result)
    return IntentResponse(model=_info(engine), results=[result for result in results if result is not None])


async def answer_question(
    engine: LanguageEngine, question: str, context: str | None, *, passages: int = DEFAULT_PASSAGES
) -> AnswerResponse:
    """Return the answer to a question, out of a context or the knowledge base.

    Raises:
        InputError: a text cannot be read, or the service has no model for it.
        ServiceError: the service cannot answer now.
    """
    qa = engine.needed_qa()
    question = checked_text(question, qa.settings.max_text_chars, "the question")
    if context is None:
        asked = await engine.ask(question, passages=passages)
        return AnswerResponse(model=_info(qa), answer=_sourced(asked.answer), passages=_passages(asked))
    context = checked_text(context, qa.settings.max_context_chars, "the context")
    best = next(iter(await engine.answer(question, context)), None)
    found = None
    if best is not None and engine.is_answer(best):
        found = AnswerOut(text=best.text, score=best.score, start=best.start, end=best.end, source=None)
    return AnswerResponse(model=_info(qa), answer=found, passages=[])


async def understand_text(
    engine: LanguageEngine, text: str, *, top_k: int = DEFAULT_TOP_K, passages: int = DEFAULT_PASSAGES
) -> UnderstandResponse:
    """Return what an utterance wants and, where it asks something, the answer; raises as `answer_question`."""
    text = checked_text(text, engine.settings.max_text_chars)
    found = await engine.understand(text, top_k=top_k, passages=passages)
    return UnderstandResponse(
        models=UnderstandModels(
            intent=_info(engine.intent) if engine.intent else None, qa=_info(engine.qa) if engine.qa else None
        ),
        intent=_intent(found.intent) if found.intent else None,
        is_question=found.is_question,
        answer=_sourced(found.asked.answer) if found.asked else None,
        passages=_passages(found.asked) if found.asked else [],
    )


def _info(model: IntentEngine | AnswerEngine) -> ModelInfo:
    return ModelInfo(name=model.name, version=model.version)


def _intent(result: IntentResult) -> IntentOut:
    return IntentOut(
        intent=result.intent,
        confidence=result.confidence,
        out_of_scope=result.out_of_scope,
        out_of_scope_score=result.out_of_scope_score,
        ranking=[IntentScoreOut(name=each.name, confidence=each.confidence) for each in result.ranking],
    )


def _item_error(error: InputError) -> ItemError:
    _, kind, message, _ = classify(error)
    return ItemError(error=ItemErrorDetail(type=kind, message=message))


def _sourced(answer: SourcedAnswer | None) -> AnswerOut | None:
    if answer is None:
        return None
    passage = answer.passage
    source = SourceOut(document=passage.document, title=passage.title, headings=list(passage.headings))
    return AnswerOut(text=answer.text, score=answer.score, start=answer.start, end=answer.end, source=source)


def _passages(asked: Asked) -> list[PassageOut]:
    return [
        PassageOut(
            document=passage.document,
            title=passage.title,
            headings=list(passage.headings),
            text=passage.text,
            start=passage.start,
            end=passage.end,
            score=passage.score,
        )
        for passage in asked.passages
    ]
