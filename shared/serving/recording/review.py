"""Reviewing, for administrators: what is worth a look, what they say of it, and the page `/ui/review`.

The page is a file that holds no data and asks for the key; what it shows comes from the routes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.responses import HTMLResponse, Response

from shared.bundle.read import Bundle
from shared.errors import InputError, NotFound
from shared.pages import translating
from shared.records.record import redacted
from shared.serving.access.keys import ADMIN_NAME
from shared.serving.access.policy import admin_only
from shared.serving.http.browser import headers_of
from shared.serving.http.errors import error_responses
from shared.serving.http.requests import CALLER, Whole, check_size, examples, json_body, read_json
from shared.serving.recording.feedback import (
    MAX_ANSWER_CHARS,
    MAX_COMMENT_CHARS,
    MAX_LABEL_CHARS,
    MAX_LABELS,
    CallerSaid,
)
from shared.serving.recording.notes import Recorder, needed, recorder_of
from shared.serving.settings import PREFIX, Settings

if TYPE_CHECKING:  # SQLAlchemy need not be installed
    from shared.records.queue import Item, Queue

PAGE = "/ui/review"
MAX_BODY_BYTES = 4 << 20
MAX_REVIEWS = 500
MAX_ITEMS = 200
_LARGEST_ID = 2**63 - 1
_SHOWN_IDS = 10
_REASONS = "disagreed|group|shadow|uncertain|audit|reviewers"
_TASKS = ("intent", "tagging", "qa")
_FOLDER = files("shared.serving.recording") / "page"
_KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_PHOTO_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARS)]
_RecordId = Annotated[Whole, Field(ge=1, le=_LARGEST_ID)]


class Reviewed(Protocol):
    """What the routes need to know of a model that serves."""

    name: str
    bundle: Bundle


class ReviewIn(BaseModel):
    """What a reviewer says of one record."""

    model_config = ConfigDict(extra="forbid", strict=True)

    record: _RecordId = Field(description="As GET /v1/review gives it.")
    labels: Annotated[list[_Label], Field(max_length=MAX_LABELS)] | None = Field(
        default=None, description="The right ones; none if nothing that is known fits; null to set it aside."
    )
    answer: Annotated[str, Field(max_length=MAX_ANSWER_CHARS)] | None = Field(
        default=None, description="Of a question: the right words; empty if there are none; null to set it aside."
    )
    comment: str = Field(default="", max_length=MAX_COMMENT_CHARS)
    reason: str = Field(default="uncertain", pattern=f"^({_REASONS})$", description="Why it was shown.")


class ReviewsIn(BaseModel):
    """What a reviewer says of some records of a model."""

    model_config = examples(
        {"model": "percept-intent", "reviews": [{"record": 17, "labels": ["card_declined"], "reason": "disagreed"}]},
        extra="forbid",
        strict=True,
    )

    model: str = Field(min_length=1, max_length=MAX_LABEL_CHARS)
    reviews: list[ReviewIn] = Field(min_length=1, max_length=MAX_REVIEWS)

    @field_validator("reviews")
    @classmethod
    def _are_of_different_records(cls, value: list[ReviewIn]) -> list[ReviewIn]:
        if len({each.record for each in value}) < len(value):
            raise ValueError("a record is in it twice")
        return value


class KeptReviews(BaseModel):
    """What was kept."""

    model_config = examples({"kept": 1, "replaced": 0, "new_labels": []})

    kept: int
    replaced: int = Field(description="Of these, how many took the place of what the same reviewer said before.")
    new_labels: list[str] = Field(description="Labels that the model does not know: new ones, or mistyped.")


class TakenBack(BaseModel):
    """Whether there was something to take back."""

    model_config = examples({"taken_back": True})

    taken_back: bool


class SaidOut(BaseModel):
    """What speaks against the answer."""

    by: str = Field(description="feedback, or the version of the candidate that answered beside.")
    labels: list[str] | None
    answer: str | None


class ReviewOut(BaseModel):
    """What a reviewer said."""

    reviewer: str
    is_mine: bool
    time: datetime
    labels: list[str] | None
    answer: str | None
    comment: str | None


class ItemOut(BaseModel):
    """One input with its answer, and why it is worth a look."""

    record: int
    request_id: str
    item: int
    time: datetime
    task: str
    model: str
    version: str
    outcome: str
    labels: list[str]
    scores: list[float]
    confidence: float | None
    out_of_scope_score: float | None
    text: str | None
    context: str | None
    answer: str | None
    photo: str | None = Field(description="Path of the photo, which needs the same key.")
    reason: str
    group: str | None
    said: SaidOut | None
    feedback: list[CallerSaid]
    reviews: list[ReviewOut] = Field(description="Of all reviewers, the oldest first.")
    stands_for: int = Field(description="Records with the same input, itself among them; a decision holds for all.")


class ModelOut(BaseModel):
    """A model that can be reviewed."""

    name: str
    task: str
    is_served: bool


class AuditOut(BaseModel):
    """How good the answers are by records that were drawn at random."""

    count: int
    right: float | None
    low: float | None = Field(description="Ends of the 95 % interval.")
    high: float | None


class ReviewQueue(BaseModel):
    """What a reviewer has before them."""

    reviewer: str
    model: str | None
    task: str | None
    models: list[ModelOut]
    labels: list[str] = Field(description="That the model knows; if it is not served, those in its records.")
    reviewed_labels: list[str] = Field(description="That reviewers gave, new ones among them.")
    note: str | None = Field(description="Why there is nothing to review, in words.")
    counts: dict[str, int] = Field(description="Reason -> items left.")
    left: int = Field(description="Items that are worth a look or drawn, each once.")
    done_today: int
    audit: AuditOut
    items: list[ItemOut]


def make_review_router(settings: Settings, models: Callable[[], Sequence[Reviewed]]) -> APIRouter:
    """Return the routes and, where there is a store and pages are wanted, the page.

    Args:
        settings: of the service.
        models: returns those that serve; may raise NotReady.
    """
    router = APIRouter(tags=["records"])
    admin = [Depends(admin_only(settings))]
    recorder = recorder_of(settings)

    @router.get(
        "/v1/review",
        summary="What is worth a person's look",
        responses=error_responses(401, 403, 404, 422, 429, 503),
        dependencies=admin,
    )
    async def read_queue(
        request: Request,
        model: str | None = Query(None, max_length=MAX_LABEL_CHARS, description="The first one if not given."),
        reason: str | None = Query(None, pattern=f"^({_REASONS})$", description="Only what is shown for this."),
        limit: int = Query(50, ge=1, le=MAX_ITEMS),
        disagreements: bool = Query(False, description="Only what two reviewers disagree on: reason=reviewers."),
    ) -> ReviewQueue:
        """What the newest feedback calls wrong, new groups, what a candidate answers otherwise, what the model was not
        sure of, and one in ten drawn at random. What the same key has reviewed is not shown again.
        """
        wanted: Any = "reviewers" if disagreements else reason
        return await _read(needed(recorder), models(), _reviewer(request), model, wanted, limit)

    @router.get(
        "/v1/review/photo/{record}",
        summary="The photo of a record",
        response_class=Response,
        responses=error_responses(401, 403, 404, 422, 429, 503)
        | {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
        dependencies=admin,
    )
    async def read_photo(record: int = Path(ge=1, le=_LARGEST_ID)) -> Response:
        def ask(store: Any) -> bytes | None:
            from shared.records.reviewing import photo_of

            return photo_of(store, record)

        photo = await needed(recorder).ask(ask)
        if photo is None:
            raise NotFound("there is no photo of such a record.")
        return Response(photo, media_type="image/jpeg", headers=_PHOTO_HEADERS)

    @router.put(
        "/v1/review",
        summary="Say what is right",
        responses=error_responses(400, 401, 403, 404, 413, 415, 422, 429, 503),
        dependencies=admin,
        openapi_extra=json_body(ReviewsIn),
    )
    async def keep(request: Request) -> KeptReviews:
        """For up to 500 records of a model at once; all are kept or none. Sent again with the same key, it takes the
        place of what was said before.
        """
        keeping = needed(recorder)
        await check_size(request, MAX_BODY_BYTES, "reviews")
        said = await read_json(request, ReviewsIn)
        return await _keep(keeping, models(), _reviewer(request), said)

    @router.delete(
        "/v1/review/{record}",
        summary="Take a review back",
        responses=error_responses(401, 403, 422, 429, 503),
        dependencies=admin,
    )
    async def take_back(request: Request, record: int = Path(ge=1, le=_LARGEST_ID)) -> TakenBack:
        """What the same key said of this record, or of one with the same input."""
        reviewer = _reviewer(request)

        def ask(store: Any) -> bool:
            from shared.records.reviewing import take_back

            return take_back(store, record, reviewer)

        return TakenBack(taken_back=await needed(recorder).ask(ask))

    if settings.ui and recorder is not None:
        _add_page(router)
    return router


def _add_page(router: APIRouter) -> None:
    html = (_FOLDER / "review.html").read_text("utf-8")
    french = json.loads((_FOLDER / "french.json").read_text("utf-8"))
    assets = {name: (_FOLDER / name).read_text("utf-8") for name in ("review.js", "review.css")}
    assets["french.js"] = translating(french)
    headers = {**headers_of(html), "cache-control": "no-cache", "x-content-type-options": "nosniff"}

    @router.get(PAGE, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    @router.get(PAGE + "/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in assets:
            raise NotFound("there is no such file of the page.")
        return Response(assets[name], headers={**headers, "content-type": _KINDS[PurePath(name).suffix]})


async def _read(
    recorder: Recorder, serving: Sequence[Reviewed], reviewer: str, model: str | None, reason: Any, limit: int
) -> ReviewQueue:
    served = {each.name: each for each in serving if each.bundle.config.task in _TASKS}

    def ask(store: Any) -> tuple[list[ModelOut], str | None, Queue | None]:
        from shared.records.queue import known_models, queue

        tasks = dict(known_models(store)) | {name: each.bundle.config.task for name, each in served.items()}
        known = [ModelOut(name=name, task=task, is_served=name in served) for name, task in sorted(tasks.items())]
        known = sorted((each for each in known if each.task in _TASKS), key=lambda each: not each.is_served)
        name = model if model is not None else known[0].name if known else None
        if name is None or name not in tasks:
            return known, name, None
        parents = served[name].bundle.config.label_parents if name in served else {}
        return known, name, queue(store, name, reviewer, reason=reason, limit=limit, parents=parents)

    known, name, found = await recorder.ask(ask)
    if found is None or name is None:
        if model is not None:
            raise NotFound("there is no such model here, and no record of one.")
        raise NotFound("there is no model whose answers can be reviewed.")
    labels = _labels_of(served.get(name)) or found.labels
    return ReviewQueue(
        reviewer=reviewer,
        model=name,
        task=next(each.task for each in known if each.name == name),
        models=known,
        labels=labels,
        reviewed_labels=found.reviewed_labels,
        note=_note(recorder, found),
        counts=found.counts,
        left=found.left,
        done_today=found.done_today,
        audit=AuditOut(**vars(found.audit)),
        items=[_shown(item, reviewer) for item in found.items],
    )


def _note(recorder: Recorder, found: Queue) -> str | None:
    if not recorder.has_inputs:
        return (
            "This service keeps no texts and photos of what it answers, and only records with them can be reviewed. "
            f"Set {PREFIX}RECORDS_LEVEL=inputs and restart it."
        )
    if not found.records:
        return "There are no records of this model yet."
    return None if found.with_inputs else "None of this model's records has its text or photo: all are from before."


def _labels_of(model: Reviewed | None) -> list[str]:
    """Return what a classifier can answer."""
    if model is None or model.bundle.config.task not in ("intent", "tagging"):
        return []
    return sorted(model.bundle.config.id2label.values())


def _shown(item: Item, reviewer: str) -> ItemOut:
    row = item.record
    names = ("request_id", "item", "task", "model", "version", "outcome", "labels", "scores", "confidence",
             "out_of_scope_score", "text", "context", "answer")  # fmt: skip
    return ItemOut(
        **{name: row[name] for name in names},
        record=row["id"],
        time=row["time"].replace(tzinfo=UTC),
        photo=f"/v1/review/photo/{row['id']}" if row["has_photo"] else None,
        reason=item.reason,
        group=item.group,
        said=SaidOut(**{name: item.said[name] for name in ("by", "labels", "answer")}) if item.said else None,
        feedback=[CallerSaid(**_timed(each)) for each in item.feedback],
        reviews=[ReviewOut(**_timed(each), is_mine=each["reviewer"] == reviewer) for each in item.reviews],
        stands_for=item.stands_for,
    )


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "time": row["time"].replace(tzinfo=UTC)}


async def _keep(recorder: Recorder, serving: Sequence[Reviewed], reviewer: str, said: ReviewsIn) -> KeptReviews:
    served = next((each for each in serving if each.name == said.model), None)
    cleaned = [(each, _cleaned_labels(each)) for each in said.reviews]

    def ask(store: Any) -> tuple[list[int], int, list[str]]:
        from shared.records.queue import known_labels, task_of
        from shared.records.reviewing import Review, keep_reviews

        task = served.bundle.config.task if served is not None else task_of(store, said.model)
        for each, labels in cleaned:
            _check_fits(task, each, labels)
        reviews = [
            Review(each.record, labels, redacted(each.answer), redacted(each.comment) or None, each.reason)
            for each, labels in cleaned
        ]
        known = set(_labels_of(served) or known_labels(store, said.model))
        unknown, replaced = keep_reviews(store, said.model, reviewer, reviews)
        new = sorted({label for _, labels in cleaned for label in labels or () if label not in known})
        return unknown, replaced, new

    unknown, replaced, new = await recorder.ask(ask)
    if unknown:
        more = f" and {len(unknown) - _SHOWN_IDS} more" if len(unknown) > _SHOWN_IDS else ""
        shown = ", ".join(map(str, unknown[:_SHOWN_IDS]))
        raise NotFound(
            f"this model has no record {shown}{more}: deleted, too old, or never there. No review was kept; send the "
            "others again."
        )
    return KeptReviews(kept=len(cleaned), replaced=replaced, new_labels=new)


def _cleaned_labels(review: ReviewIn) -> list[str] | None:
    if review.labels is None:
        return None
    labels = [(redacted(label) or "").strip() for label in review.labels]
    if not all(labels):
        raise InputError(f"a label of record {review.record} is empty. Send [] if nothing that is known fits.")
    return list(dict.fromkeys(labels))


def _check_fits(task: str | None, review: ReviewIn, labels: Sequence[str] | None) -> None:
    """Raise InputError if a review does not fit the task; None is one that nothing is known of."""
    if task == "qa" and labels is not None:
        raise InputError(f"record {review.record} is of a question: say its `answer`, not `labels`.")
    if task != "qa" and review.answer is not None:
        raise InputError(f"record {review.record} is not of a question: say its `labels`, not an `answer`.")
    if task == "intent" and labels is not None and len(labels) > 1:
        raise InputError(f"record {review.record} is an utterance, which has one intent; {len(labels)} came.")


def _reviewer(request: Request) -> str:
    """Return the name of the administrator's key."""
    caller = request.scope.get(CALLER)
    return caller.name if caller is not None else ADMIN_NAME
