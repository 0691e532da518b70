"""Routes that other projects' clients call unchanged: Hugging Face's `InferenceClient` and Rasa.

Sources: huggingface.co/docs/inference-providers, tasks text-classification, token-classification and
question-answering; rasa.com, HTTP API, "Parse a message using the Rasa model". Unknown fields are ignored, unknown
`parameters` refused.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from nlp.engine import AnswerEngine, IntentEngine, LanguageEngine, Outputs
from nlp.extracting import Asking, Extracted
from nlp.intent import entities as named
from nlp.intent.predictor import LOGITS, IntentScore
from nlp.qa.predictor import Answer
from nlp.text import Encoding, checked_text
from shared.bundle.calibration import probabilities_from_logits
from shared.errors import InputError, TooLarge
from shared.serving.http.answers import FunctionToApply, LabelScore, label_scores
from shared.serving.http.errors import error_responses
from shared.serving.http.middleware import add_header, answered_by
from shared.serving.http.requests import Count, examples, json_body, read_json
from shared.serving.recording.notes import noting

FALLBACK = "nlu_fallback"
"""Rasa Open Source 3.6, FallbackClassifier: puts it first in the ranking and leaves the others as they are."""
RANKING_LENGTH = 10
"""Rasa's own default, `ranking_length` of its DIETClassifier."""
RASA_VERSION = "3.6.0"
"""Whose routes these are."""
_PAYLOAD = re.compile(r"/(?P<intent>[^{@\s/][^{@\s]*)(?:@[0-9.]+)?(?P<entities>\{.*\})?", re.DOTALL)
"""What a button sends. Source: Rasa Open Source 3.6, YAMLStoryReader.unpack_regex_message."""
TRUNCATED = "X-Truncated-Inputs"
"""Header that names the texts, counted from 0, of which the middle was left out: "0, 2"."""
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


class Entity(BaseModel):
    """A value that a message names, or that came with a button's payload."""

    entity: str
    value: Any
    start: int
    end: int
    confidence_entity: float | None = Field(default=None, description="Of what the network found.")
    role: str | None = None
    group: str | None = None
    extractor: str | None = Field(
        default=None, description="“percept”, the network, or “built-in”; none for a button's payload."
    )


class SelectedResponse(BaseModel):
    """The response key of a retrieval intent."""

    intent_response_key: str
    confidence: float = Field(description="Probability, given the intent.")


class SelectorResult(BaseModel):
    """The best response key, and all of the intent."""

    response: SelectedResponse
    ranking: list[SelectedResponse] = Field(description="The best first.")


class ParseResponse(BaseModel):
    """Rasa's answer."""

    text: str
    intent: IntentConfidence = Field(description=f"`{FALLBACK}` if the message is out of scope.")
    entities: list[Entity] = Field(
        description='In the text\'s order; of a payload such as `/book_flight{"to": "Rome"}` those that it has.'
    )
    intent_ranking: list[IntentConfidence] = Field(description="The best first.")
    response_selector: dict[str, SelectorResult] | None = Field(
        default=None, description="`default` has the full name of a retrieval intent such as `faq/opening_hours`."
    )
    text_tokens: list[tuple[int, int]] = Field(description="Where the words and signs of the text begin and end.")
    truncated: bool | None = Field(default=None, description="True if the middle of a long text was left out.")
    message_id: str | None = None


class Version(BaseModel):
    """The version of Rasa whose routes these are."""

    version: str
    minimum_compatible_version: str


class Status(BaseModel):
    """The model as Rasa's status shows it."""

    model_file: str
    model_id: str
    num_active_training_jobs: int


class TextClassificationParameters(BaseModel):
    """Hugging Face's parameters of text classification; those of other tasks, such as zero-shot, are refused."""

    model_config = ConfigDict(extra="forbid")

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


class TokenClassificationParameters(BaseModel):
    """Hugging Face's parameters of token classification; others are refused."""

    model_config = ConfigDict(extra="forbid")

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        default=None,
        description="`none` gives the words one by one, any other the entities: a word counts by its first token, so "
        "that the ways to sum up its tokens come to the same.",
    )
    ignore_labels: list[str] | None = Field(
        default=None, description="Tags or entities that are left out; `O` if not given."
    )
    stride: Annotated[Any, Field(description=_NO_EFFECT)] = None


class TokenClassificationRequest(BaseModel):
    """Hugging Face's body of token classification."""

    model_config = examples({"inputs": "a flight to Lyon", "parameters": {"aggregation_strategy": "simple"}})

    inputs: str | list[str] = Field(description="One text or several.")
    parameters: TokenClassificationParameters | None = None


class EntityGroup(BaseModel):
    """An entity."""

    entity_group: str = Field(description="What it is, with its role or group: `city`, `city.to`, `topping#1`.")
    score: float = Field(description="Calibrated probability that these words are this entity.")
    word: str
    start: int
    end: int


class TokenTag(BaseModel):
    """A word of an entity."""

    entity: str = Field(description="`B-city` for the first word of one, `I-city` for a further one, `O` for others.")
    score: float = Field(description="What the network says of the word alone; not calibrated.")
    index: int = Field(description="Of its first token.")
    word: str
    start: int
    end: int


Tagged = list[EntityGroup] | list[TokenTag]


class QuestionInputs(BaseModel):
    """A question with the context to answer it from."""

    question: str
    context: str


class QuestionAnsweringParameters(BaseModel):
    """Hugging Face's parameters of question answering; others are refused."""

    model_config = ConfigDict(extra="forbid")

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

        A button's payload such as `/greet` is that intent. The parameters `token` and `emulation_mode` of Rasa's own
        server have no effect.
        """
        current = engine()
        model = current.needed_intent()
        answered_by(request, model)
        asked = await read_json(request, ParseRequest)
        text = checked_text(asked.text, model.settings.max_text_chars)
        tokens = named.bounds_of(asked.text)
        if payload := _PAYLOAD.fullmatch(text.strip()):
            intent = IntentConfidence(name=payload["intent"], confidence=1.0)
            return ParseResponse(
                text=asked.text,
                intent=intent,
                entities=_of_payload(payload),
                intent_ranking=[intent],
                text_tokens=tokens,
                message_id=asked.message_id,
            )
        has_keys = any("/" in label for label in model.labels)
        [extracted] = await current.extract([text], Asking())
        result = await model.classify(text, top_k=None if has_keys else RANKING_LENGTH)
        ranking, of_intent = _grouped(result.ranking)
        best = ranking[0].name
        if result.out_of_scope:
            ranking.insert(0, IntentConfidence(name=FALLBACK, confidence=result.out_of_scope_score))
        selected = of_intent.get(best, []) if not result.out_of_scope else []
        return ParseResponse(
            text=asked.text,
            intent=ranking[0],
            entities=_entities([*result.entities, *extracted]),
            intent_ranking=ranking[: RANKING_LENGTH + result.out_of_scope],
            response_selector=(
                {"default": SelectorResult(response=selected[0], ranking=selected)} if selected else None
            ),
            text_tokens=tokens,
            truncated=result.truncated or None,
            message_id=asked.message_id,
        )

    @router.get("/version", summary="The version of Rasa whose routes these are", responses=error_responses(401))
    async def version() -> Version:
        """For clients that look whether they know the server."""
        return Version(version=RASA_VERSION, minimum_compatible_version=RASA_VERSION)

    @router.get("/status", summary="The model as Rasa's status shows it", responses=error_responses(401, 404, 503))
    async def status() -> Status:
        """For clients that look whether a model is loaded."""
        model = engine().needed_intent()
        return Status(model_file=model.bundle.name, model_id=model.bundle.version, num_active_training_jobs=0)

    return router


def _entities(found: Sequence[named.Entity | Extracted]) -> list[Entity]:
    return [
        Entity(
            entity=each.entity,
            value=each.value,
            start=each.start,
            end=each.end,
            confidence_entity=each.score,
            role=each.role,
            group=each.group,
            extractor=each.extractor,
        )
        for each in sorted(found, key=lambda each: (each.start, each.end))
    ]


def _of_payload(payload: re.Match[str]) -> list[Entity]:
    """Return the entities of a button's payload; none where what follows the intent is no JSON object, as in Rasa."""
    try:
        content = json.loads(payload["entities"] or "{}")
    except (ValueError, RecursionError):
        return []
    start, end = payload.span("entities")
    return [
        Entity(entity=name, value=value, start=start, end=end)
        for name, values in content.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def _grouped(
    ranking: Sequence[IntentScore],
) -> tuple[list[IntentConfidence], dict[str, list[SelectedResponse]]]:
    """Return intents by the part of their names before the slash, best first, and intent -> its response keys."""
    sums: dict[str, float] = defaultdict(float)
    full: dict[str, list[IntentScore]] = defaultdict(list)
    for each in ranking:
        base, slash, _ = each.name.partition("/")
        sums[base] += each.confidence
        if slash:
            full[base].append(each)
    intents = [IntentConfidence(name=name, confidence=min(1.0, confidence)) for name, confidence in sums.items()]
    intents.sort(key=lambda intent: -intent.confidence)
    keys = {
        base: [
            SelectedResponse(intent_response_key=each.name, confidence=min(1.0, each.confidence / sums[base]))
            for each in scores
        ]
        for base, scores in full.items()
        if sums[base] > 0
    }
    return intents, keys


def _hugging_face(engine: Callable[[], LanguageEngine]) -> APIRouter:  # noqa: PLR0915 one function per route
    router = APIRouter(tags=["Hugging Face"])

    @router.post(
        "/hf/text-classification",
        summary="Classify texts as Hugging Face's inference API does",
        responses=_ERRORS,
        openapi_extra=json_body(TextClassificationRequest),
    )
    async def classify_text(request: Request) -> list[list[LabelScore]]:
        """For `huggingface_hub.InferenceClient(model=".../hf/text-classification").text_classification(…)`.

        This shape cannot say "none of these": use /v1/intent if that matters. If the middle of a long text was left
        out, the header `X-Truncated-Inputs` names its place among the inputs.
        """
        model = engine().needed_intent()
        answered_by(request, model)
        asked = await read_json(request, TextClassificationRequest)
        parameters = asked.parameters or TextClassificationParameters()
        temperature = model.predictor.decision.temperature
        answers, cut = [], []
        texts = _checked_texts(model, asked.inputs)
        for place, found in enumerate(await model.run_texts(texts)):
            if isinstance(found, InputError):
                raise found
            outputs, encoding = found
            if noting() is not None:
                model.note(place, texts[place], outputs, model.predictor.decide(outputs, encoding))
            if encoding.is_cut:
                cut.append(str(place))
            answers.append(
                label_scores(
                    model.labels,
                    outputs[LOGITS],
                    partial(probabilities_from_logits, outputs[LOGITS], temperature, "single_label_classification"),
                    function=parameters.function_to_apply,
                    top_k=parameters.top_k,
                )
            )
        if cut:
            add_header(request, TRUNCATED, ", ".join(cut))
        return answers

    @router.post(
        "/hf/token-classification",
        summary="Find entities as Hugging Face's inference API does",
        responses=_ERRORS,
        openapi_extra=json_body(TokenClassificationRequest),
    )
    async def tag_words(request: Request) -> Tagged | list[Tagged]:
        """For `huggingface_hub.InferenceClient(model=".../hf/token-classification").token_classification(…)`.

        It gives what the network finds; /v1/entities also has values, roles and what built-in extractors find. Nothing
        of it is recorded. The header `X-Truncated-Inputs` is as for text classification.
        """
        model = engine().needed_intent()
        rule = model.needed_rule()
        answered_by(request, model)
        asked = await read_json(request, TokenClassificationRequest)
        parameters = asked.parameters or TokenClassificationParameters()
        ignored = frozenset(("O",) if parameters.ignore_labels is None else parameters.ignore_labels)
        answers: list[Tagged] = []
        cut = []
        for place, found in enumerate(await model.run_texts(_checked_texts(model, asked.inputs))):
            if isinstance(found, InputError):
                raise found
            if found[1].is_cut:
                cut.append(str(place))
            is_plain = parameters.aggregation_strategy == "none"
            answers.append(_token_tags(rule, *found, ignored) if is_plain else _groups(rule, *found, ignored))
        if cut:
            add_header(request, TRUNCATED, ", ".join(cut))
        return answers[0] if isinstance(asked.inputs, str) else answers

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


def _groups(rule: named.EntityRule, outputs: Outputs, encoding: Encoding, ignored: frozenset[str]) -> list[EntityGroup]:
    groups = [
        EntityGroup(
            entity_group=named.Kind(each.entity, each.role, each.group).name,
            score=each.score,
            word=each.text,
            start=each.start,
            end=each.end,
        )
        for each in rule.entities(outputs, encoding)
    ]
    return [each for each in groups if each.entity_group not in ignored]


def _token_tags(
    rule: named.EntityRule, outputs: Outputs, encoding: Encoding, ignored: frozenset[str]
) -> list[TokenTag]:
    words = named.words_of(encoding)
    if not words:
        return []
    logits = np.asarray(outputs[named.ENTITY_LOGITS], dtype=np.float64)[[word.token for word in words]]  # [W, E]
    chances = probabilities_from_logits(logits, 1.0, "single_label_classification")
    tags = ["O", *(f"{mark}-{kind.name}" for kind in rule.kinds for mark in "BI")]
    found = [
        TokenTag(
            entity=tags[tag],
            score=float(chances[place, tag]),
            index=word.token,
            word=encoding.text[word.start : word.end],
            start=word.start,
            end=word.end,
        )
        for place, (word, tag) in enumerate(zip(words, named.best_tags(logits).tolist(), strict=True))
    ]
    return [each for each in found if each.entity not in ignored]


def _elements(model: AnswerEngine, answers: list[Answer], *, has_none: bool) -> list[AnswerElement]:
    """Return at least one; with `has_none`, the empty answer comes before those that are not sure enough."""
    elements = [AnswerElement(answer=each.text, score=each.score, start=each.start, end=each.end) for each in answers]
    if has_none or not answers:
        sure = sum(model.is_answer(each) for each in answers)
        best = answers[0].score if answers else 0.0
        elements.insert(sure, AnswerElement(answer="", score=1 - best, start=0, end=0))
    return elements
