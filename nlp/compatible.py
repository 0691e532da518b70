"""Routes that other projects' clients call unchanged: Hugging Face's `InferenceClient` and Rasa.

Sources: huggingface.co/docs/inference-providers, tasks text-classification and question-answering; rasa.com, HTTP API,
"Parse a message using the Rasa model". Fields that are unknown here are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StrictBool

from nlp.engine import AnswerEngine, IntentEngine, LanguageEngine
from nlp.intent.predictor import LOGITS
from nlp.qa.predictor import Answer
from nlp.text import checked_text
from shared.bundle.calibration import probabilities_from_logits
from shared.errors import InputError, TooLarge
from shared.serving.http.answers import FunctionToApply, LabelScore, label_scores
from shared.serving.http.errors import error_responses
from shared.serving.http.middleware import answered_by
from shared.serving.http.requests import Count, examples, json_body, read_json

FALLBACK = "nlu_fallback"
"""Rasa Open Source 3.6, FallbackClassifier: puts it first in the ranking and leaves the others as they are."""
RANKING_LENGTH = 10
"""Rasa's own default, `ranking_length` of its DIETClassifier."""
_NO_EFFECT = "Sent by clients; has no effect here: the bundle decides it."
_ERRORS = error_responses(400, 404, 413, 415, 422, 429, 503, 504)


class ParseRequest(BaseModel):
    """What Rasa sends; other fields, such as its token, are ignored."""

    model_config = examples({"text": "Réserve-moi un vol", "message_id": "b2831e73-1407-4ba0-a861"})

    text: str
    message_id: str | None = Field(default=None, description="Returned with the answer.")


class IntentConfidence(BaseModel):
    """One intent of Rasa's answer."""

    name: str
    confidence: float


class ParseResponse(BaseModel):
    """Rasa's answer; there are never entities."""

    text: str
    intent: IntentConfidence = Field(description=f"`{FALLBACK}` if the message is out of scope.")
    entities: list[dict[str, Any]]
    intent_ranking: list[IntentConfidence] = Field(description="The best first.")
    message_id: str | None = None


class TextClassificationParameters(BaseModel):
    """Hugging Face's parameters of text classification."""

    top_k: Count | None = Field(default=None, description="Most labels; all of them if not given.")
    function_to_apply: FunctionToApply | None = Field(
        default=None,
        description="Applied to the raw logits. If not given, scores are calibrated probabilities.",
    )


class TextClassificationRequest(BaseModel):
    """Hugging Face's body of text classification."""

    model_config = examples({"inputs": "book me a flight", "parameters": {"top_k": 3}})

    inputs: str | list[str] = Field(description="One text or several.")
    parameters: TextClassificationParameters | None = None


class QuestionInputs(BaseModel):
    """A question with the context to answer it from."""

    question: str
    context: str


class QuestionAnsweringParameters(BaseModel):
    """Hugging Face's parameters of question answering."""

    top_k: Count | None = Field(default=None, description="More than 1: a list of that many answers.")
    max_answer_len: Count | None = Field(default=None, description="Most tokens of an answer.")
    handle_impossible_answer: StrictBool | None = Field(
        default=None, description="Whether to return an empty answer if the context has none that is sure enough."
    )
    align_to_words: Annotated[Any, Field(description=_NO_EFFECT)] = None
    doc_stride: Annotated[Any, Field(description=_NO_EFFECT)] = None
    max_question_len: Annotated[Any, Field(description=_NO_EFFECT)] = None
    max_seq_len: Annotated[Any, Field(description=_NO_EFFECT)] = None


class QuestionAnsweringRequest(BaseModel):
    """Hugging Face's body of question answering."""

    model_config = examples({"inputs": {"question": "Qui l'a écrit ?", "context": "Il fut écrit par Ada Lovelace."}})

    inputs: QuestionInputs
    parameters: QuestionAnsweringParameters | None = None


class AnswerElement(BaseModel):
    """One answer; `context[start:end]` is its text."""

    answer: str
    score: float
    start: int
    end: int


def make_routers(engine: Callable[[], LanguageEngine]) -> list[APIRouter]:
    """Return the routes; `engine` returns the engine, at every request."""
    return [_rasa(engine), _hugging_face(engine)]


def _rasa(engine: Callable[[], LanguageEngine]) -> APIRouter:
    router = APIRouter(tags=["Rasa"])

    @router.post(
        "/model/parse",
        summary="Parse a message as Rasa does",
        responses=_ERRORS,
        openapi_extra=json_body(ParseRequest),
        response_model_exclude_none=True,
    )
    async def parse(request: Request) -> ParseResponse:
        """For a Rasa assistant that takes its intents from here (`nlu:` in its endpoints.yml).

        The parameters `token` and `emulation_mode` of Rasa's own server have no effect.
        """
        model = engine().needed_intent()
        answered_by(request, model)
        asked = await read_json(request, ParseRequest)
        text = checked_text(asked.text, model.settings.max_text_chars)
        result = await model.classify(text, top_k=RANKING_LENGTH)
        ranking = [IntentConfidence(name=each.name, confidence=each.confidence) for each in result.ranking]
        if result.out_of_scope:
            ranking.insert(0, IntentConfidence(name=FALLBACK, confidence=result.out_of_scope_score))
        return ParseResponse(
            text=asked.text, intent=ranking[0], entities=[], intent_ranking=ranking, message_id=asked.message_id
        )

    return router


def _hugging_face(engine: Callable[[], LanguageEngine]) -> APIRouter:
    router = APIRouter(tags=["Hugging Face"])

    @router.post(
        "/hf/text-classification",
        summary="Classify texts as Hugging Face's inference API does",
        responses=_ERRORS,
        openapi_extra=json_body(TextClassificationRequest),
    )
    async def classify_text(request: Request) -> list[list[LabelScore]]:
        """For `huggingface_hub.InferenceClient(model=".../hf/text-classification").text_classification(…)`.

        This shape cannot say "none of these": use /v1/intent if that matters.
        """
        model = engine().needed_intent()
        answered_by(request, model)
        asked = await read_json(request, TextClassificationRequest)
        parameters = asked.parameters or TextClassificationParameters()
        temperature = model.predictor.decision.temperature
        answers = []
        for outputs in await model.run_texts(_checked_texts(model, asked.inputs)):
            if isinstance(outputs, InputError):
                raise outputs
            answers.append(
                label_scores(
                    model.labels,
                    outputs[LOGITS],
                    partial(probabilities_from_logits, outputs[LOGITS], temperature, "single_label_classification"),
                    function=parameters.function_to_apply,
                    top_k=parameters.top_k,
                )
            )
        return answers

    @router.post(
        "/hf/question-answering",
        summary="Answer a question as Hugging Face's inference API does",
        responses=_ERRORS,
        openapi_extra=json_body(QuestionAnsweringRequest),
    )
    async def answer(request: Request) -> AnswerElement | list[AnswerElement]:
        """For `huggingface_hub.InferenceClient(model=".../hf/question-answering").question_answering(…)`."""
        model = engine().needed_qa()
        answered_by(request, model)
        asked = await read_json(request, QuestionAnsweringRequest)
        question = checked_text(asked.inputs.question, model.settings.max_text_chars, "the question")
        context = checked_text(asked.inputs.context, model.settings.max_context_chars, "the context")
        parameters = asked.parameters or QuestionAnsweringParameters()
        count = parameters.top_k or 1
        if count > model.settings.max_top_k:
            raise InputError(f"parameters.top_k is {count}; the limit is {model.settings.max_top_k}. Ask for fewer.")
        found = await model.answer(question, context, top_k=count, max_answer_tokens=parameters.max_answer_len)
        elements = _elements(model, found, has_none=bool(parameters.handle_impossible_answer))
        return elements[0] if count == 1 else elements[:count]

    return router


def _checked_texts(model: IntentEngine, inputs: str | list[str]) -> list[str]:
    limits = model.settings
    if isinstance(inputs, str):
        return [checked_text(inputs, limits.max_text_chars, "inputs")]
    if len(inputs) > limits.max_texts:
        raise TooLarge(f"{len(inputs)} texts came; the limit is {limits.max_texts}. Send fewer at once.")
    return [checked_text(text, limits.max_text_chars, f"inputs.{place}") for place, text in enumerate(inputs)]


def _elements(model: AnswerEngine, answers: list[Answer], *, has_none: bool) -> list[AnswerElement]:
    """Return at least one; with `has_none`, the empty answer comes before those that are not sure enough."""
    elements = [AnswerElement(answer=each.text, score=each.score, start=each.start, end=each.end) for each in answers]
    if has_none or not answers:
        sure = sum(model.is_answer(each) for each in answers)
        best = answers[0].score if answers else 0.0
        elements.insert(sure, AnswerElement(answer="", score=1 - best, start=0, end=0))
    return elements
