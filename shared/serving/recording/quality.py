"""What `percept monitor` found last, for administrators; this service only reads it, and computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from shared.errors import NotFound
from shared.serving.access.policy import admin_only
from shared.serving.http.errors import error_responses
from shared.serving.http.requests import examples
from shared.serving.recording.notes import needed, recorder_of
from shared.serving.settings import Settings

if TYPE_CHECKING:  # SQLAlchemy need not be installed
    from shared.records.findings import Finding

MAX_MODEL_CHARS = 200
_Kind = TypeVar("_Kind", bound=BaseModel)


class ShareRight(BaseModel):
    """A share of answers that are right, with its 95 % interval."""

    value: float
    low: float
    high: float
    said: int | None = Field(default=None, description="Answers that somebody judged; null of a corrected share.")


class QualityOut(BaseModel):
    """How often answers are right, the most reliable figure first; null where nothing is known."""

    audited: ShareRight | None = Field(description="Of answers drawn at random and judged by reviewers.")
    corrected: ShareRight | None = Field(description="By feedback, as if it were as frequent at every confidence.")
    feedback: ShareRight | None = Field(description="By feedback as it comes, which is no random sample.")
    expected: float | None = Field(description="By the model's own confidence, which is optimistic.")
    thumbs: int = Field(description="Answers that somebody found helpful, or not.")
    liked: int = Field(description="Of these, those found helpful.")


class AlarmOut(BaseModel):
    """One test of the window against what was usual."""

    stat: str
    is_raised: bool
    before: float
    now: float
    p: float = Field(description="Chance of a change at least so large if nothing had changed.")
    sentence: str


class GroupOut(BaseModel):
    """Records that are alike and fit no known label; neither their texts nor their ids."""

    name: str
    size: int
    nearest: str | None = Field(description="The known label that is most alike.")


class ModelQuality(BaseModel):
    """The newest finding of one model."""

    model: str
    version: str
    time: datetime
    age_s: float = Field(description="How old the finding is.")
    records: int = Field(description="That were looked at.")
    state: str = Field(description="quiet, alarm, or too few records to tell.")
    sentence: str
    alarms: list[AlarmOut]
    quality: QualityOut | None
    groups: list[GroupOut]


class QualityResponse(BaseModel):
    """What a monitor found last of each model that it looks at."""

    model_config = examples(
        {
            "models": [
                {
                    "model": "percept-intent",
                    "version": "2026.11.26-984d47a6",
                    "time": "2026-12-01T09:30:00Z",
                    "age_s": 312.0,
                    "records": 5120,
                    "state": "quiet",
                    "sentence": "No alarm: nothing speaks for a change from the bundle's validation data.",
                    "alarms": [],
                    "quality": {
                        "audited": {"value": 0.93, "low": 0.883, "high": 0.959, "said": 200},
                        "corrected": {"value": 0.921, "low": 0.871, "high": 0.953, "said": None},
                        "feedback": {"value": 0.84, "low": 0.773, "high": 0.89, "said": 150},
                        "expected": 0.958,
                        "thumbs": 40,
                        "liked": 35,
                    },
                    "groups": [{"name": "parking garage", "size": 42, "nearest": "directions"}],
                }
            ]
        }
    )

    models: list[ModelQuality]


def make_quality_router(settings: Settings) -> APIRouter:
    """Return the route; where nothing is recorded it answers 403 and says how to change that."""
    router = APIRouter(tags=["records"])
    recorder = recorder_of(settings)

    @router.get(
        "/v1/quality",
        summary="What the monitor found last",
        responses=error_responses(401, 403, 404, 422, 429, 503),
        dependencies=[Depends(admin_only(settings))],
    )
    async def read_quality(
        model: str | None = Query(default=None, max_length=MAX_MODEL_CHARS, description="Of this model alone."),
    ) -> QualityResponse:
        """Whether what a model is asked has changed, and how often it is right, as `percept monitor` wrote it.

        404 if no monitor has looked yet.
        """
        from shared.records.findings import newest_findings

        found = await needed(recorder).ask(lambda store: newest_findings(store, model))
        if not found:
            whose = "" if model is None else f" of {model[:MAX_MODEL_CHARS]!r}"
            raise NotFound(f"no monitor has looked at the records{whose} yet. Run `percept monitor BUNDLE --every 30m` "
                           "with this service's store.")  # fmt: skip
        now = datetime.now(UTC)
        return QualityResponse(models=[_shown(each, now) for each in found])

    return router


def _shown(finding: Finding, now: datetime) -> ModelQuality:
    """Return what is shown of a finding; what another version of Percept did not write is left out."""
    found, time = finding.found, finding.time.replace(tzinfo=UTC)
    quality = found.get("quality")
    return ModelQuality(
        model=finding.model,
        version=finding.version,
        time=time,
        age_s=max(0.0, (now - time).total_seconds()),
        state=finding.state,
        records=(found.get("window") or {}).get("records", 0),
        sentence=found.get("sentence") or "",
        alarms=_whole(AlarmOut, found.get("alarms")),
        quality=None if quality is None else _quality(quality),
        groups=_whole(GroupOut, found.get("groups")),
    )


def _whole(kind: type[_Kind], rows: Sequence[Mapping[str, Any]] | None) -> list[_Kind]:
    """Return those that have all fields."""
    names = kind.model_fields.keys()
    return [kind(**{name: row[name] for name in names}) for row in rows or () if names <= row.keys()]


def _quality(found: Mapping[str, Any]) -> QualityOut:
    def share(part: Mapping[str, Any] | None) -> ShareRight | None:
        if part is None or any(part.get(name) is None for name in ("value", "low", "high")):
            return None
        return ShareRight(value=part["value"], low=part["low"], high=part["high"], said=part.get("said"))

    return QualityOut(
        audited=share(found.get("audited")),
        corrected=share(found.get("corrected")),
        feedback=share(found),
        expected=found.get("expected"),
        thumbs=found.get("thumbs", 0),
        liked=found.get("liked", 0),
    )
