"""Hugging Face's routes, so that `huggingface_hub.InferenceClient` works unchanged.

Source: huggingface.co/docs/inference-providers, tasks text-classification and question-answering. What clients send
beside the fields that are known here is read over. Neighbour: `api` puts these routes beside the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from nlp.engine import LanguageEngine
from nlp.intent.detectors import LOGITS
from nlp.intent_engine import IntentEngine, Outputs
from nlp.limits import checked_text
from nlp.qa.predictor import Answer
from shared.errors import InputError, TooLarge
from shared.serving.http.bodies import Count, json_body, read_json
from shared.serving.http.errors import error_responses
from shared.serving.http.middleware import answered_by

_NO_EFFECT = "Sent by clients; has no effect here, where the bundle decides it."


class TextClassificationParameters(BaseModel):
    """Hugging Face's parameters of text classification."""

    top_k: Count | None = Field(default=None, description="At most so many labels; all when it is not given.")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        default=None,
        description="Applied to the raw logits. When it is not given, scores are calibrated probabilities.",
    )


class TextClassificationRequest(BaseModel):
    """Hugging Face's body of text classification."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": "book me a flight", "parameters": {"top_k": 3}}]}
    )

    inputs: str | list[str] = Field(description="One text or several.")
    parameters: TextClassificationParameters | None = None


class LabelScore(BaseModel):
    """One label of a classification."""

    label: str
    score: float


class QuestionInputs(BaseModel):
    """A question with the context that holds its answer."""

    question: str
    context: str


class QuestionAnsweringParameters(BaseModel):
    """Hugging Face's parameters of question answering."""

    top_k: Count | None = Field(default=None, description="More than 1: a list of so many answers.")
    max_answer_len: Count | None = Field(default=None, description="Most tokens of an answer.")
    handle_impossible_answer: StrictBool | None = Field(
        default=None, description="Whether an empty answer stands where the context holds none that is sure enough."
    )
    align_to_words: Annotated[Any, Field(description=_NO_EFFECT)] = None
    doc_stride: Annotated[Any, Field(description=_NO_EFFECT)] = None
    max_question_len: Annotated[Any, Field(description=_NO_EFFECT)] = None
    max_seq_len: Annotated[Any, Field(description=_NO_EFFECT)] = None


class QuestionAnsweringRequest(BaseModel):
    """Hugging Face's body of question answering."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": {"question": "Qui l'a écrit ?", "context": "Il fut écrit par Ada Lovelace."}}]
        }
    )

    inputs: QuestionInputs
    parameters: QuestionAnsweringParameters | None = None


class AnswerElement(BaseModel):
    """One answer; `context[start:end]` is its text."""

    answer: str
    score: float
    start: int
    end: int


def make_router(engine: Callable[[], LanguageEngine]) -> APIRouter:
    """Return the routes.

    Args:
        engine: gives the engine at every request.
    """
    router = APIRouter(tags=["Hugging Face"])
    errors = error_responses(400, 404, 413, 415, 422, 429, 503, 504)

    @router.post(
        "/hf/text-classification",
        summary="Classify texts as Hugging Face's inference API does",
        responses=errors,
        openapi_extra=json_body(TextClassificationRequest),
    )
    async def classify_text(request: Request) -> list[list[LabelScore]]:
        """For `huggingface_hub.InferenceClient(model=".../hf/text-classification").text_classification(…)`.

        The shape has no place for "none of these": ask /v1/intent where that counts.
        """
        model = engine().needed_intent()
        answered_by(request, model)
        asked = await read_json(request, TextClassificationRequest)
        texts = _checked_texts(model, asked.inputs)
        parameters = asked.parameters or TextClassificationParameters()
        found = await model.run_texts(texts)
        return [_labels(model, each, parameters) for each in found]

    @router.post(
        "/hf/question-answering",
        summary="Answer a question as Hugging Face's inference API does",
        responses=errors,
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
        elements = _elements(found, has_none=bool(parameters.handle_impossible_answer), is_answer=model.is_answer)
        return elements[0] if count == 1 else elements[:count]

    return router


def _checked_texts(model: IntentEngine, inputs: str | list[str]) -> list[str]:
    texts = [inputs] if isinstance(inputs, str) else inputs
    limits = model.settings
    if len(texts) > limits.max_texts:
        raise TooLarge(f"{len(texts)} texts came; the limit is {limits.max_texts}. Send fewer at once.")
    names = ["inputs"] if isinstance(inputs, str) else [f"inputs.{place}" for place in range(len(texts))]
    return [checked_text(text, limits.max_text_chars, name) for text, name in zip(texts, names, strict=True)]


def _labels(
    model: IntentEngine, outputs: Outputs | InputError, parameters: TextClassificationParameters
) -> list[LabelScore]:
    if isinstance(outputs, InputError):
        raise outputs
    scores = _apply(parameters.function_to_apply, outputs, model)
    best = np.argsort(-scores, kind="stable")[: parameters.top_k]
    return [LabelScore(label=model.labels[place], score=float(scores[place])) for place in best]


def _apply(function: str | None, outputs: Outputs, model: IntentEngine) -> Any:
    """Return scores, float64 [C], as `function_to_apply` asks; calibrated where it asks for nothing."""
    raw = outputs[LOGITS].astype(np.float64)
    if function == "softmax":
        exponentials = np.exp(raw - raw.max())
        return exponentials / exponentials.sum()
    if function == "sigmoid":
        return 1 / (1 + np.exp(-raw))
    return raw if function == "none" else model.predictor.probabilities(outputs)


def _elements(answers: list[Answer], *, has_none: bool, is_answer: Callable[[Answer], bool]) -> list[AnswerElement]:
    """Return at least one; with `has_none`, the empty answer stands before those that are not sure enough."""
    elements = [AnswerElement(answer=each.text, score=each.score, start=each.start, end=each.end) for each in answers]
    if has_none or not answers:
        sure = sum(is_answer(each) for each in answers)
        best = answers[0].score if answers else 0.0
        elements.insert(sure, AnswerElement(answer="", score=1 - best, start=0, end=0))
    return elements
