"""The bodies of Percept's own language routes, as OpenAPI shows them; others' stand with their routes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from nlp.engine import MAX_PASSAGES
from shared.serving.http.bodies import Whole

DEFAULT_TOP_K = 5
DEFAULT_PASSAGES = 5
_UTTERANCE = "Say what a person says, in their words."
Text = Annotated[Any, WithJsonSchema({"type": "string"})]
"""An item of a batch. Its type is looked at when it is answered, so that a wrong one disturbs no other."""


class _Request(BaseModel):
    """Strict, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ModelInfo(BaseModel):
    """Which model answered."""

    name: str
    version: str


class IntentRequest(_Request):
    """One utterance or several."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "réserve-moi un vol pour Lyon"}, {"texts": ["play a song", "hello"]}],
            "oneOf": [  # what `_holds_one_of_them` checks
                {"required": ["text"], "properties": {"text": {"type": "string"}}},
                {"required": ["texts"], "properties": {"texts": {"type": "array"}}},
            ],
        }
    )

    text: str | None = Field(default=None, description=_UTTERANCE)
    texts: list[Text] | None = Field(default=None, min_length=1, description="Several utterances, in place of `text`.")
    top_k: Whole = Field(default=DEFAULT_TOP_K, ge=1, description="At most so many intents in the ranking.")

    @model_validator(mode="after")
    def _holds_one_of_them(self) -> IntentRequest:
        if (self.text is None) == (self.texts is None):
            raise ValueError("send either `text` or `texts`")
        return self


class IntentScoreOut(BaseModel):
    """One intent with its calibrated probability, given that the utterance belongs to one."""

    name: str
    confidence: float


class IntentOut(BaseModel):
    """What one utterance wants."""

    intent: str | None = Field(description="Null where the utterance belongs to no intent that is known.")
    confidence: float = Field(description="Calibrated probability of the best intent, named or not.")
    out_of_scope: bool
    out_of_scope_score: float = Field(description="0 to 1, higher where the utterance belongs to no intent.")
    ranking: list[IntentScoreOut] = Field(description="The most probable first.")


class ItemErrorDetail(BaseModel):
    """Why one text of several has no answer."""

    type: str
    message: str


class ItemError(BaseModel):
    """Stands in `results` in the place of a text that cannot be answered, when several were sent."""

    error: ItemErrorDetail


class IntentResponse(BaseModel):
    """The answer of POST /v1/intent: one result an utterance, in the order in which they were sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
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
            ]
        }
    )

    model: ModelInfo
    results: list[IntentOut | ItemError]


class AnswerRequest(_Request):
    """A question, and where its answer is to be read."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": "Who wrote it?", "context": "The first program was written by Ada Lovelace."},
                {"question": "How many images may one request hold?"},
            ]
        }
    )

    question: str
    context: str | None = Field(
        default=None, description="The text that holds the answer. Without one the knowledge base is searched."
    )
    passages: Whole = Field(
        default=DEFAULT_PASSAGES, ge=1, le=MAX_PASSAGES, description="How many passages of the knowledge base are read."
    )


class SourceOut(BaseModel):
    """Where in the knowledge base an answer stands."""

    document: str = Field(description="Its id, for GET /v1/knowledge/{document}.")
    title: str
    headings: list[str] = Field(description="Above the passage, the outermost first.")


class AnswerOut(BaseModel):
    """An answer, word for word as it stands in the text."""

    text: str
    score: float = Field(description="Calibrated probability that it is the answer.")
    start: int
    end: int = Field(
        description="`context[start:end]` is the answer, counted in characters (code points). For an answer from the "
        "knowledge base it is the document's plain text that they count in."
    )
    source: SourceOut | None = Field(description="Null where the context came with the question.")


class PassageOut(BaseModel):
    """A passage of the knowledge base that was read for a question."""

    document: str
    title: str
    headings: list[str]
    text: str
    start: int
    end: int = Field(description="Where it stands in the document's plain text.")
    score: float = Field(description="How near it is to the question; for the order alone, no probability.")


class AnswerResponse(BaseModel):
    """The answer of POST /v1/answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": {"name": "percept-qa", "version": "2026.11.24-1a2b3c4d"},
                    "answer": {"text": "Ada Lovelace", "score": 0.98, "start": 33, "end": 45, "source": None},
                    "passages": [],
                }
            ]
        }
    )

    model: ModelInfo
    answer: AnswerOut | None = Field(description="Null where nothing is sure enough, which is a normal answer.")
    passages: list[PassageOut] = Field(description="Those that were read, the nearest first.")


class UnderstandRequest(_Request):
    """What a person says to a chatbot."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Combien d'images puis-je envoyer ?"}]})

    text: str = Field(description=_UTTERANCE)
    top_k: Whole = Field(default=DEFAULT_TOP_K, ge=1, description="At most so many intents in the ranking.")
    passages: Whole = Field(default=DEFAULT_PASSAGES, ge=1, le=MAX_PASSAGES, description="As for /v1/answer.")


class UnderstandModels(BaseModel):
    """Which models answered."""

    intent: ModelInfo | None
    qa: ModelInfo | None


class UnderstandResponse(BaseModel):
    """What a person wants; where they ask or want nothing that is known, also what the knowledge base says."""

    models: UnderstandModels
    intent: IntentOut | None = Field(description="Null where the service has no intent model.")
    is_question: bool = Field(description="Whether it reads like a question.")
    answer: AnswerOut | None = Field(description="Null where nothing was looked up, or nothing was sure enough.")
    passages: list[PassageOut] = Field(description="Those that were read; none where nothing was looked up.")
