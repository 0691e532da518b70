"""The tagger's page as HTML: tags as bars under their parents, heat maps, samples, notices. All text is escaped."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from shared.serving.page import parts
from shared.serving.page.parts import percent
from vision.heatmap import FLAT
from vision.page.answer import Answer, Branch, grouped, nearest, tags_at
from vision.tagging.predictor import TagPredictor

WAITING = (
    '<section class="p-result p-card p-waiting" aria-label="Tags"><h2>Tags</h2>'
    "<p>Choose a photo, and I will show you what I see in it.</p></section>"
)
JPEG_QUALITY = 85
THUMBNAIL_PX = (168, 126)
NOT_FOR = (
    "recognising a person, or their age, sex, origin, mood or health",
    "medical, legal or safety decisions, or anything in which a wrong tag harms someone",
    "moderating content without a person who checks",
    "things it has never seen: a drawing, a screenshot or an unusual angle can get a wrong tag with a high score",
)
_EYE = (
    '<svg class="p-eye" viewBox="0 0 24 24" aria-hidden="true"><path d="M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 '
    '6.5S2 12 2 12Z"/><circle cx="12" cy="12" r="3"/></svg>'
)


class TagView:
    """Renders answers of one model."""

    def __init__(self, predictor: TagPredictor) -> None:
        self.labels = predictor.labels
        self.hierarchy = predictor.hierarchy
        self.thresholds = predictor.thresholds

    def result(self, answer: Answer, min_score: float | None) -> str:
        """Return one photo's tags at a threshold (None: each label's own), or the nearest guesses."""
        tags = tags_at(answer, self.thresholds, min_score)
        if tags:
            count = f"{len(tags)} tag{'s' * (len(tags) != 1)}"
            trees = grouped(tags, answer.scores, self.hierarchy)
            body = "".join(self._tree(tree, min_score) for tree in trees)
        else:
            count = "No tags"
            body = (
                '<div class="p-none"><p>I see nothing that I know in this photo.</p><p>None of my '
                f"{len(self.labels):,} labels is likely enough. That is a normal answer, not an error.</p></div>"
            )
        return (
            f'<section class="p-result p-card" aria-label="Tags"><header><h2>{count}</h2><p class="p-facts">'
            f"<span>{answer.width} × {answer.height} px</span><span>decode <b>{answer.decode_ms:.0f} ms</b></span>"
            f"<span>model <b>{answer.model_ms:.0f} ms</b></span></p></header>"
            f"{body}{self._near(answer, tags, min_score)}</section>"
        )

    def heat(self, picture: Image.Image, label_index: int, score: float, drop: float) -> str:
        """Return the heat map as a figure, explained in words.

        Args:
            picture: photo and map, as from `heatmap.overlay`.
            label_index: the label that the map is for.
            score: the label's score on the whole photo.
            drop: how far its log-odds fall when the part that matters most is covered.
        """
        label = escape(self.labels[label_index])
        if drop < FLAT:
            meaning = "No single part is decisive: covering any one of them hardly changes the score."
        else:
            meaning = (
                "The brighter a part glows, the more it counts. Without the brightest part, the score falls from "
                f"<b>{escape(percent(score))}</b> to <b>{escape(percent(lowered(score, drop)))}</b>."
            )
        return (
            f'<figure class="p-heat p-card"><img alt="Heat map: where the model sees {label}" '
            f'src="{data_uri(picture)}">'
            f"<figcaption><strong>Where I see “{label}”</strong> {meaning} Dark edges are outside the square that the "
            "model looks at.</figcaption></figure>"
        )

    def _tree(self, root: Branch, min_score: float | None) -> str:
        if not root.children:
            return f'<ul class="p-tree p-single">{self._item(root, min_score)}</ul>'
        children = "".join(self._item(child, min_score) for child in root.children)
        return f'<div class="p-group">{self._bar(root, min_score, "p-head")}<ul class="p-tree">{children}</ul></div>'

    def _item(self, branch: Branch, min_score: float | None) -> str:
        children = "".join(self._item(child, min_score) for child in branch.children)
        below = f"<ul>{children}</ul>" if children else ""
        return f"<li>{self._bar(branch, min_score)}{below}</li>"

    def _bar(self, branch: Branch, min_score: float | None, kind: str = "") -> str:
        label = escape(self.labels[branch.index])
        threshold = self.thresholds[branch.index] if min_score is None else min_score
        is_sure = branch.is_tag and branch.score >= self.thresholds[branch.index]
        classes = " ".join(name for name in ("p-tag", kind, "" if is_sure else "p-weak") if name)
        return (
            f'<button type="button" class="{classes}" data-index="{branch.index}" aria-pressed="false" '
            f'title="Show where the model sees “{label}” (needs {escape(percent(threshold))})" '
            f'style="--score:{branch.score:.4f};--threshold:{threshold:.4f}"><span class="p-label">{label}</span>{_EYE}'
            f'<span class="p-score">{escape(percent(branch.score))}</span>'
            '<span class="p-bar" aria-hidden="true"></span></button>'
        )

    def _near(self, answer: Answer, tags: Sequence[int], min_score: float | None) -> str:
        near = nearest(answer, tags)
        if not near:
            return ""
        bars = "".join(self._item(Branch(index, answer.scores[index], False), min_score) for index in near)
        state, title = ("", "Considered, but not likely enough") if tags else (" open", "Nearest guesses")
        return (
            f'<details class="p-near"{state}><summary>{title}</summary><ul class="p-tree">{bars}</ul>'
            '<p class="p-hint">The line in a bar is the score that a tag needs.</p></details>'
        )


def lowered(score: float, drop: float) -> float:
    """Return what is left of a score after its log-odds fall by `drop`.

    >>> round(lowered(0.9, 0.0), 3), round(lowered(0.5, 1.0), 3)
    (0.9, 0.269)
    """
    held = min(max(score, 1e-6), 1 - 1e-6)  # scores are kept to six places
    return 1 / (1 + math.exp(drop) * (1 - held) / held)


def notice(title: str, message: str) -> str:
    """Return what a person reads when a photo cannot be used."""
    text = message[:1].upper() + message[1:]
    return (
        f'<section class="p-notice" role="alert"><h2>{escape(title)}</h2><p>{escape(text)}</p>'
        "<p>Please choose another photo.</p></section>"
    )


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
    """Return thumbnails to click; `data-index` is the number of each."""
    buttons = []
    for index, photo in enumerate(photos):
        with Image.open(photo.path) as image:
            thumbnail = ImageOps.fit(image.convert("RGB"), THUMBNAIL_PX)
        picture = f'<img src="{data_uri(thumbnail)}" alt="{escape(photo.name)}">'
        buttons.append(f'<button type="button" data-index="{index}">{picture}</button>')
    names = ", ".join(escape(photo.credit) for photo in photos if photo.credit)
    by = f'<p class="p-credit">Photos: {names} (Flickr, CC BY 2.0)</p>' if names else ""
    return f'<div class="p-samples"><p>No photo at hand? Try one of these.</p><div>{"".join(buttons)}</div>{by}</div>'


def how_to_call() -> str:
    """Return the curl call to copy."""
    answer = '{"model": …, "results": [{"tags": [{"label": …, "score": …, "parents": […]}], "width": …, "height": …}]}'
    call = parts.curl("The same answer for a program, from a shell", "/v1/tag", before="-F image=@photo.jpg")
    return (
        f'<div class="p-call">{call}<p>It returns <code>{escape(answer)}</code>. All routes and fields: '
        '<a href="../docs">API docs</a>.</p></div>'
    )


def knows(predictor: TagPredictor) -> str:
    """Return all labels under their topmost parents, with a field to search them."""
    groups: dict[str, list[str]] = {}
    inner = {predictor.labels[index] for index in predictor.hierarchy.inner}
    for label, ancestors in zip(predictor.labels, predictor.hierarchy.ancestors, strict=True):
        tops = [name for name in ancestors if not predictor.hierarchy.parents.get(name)]
        for top in tops or ([label] if label in inner else [""]):
            groups.setdefault(top, [])
            if label != top:
                groups[top].append(label)
    lists = []
    for top in sorted(groups, key=lambda name: (not name, name.casefold())):
        items = "".join(f"<li>{escape(label)}</li>" for label in sorted(groups[top], key=str.casefold))
        title = escape(top) or ("others" if len(groups) > 1 else "")
        heading = f"<h3>{title} <span>{len(groups[top])}</span></h3>" if title else ""
        lists.append(f"<div>{heading}<ul>{items}</ul></div>")
    return parts.known_labels(
        f"It gives these {len(predictor.labels):,} labels and no others. Anything else in a photo goes unnamed.",
        names="labels",
        example="dog",
        lists="".join(lists),
    )


def limits(predictor: TagPredictor) -> str:
    """Return what the tagger is not for, with the limits that its card names."""
    return parts.limits(
        NOT_FOR,
        [predictor.bundle.config.card],
        "A score is a calibrated probability: of many tags shown with 80%, about 80% are right, on photos like those "
        "it was checked with. On other photos it may be less.",
        "The heat map is made by occlusion: parts of the photo are blurred one after the other, and where that lowers "
        "the tag's score most, it glows. This works with every model here, because it needs nothing but answers.",
        "Your photo is read on this server, kept there for a quarter of an hour so that this page can show it, and "
        "never used for training.",
    )
