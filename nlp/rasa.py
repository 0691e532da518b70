"""Rasa's route: `POST /model/parse`, so that a Rasa assistant (`nlu:` in endpoints.yml) takes its intents from here.

Source: rasa.com, HTTP API, "Parse a message using the Rasa model"; Rasa Open Source 3.6, FallbackClassifier, which puts
`nlu_fallback` first in the ranking and leaves the others behind it as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from nlp.engine import LanguageEngine
from nlp.limits import checked_text
from shared.serving.http.bodies import json_body, read_json
from shared.serving.http.errors import error_responses
from shared.serving.http.middleware import answered_by

FALLBACK = "nlu_fallback"
RANKING_LENGTH = 10
"""Rasa's own default, `ranking_length` of its DIETClassifier."""


class ParseRequest(BaseModel):
    """What Rasa sends; other fields, such as its token, are read over."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Réserve-moi un vol", "message_id": "b2831e73-1407-4ba0-a861"}]}
    )

    text: str
    message_id: str | None = Field(default=None, description="Comes back with the answer.")


class IntentConfidence(BaseModel):
    """One intent of Rasa's answer."""

    name: str
    confidence: float


class ParseResponse(BaseModel):
    """Rasa's answer; there are never entities."""

    text: str
    intent: IntentConfidence = Field(description=f"`{FALLBACK}` where the message is out of scope.")
    entities: list[dict[str, Any]]
    intent_ranking: list[IntentConfidence] = Field(description="The best first.")
    message_id: str | None = None


def make_router(engine: Callable[[], LanguageEngine]) -> APIRouter:
    """Return the route.

    Args:
        engine: gives the engine at every request.
    """
    router = APIRouter(tags=["Rasa"])

    @router.post(
        "/model/parse",
        summary="Parse a message as Rasa does",
        responses=error_responses(400, 404, 413, 415, 422, 429, 503, 504),
        openapi_extra=json_body(ParseRequest),
        response_model_exclude_none=True,
    )
    async def parse(request: Request) -> ParseResponse:
        """The parameters `token` and `emulation_mode` of Rasa's own server have no effect here."""
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
