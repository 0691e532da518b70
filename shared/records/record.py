"""One answered item, as a service notes it and as a row of the store holds it. Needs no database."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared.personal import masked

if TYPE_CHECKING:  # a service of texts alone does without Pillow
    from PIL import Image

Level = Literal["outcomes", "features", "inputs"]
"""How much is kept; each has what the ones before it have."""
LEVELS: tuple[Level, ...] = ("outcomes", "features", "inputs")
PHOTO_SIDE_PX = 512
PHOTO_QUALITY = 85
MAX_LABELS = 50
"""Tags kept of one photo."""
_LARGEST_HALF = float(np.finfo(np.float16).max)
_ROW_BYTES = 1000
_CHARACTER_BYTES = 4
_SAME_CHARS = 32


@dataclass(slots=True, eq=False)
class Record:
    """One answered item."""

    request_id: str
    item: int
    """Its place among the items of the request."""
    seconds: float
    """When it was answered, since 1970."""
    key: str
    """Name of the caller's key; empty if the service needs none."""
    task: str
    model: str
    version: str
    outcome: str
    """As in the metrics: tagged, untagged; in_scope, out_of_scope; answered, unanswerable."""
    labels: Sequence[str]
    """Those given: the intent, or the tags; none of an answer."""
    scores: Sequence[float]
    """Of these labels."""
    confidence: float | None
    """Of the best label or answer, given or not; None if there was no candidate."""
    out_of_scope_score: float | None
    share: float
    """Chance that an item like this one was kept: in statistics it counts for 1 / share."""
    subject: str | None = None
    consent: bool | None = None
    """What the header X-Consent said; None without one."""
    characters: int | None = None
    context_characters: int | None = None
    width: int | None = None
    height: int | None = None
    features: np.ndarray | None = None
    """[D], of any float type."""
    text: str | None = None
    context: str | None = None
    answer: str | None = None
    photo: Image.Image | None = None
    shadow_of: str | None = None
    """The live version that a candidate answered beside; None of what callers got."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes while it waits to be written."""
        texts = sum(len(text) for text in (self.text, self.context, self.answer) if text is not None)
        photo = 3 * self.photo.width * self.photo.height if self.photo is not None else 0
        features = self.features.nbytes if self.features is not None else 0
        return _ROW_BYTES + _CHARACTER_BYTES * texts + photo + features

    def row(self) -> dict[str, Any]:
        """Return the columns of the store, with personal data in texts masked, and a photo as a small JPEG."""
        text, context = redacted(self.text), redacted(self.context)
        photo = None if self.photo is None else _jpeg(self.photo)
        return {
            "request_id": self.request_id,
            "item": self.item,
            "time": datetime.fromtimestamp(self.seconds, UTC).replace(tzinfo=None),
            "key": self.key,
            "task": self.task,
            "model": self.model,
            "version": self.version,
            "outcome": self.outcome,
            "labels": list(self.labels[:MAX_LABELS]),
            "scores": [round(float(score), 6) for score in self.scores[:MAX_LABELS]],
            "confidence": self.confidence,
            "out_of_scope_score": self.out_of_scope_score,
            "share": self.share,
            "subject": self.subject,
            "consent": self.consent,
            "characters": self.characters,
            "context_characters": self.context_characters,
            "width": self.width,
            "height": self.height,
            "features": None if self.features is None else _half(self.features).tobytes(),
            "text": text,
            "context": context,
            "answer": redacted(self.answer),
            "photo": photo,
            "shadow_of": self.shadow_of,
            "same": same_of(text, context, photo),
        }


def redacted(text: str | None) -> str | None:
    """Return a text as it may be kept: personal data known by rule masked, and nothing that a database refuses.

    >>> redacted("write to ada@example.org\\x00")
    'write to [e-mail]'
    """
    if text is None:
        return None
    return masked(text.replace("\x00", "").encode("utf-8", "replace").decode())


def same_of(text: str | None, context: str | None = None, photo: bytes | None = None) -> str | None:
    """Return what identical inputs have in common, whatever their case and blanks; None where no input is kept.

    >>> same_of(" Hello  you") == same_of("hello you") != same_of("hello you", "a passage")
    True
    """
    if text is None and photo is None:
        return None
    folded = "\0".join(" ".join(part.casefold().split()) for part in (text or "", context or ""))
    return hashlib.sha256(folded.encode() + (photo or b"")).hexdigest()[:_SAME_CHARS]


def _half(features: np.ndarray) -> np.ndarray:
    """Return little-endian float16 [D]; what is too large for it becomes the largest that it has."""
    return np.asarray(np.clip(features, -_LARGEST_HALF, _LARGEST_HALF), dtype="<f2")


def _jpeg(photo: Image.Image) -> bytes:
    small = photo.convert("RGB")
    factor = math.ceil(max(small.size) / PHOTO_SIDE_PX)
    if factor > 1:  # by a whole number: any other size takes 15 times as long, as much as decoding the photo did
        small = small.reduce(factor)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=PHOTO_QUALITY)
    return buffer.getvalue()
