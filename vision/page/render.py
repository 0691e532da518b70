"""The tagger's page as HTML: what `page.html` shows of answers, heat maps, samples and labels."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from shared.serving.page.parts import limits_of, percent
from shared.templates import templates
from vision.heatmap import FLAT
from vision.page.answer import Answer, Branch, grouped, nearest, tags_at
from vision.tagging.predictor import TagPredictor

JPEG_QUALITY = 85
THUMBNAIL_PX = (168, 126)
NOT_FOR = (
    "recognising a person, or their age, sex, origin, mood or health",
    "medical, legal or safety decisions, or anything in which a wrong tag harms someone",
    "moderating content without a person who checks",
    "things it has never seen: a drawing, a screenshot or an unusual angle can get a wrong tag with a high score",
)
_PAGE: Any = templates("vision.page", "shared.serving.page", percent=percent).get_template("page.html").module
WAITING = str(_PAGE.waiting())


class TagView:
    """Renders answers of one model."""

    def __init__(self, predictor: TagPredictor) -> None:
        self.labels = predictor.labels
        self.hierarchy = predictor.hierarchy
        self.thresholds = predictor.thresholds

    def result(self, answer: Answer, min_score: float | None) -> str:
        """Return one photo's tags at a threshold (None: each label's own), or the nearest guesses."""
        tags = tags_at(answer, min_score)
        trees = grouped(tags, answer.scores, self.hierarchy)
        near = [Branch(index, answer.scores[index], False) for index in nearest(answer, tags)]
        return str(_PAGE.result(answer, trees, near, len(tags), self, min_score))

    def judge(self, request_id: str) -> str:
        """Return thumbs, and the labels that the photo shows rather, for the recorded answer of that request."""
        return str(_PAGE.judge(request_id, [(label, label) for label in sorted(self.labels, key=str.casefold)]))

    def heat(self, picture: Image.Image, label_index: int, score: float, drop: float) -> str:
        """Return the heat map as a figure, explained in words.

        Args:
            picture: photo and map, as from `heatmap.overlay`.
            label_index: the label that the map is for.
            score: the label's score on the whole photo.
            drop: how far its log-odds fall when the part that matters most is covered.
        """
        label = self.labels[label_index]
        return str(_PAGE.heat(label, data_uri(picture), drop < FLAT, score, lowered(score, drop)))


def lowered(score: float, drop: float) -> float:
    """Return what is left of a score after its log-odds fall by `drop`.

    >>> round(lowered(0.9, 0.0), 3), round(lowered(0.5, 1.0), 3)
    (0.9, 0.269)
    """
    held = min(max(score, 1e-6), 1 - 1e-6)  # scores are kept to six places
    return 1 / (1 + math.exp(drop) * (1 - held) / held)


def notice(title: str, message: str, what_to_do: str = "Please choose another photo.") -> str:
    """Return what a person reads when something cannot be used, and what to do about it."""
    return str(_PAGE.notice(title, message[:1].upper() + message[1:], what_to_do))


def data_uri(picture: Image.Image) -> str:
    """Return the picture as a JPEG inside a URL, so that no file is written for it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Sample:
    """A photo to try."""

    name: str
    path: Path
    credit: str = ""
    """The photographer, if the licence asks for a name."""


def samples(photos: Sequence[Sample]) -> str:
    """Return thumbnails to click; `data-sample` is the name of each."""
    photographers = [photo.credit for photo in photos if photo.credit]
    return str(_PAGE.samples([(photo, _thumbnail(photo.path)) for photo in photos], photographers))


def _thumbnail(path: Path) -> str:
    with Image.open(path) as image:
        return data_uri(ImageOps.fit(image.convert("RGB"), THUMBNAIL_PX))


def how_to_call() -> str:
    """Return the curl call to copy."""
    return str(_PAGE.how_to_call())


def knows(predictor: TagPredictor) -> str:
    """Return all labels under their topmost parents, with a field to search them."""
    groups: dict[str, list[str]] = {}
    inner = {predictor.labels[index] for index in predictor.hierarchy.inner}
    for label, ancestors in zip(predictor.labels, predictor.hierarchy.ancestors, strict=True):
        above = [name for name in ancestors if not predictor.hierarchy.parents.get(name)]
        for top in above or ([label] if label in inner else [""]):
            groups.setdefault(top, [])
            if label != top:
                groups[top].append(label)
    tops = sorted(groups, key=lambda name: (not name, name.casefold()))
    return str(_PAGE.knows(len(predictor.labels), [(top, sorted(groups[top], key=str.casefold)) for top in tops]))


def limits(predictor: TagPredictor) -> str:
    """Return what the tagger is not for, with the limits that its card names."""
    return str(_PAGE.limits([*NOT_FOR, *limits_of(predictor.bundle.config.card)]))
