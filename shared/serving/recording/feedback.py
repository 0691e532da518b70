"""Feedback: what a person says of an answer, from a program by `POST /v1/feedback` or from the page."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.types import Scope

from shared.errors import InputError, NotFound
from shared.records.record import redacted
from shared.serving.http.requests import CALLER, Whole, examples
from shared.serving.recording.notes import CONSENT, Recorder, is_yes

MAX_COMMENT_CHARS = 2000
MAX_LABEL_CHARS = 200
MAX_LABELS = 64
MAX_ITEM = 100_000
MAX_ANSWER_CHARS = 2000
_WAITS_S = (0.0, 0.3, 0.7)
"""A record is written a moment after the answer: how long to wait for it before each look."""
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
ID_EXAMPLE = "0f8e3a1c9d7b4e6f"
_SAYS = {"right": "boolean", "label": "string", "labels": "array", "answer": "string", "helpful": "boolean"}
"""What feedback may say -> its type in JSON."""
_FITS = {"label": ("intent", "tagging"), "labels": ("tagging",), "answer": ("qa",)}
"""Field -> the tasks whose answers it can correct; the others fit all."""
_Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARS)]


class FeedbackRequest(BaseModel):
    """What somebody says of an answer: exactly one of `right`, `label`, `labels`, `answer` and `helpful`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"request_id": ID_EXAMPLE, "label": "card_declined"},
                {"request_id": ID_EXAMPLE, "item": 1, "helpful": False, "comment": "the hours are last year's"},
            ],
            "oneOf": [  # what `_says_one_thing` checks
                {"required": [name], "properties": {name: {"type": kind}}} for name, kind in _SAYS.items()
            ],
        },
        extra="forbid",
        strict=True,
    )

    request_id: str = Field(max_length=128, description="The answer's header X-Request-ID.")
    item: Whole = Field(
        default=0,
        ge=0,
        le=MAX_ITEM,
        description="Which of several items; of /v1/understand, 0 is the intent and 1 the answer.",
    )
    right: bool | None = Field(default=None, description="Whether the answer is right.")
    label: _Label | None = Field(default=None, description="The right intent, or the one right tag.")
    labels: Annotated[list[_Label], Field(max_length=MAX_LABELS)] | None = Field(
        default=None, description="All right tags; none if nothing that is known is in the photo."
    )
    answer: Annotated[str, Field(max_length=MAX_ANSWER_CHARS)] | None = Field(
        default=None, description="The right answer; empty if there is none."
    )
    helpful: bool | None = Field(default=None, description="Thumbs up or down.")
    comment: str = Field(default="", max_length=MAX_COMMENT_CHARS, description="In the person's words.")

    @property
    def said(self) -> dict[str, Any]:
        """The one thing that is said, by its name."""
        return {name: value for name in _SAYS if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _says_one_thing(self) -> FeedbackRequest:
        if len(self.said) != 1:
            raise ValueError(f"send exactly one of {', '.join(_SAYS)}")
        return self


class FeedbackResponse(BaseModel):
    """What the feedback was kept for."""

    model_config = examples({"request_id": ID_EXAMPLE, "item": 0, "task": "intent", "replaced": False})

    request_id: str
    item: int
    task: str = Field(description="Of the answer.")
    replaced: bool = Field(description="Whether it took the place of earlier feedback with the same key.")


class CallerSaid(BaseModel):
    """What a caller said."""

    time: datetime
    right: bool | None
    helpful: bool | None
    labels: list[str] | None
    answer: str | None
    comment: str | None


async def keep_feedback(recorder: Recorder, scope: Scope, said: FeedbackRequest) -> FeedbackResponse:
    """Keep what the sender of a request says of an earlier answer, in place of what was said with the same key.

    Args:
        recorder: has the store.
        scope: of the request that brings the feedback.
        said: the feedback.

    Raises:
        NotFound: there is no record of such an answer with this key; an administrator's is good for all.
        InputError: it does not fit the answer's task, or the request forbids to keep anything.
        ServiceError: the store cannot do it now.
    """
    if not all(is_yes(value) for name, value in scope["headers"] if name == CONSENT):
        raise InputError("X-Consent says that nothing of this request may be kept, and so no feedback.")
    caller = scope.get(CALLER)
    key = caller.name if caller is not None else ""
    whose = None if caller is not None and caller.role == "admin" else key
    kept = None
    for wait_s in _WAITS_S if is_request_id(said.request_id) else ():
        await asyncio.sleep(wait_s)
        kept = await recorder.ask(lambda store: store.find(said.request_id, said.item, whose))
        if kept is not None:
            break
    if kept is None:
        raise no_record()
    found, values = kept, _values(said)
    for name in said.said:
        if found.task not in _FITS.get(name, (found.task,)):
            raise InputError(f"`{name}` does not fit: the answer is of the task {found.task!r}.")
    replaced = await recorder.ask(lambda store: store.give_feedback(found, said.request_id, said.item, key, **values))
    if replaced is None:
        raise no_record()
    return FeedbackResponse(request_id=said.request_id, item=said.item, task=found.task, replaced=replaced)


def is_request_id(text: str) -> bool:
    """Return whether a service may have given or taken this id."""
    return _SANE_ID.fullmatch(text) is not None


def no_record() -> NotFound:
    """Return the error of what is not in the store."""
    return NotFound(
        "there is no record of such an answer with this key: it was not kept, is too old, or was never given."
    )


def _values(said: FeedbackRequest) -> dict[str, Any]:
    """Return the columns of the store, with personal data masked."""
    sent = dict(said.said)
    if "label" in sent:
        sent["labels"] = [sent.pop("label")]
    if "labels" in sent:
        sent["labels"] = [redacted(label) for label in sent["labels"]]
    if "answer" in sent:
        sent["answer"] = redacted(sent["answer"])
    return {**sent, "comment": redacted(said.comment) or None}
