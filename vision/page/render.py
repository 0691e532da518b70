"""An answer as HTML: tags as bars under their parents, nearest guesses, the heat map, errors. Every label is escaped.

Neighbours: `answer` says what is shown, `texts` holds what stands around it, `page.css` says how it looks.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

from PIL import Image

from vision.heatmap import FLAT
from vision.page.answer import Answer, Branch, grouped, nearest, tags_at
from vision.tagging.predictor import TagPredictor

WAITING = (
    '<section class="p-result p-card p-waiting" aria-label="Tags"><h2>Tags</h2>'
    "<p>Choose a photo, and what I see in it appears here.</p></section>"
)
JPEG_QUALITY = 85
_EYE = (
    '<svg class="p-eye" viewBox="0 0 24 24" aria-hidden="true"><path d="M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 '
    '6.5S2 12 2 12Z"/><circle cx="12" cy="12" r="3"/></svg>'
)


def percent(score: float) -> str:
    """Return a score as people read it; never 100 or 0, which no model can know.

    >>> [percent(score) for score in (0.9996, 0.973, 0.052, 0.001)]
    ['>99%', '97%', '5%', '<1%']
    """
    if score >= 0.995:
        return ">99%"
    return "<1%" if score < 0.01 else f"{score * 100:.0f}%"


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
                '<div class="p-none"><p>Nothing I know is in this photo.</p><p>None of my '
                f"{len(self.labels):,} labels is likely enough here. That is a normal answer, not an error.</p></div>"
            )
        return (
            f'<section class="p-result p-card" aria-label="Tags"><header><h2>{count}</h2><p class="p-facts">'
            f"<span>{answer.width} × {answer.height} px</span><span>decode <b>{answer.decode_ms:.0f} ms</b></span>"
            f"<span>model <b>{answer.model_ms:.0f} ms</b></span></p></header>"
            f"{body}{self._near(answer, tags, min_score)}</section>"
        )

    def heat(self, picture: Image.Image, label_index: int, score: float, drop: float) -> str:
        """Return the heat map as a figure with its meaning in words.

        Args:
            picture: photo and map, as from `heatmap.overlay`.
            label_index: what the map is of.
            score: the label's score on the whole photo.
            drop: by how much its log-odds fall where the part that matters most is covered.
        """
        label = escape(self.labels[label_index])
        if drop < FLAT:
            meaning = "No single part decides: covering any one of them hardly changes the score."
        else:
            meaning = (
                f"The glow marks what speaks for it. Without the brightest part, “{label}” falls from "
                f"<b>{escape(percent(score))}</b> to <b>{escape(percent(lowered(score, drop)))}</b>."
            )
        return (
            f'<figure class="p-heat p-card"><img alt="Heat map: where the model sees {label}" '
            f'src="{data_uri(picture)}">'
            f"<figcaption><strong>Where I see “{label}”</strong> {meaning} Darkened edges are outside the square that "
            "the model looks at.</figcaption></figure>"
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
            '<p class="p-hint">The line in a bar is the score that the tag needs.</p></details>'
        )


def lowered(score: float, drop: float) -> float:
    """Return what is left of a score when its log-odds fall by `drop`.

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
