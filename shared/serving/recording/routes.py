"""The routes of records: feedback from whoever was answered, and reading and deleting for administrators."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from shared.errors import InputError
from shared.serving.access.policy import admin_only
from shared.serving.http.errors import error_responses
from shared.serving.http.requests import check_size, examples, json_body, read_json
from shared.serving.recording.feedback import (
    CallerSaid,
    FeedbackRequest,
    FeedbackResponse,
    is_request_id,
    keep_feedback,
    no_record,
)
from shared.serving.recording.notes import MAX_SUBJECT_CHARS, needed, recorder_of
from shared.serving.settings import Settings

MAX_BODY_BYTES = 128 << 10


class FeedbackOut(CallerSaid):
    """What was said of an item."""

    key: str = Field(description="Name of the key that it came with; empty if the service needs none.")


class RecordOut(BaseModel):
    """What was kept of one item."""

    item: int
    time: datetime
    key: str
    task: str
    model: str
    version: str
    outcome: str
    labels: list[str]
    scores: list[float]
    confidence: float | None
    out_of_scope_score: float | None
    share: float = Field(description="Chance that an item like this one was kept.")
    subject: str | None
    consent: bool | None
    characters: int | None
    context_characters: int | None
    width: int | None
    height: int | None
    features: list[float] | None
    text: str | None
    context: str | None
    answer: str | None
    photo: str | None = Field(description="A JPEG in base64.")
    shadow_of: str | None = Field(
        description="The version that this one answered silently beside; null of what callers got."
    )
    feedback: list[FeedbackOut]


class RecordsResponse(BaseModel):
    """All that was kept of one request."""

    request_id: str
    records: list[RecordOut]


class DeletedResponse(BaseModel):
    """What was deleted of a subject."""

    model_config = examples({"records": 12, "feedback": 1})

    records: int
    feedback: int


def make_records_router(settings: Settings) -> APIRouter:
    """Return the routes; where nothing is recorded they answer 403 and say how to change that."""
    router = APIRouter(tags=["records"])
    admin = [Depends(admin_only(settings))]
    recorder = recorder_of(settings)

    @router.post(
        "/v1/feedback",
        summary="Say whether an answer was right",
        responses=error_responses(400, 401, 403, 404, 413, 415, 422, 429, 503),
        openapi_extra=json_body(FeedbackRequest),
    )
    async def give_feedback(request: Request) -> FeedbackResponse:
        """For an answer given with the same key. Sent again, it takes the place of what was said before.

        404 if there is no record of the answer: it was not kept, is too old, or was never given.
        """
        keeping = needed(recorder)
        await check_size(request, MAX_BODY_BYTES, "feedback")
        said = await read_json(request, FeedbackRequest)
        return await keep_feedback(keeping, request.scope, said)

    @router.get(
        "/v1/records/{request_id}",
        summary="What was kept of a request",
        responses=error_responses(401, 403, 404, 422, 429, 503),
        dependencies=admin,
    )
    async def read_records(request_id: str = Path(max_length=128)) -> RecordsResponse:
        """Each item with its feedback."""
        keeping = needed(recorder)
        found = await keeping.ask(lambda store: store.read(request_id)) if is_request_id(request_id) else []
        if not found:
            raise no_record()
        return RecordsResponse(request_id=request_id, records=[RecordOut(**_shown(row)) for row in found])

    @router.delete(
        "/v1/records",
        summary="Forget a person",
        responses=error_responses(400, 401, 403, 422, 429, 503),
        dependencies=admin,
    )
    async def forget(
        request: Request,
        subject: str = Query(
            min_length=1, max_length=MAX_SUBJECT_CHARS, description="What requests named in the header X-Subject."
        ),
    ) -> DeletedResponse:
        """Delete all records and feedback of a subject.

        A salted hash remains, so that nothing of this subject is kept again, and datasets can leave it out.
        """
        if len(request.query_params.getlist("subject")) > 1:
            raise InputError("`subject` came several times; nothing was deleted. Send a request for each.")
        cleaned = subject.strip().replace("\x00", "").encode("utf-8", "replace").decode()
        deleted = await needed(recorder).ask(lambda store: store.forget(cleaned))
        return DeletedResponse(records=deleted.records, feedback=deleted.feedback)

    return router


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    features, photo = row["features"], row["photo"]
    return row | {
        "features": None if features is None else np.frombuffer(features, "<f2").astype(float).tolist(),
        "photo": None if photo is None else base64.b64encode(photo).decode("ascii"),
    }
