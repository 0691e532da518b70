"""Thumbs on the demo pages: what a person says of an answer that was recorded."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydantic import ValidationError

from shared.errors import InputError, ServiceError
from shared.serving.recording.feedback import FeedbackRequest, keep_feedback
from shared.serving.recording.notes import not_recording, noting

_log = logging.getLogger(__name__)


async def keep_opinion(sent: Any, thumb: Literal["right", "helpful"] = "right") -> str:
    """Keep what a person says of an answer, and return what they read then; never fails.

    Args:
        sent: by the page, so anything: a dictionary with `request`, `item`, and `up` (a thumb) or `label` (what it is
            rather).
        thumb: what a thumb says.
    """
    given = sent if isinstance(sent, dict) else {}
    label, notes = given.get("label"), noting()
    said = {thumb: given.get("up")} if label is None else {"label": label}
    try:
        opinion = FeedbackRequest.model_validate(
            {"request_id": given.get("request"), "item": given.get("item"), **said}
        )
        if notes is None:
            raise not_recording()
        await keep_feedback(notes.recorder, notes.scope, opinion)
    except ValidationError:
        return "This cannot be kept."
    except (InputError, ServiceError) as error:
        _log.info("the page could not keep feedback: %s", type(error).__name__)
        return "This could not be kept. Please try again later."
    return "Thank you."
