"""One photo's answer as the page keeps it between events, and what it shows at a threshold.

The answer is kept in the browser as text: each event may reach another worker, and moving the slider must not run the
model again. So it comes back from outside and is checked like any input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pydantic
from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError

from vision.tagging.taxonomy import Hierarchy

FLOOR = 0.01
"""The lowest score that the slider reaches; lower scores are not kept."""
NEAREST = 3
"""Best labels that are kept whatever their score: the nearest guesses if nothing is sure enough."""
MAX_SHOWN = 60
"""Most tags shown: at a low threshold, a model with a thousand labels has many."""


@pydantic.dataclasses.dataclass(frozen=True)
class Answer:
    """Scores of one photo and how long they took."""

    scores: dict[NonNegativeInt, Annotated[float, Field(ge=0, le=1)]]
    """Label index -> calibrated probability, for the labels that any threshold of the page can show."""
    width: NonNegativeInt
    height: NonNegativeInt
    decode_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    model_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    version: str
    """Of the model: label numbers of another one mean something else."""
    given: list[NonNegativeInt]
    """The labels that are tags at their own thresholds, as the service gives them."""
    is_foreign: bool = False
    """Whether the photo is unlike all that the model learned, so that none is."""

    @classmethod
    def of(
        cls,
        scores: np.ndarray,
        given: np.ndarray,
        *,
        size: tuple[int, int],
        decode_ms: float,
        model_ms: float,
        version: str,
        is_foreign: bool = False,
    ) -> Answer:
        """Return the answer for one photo.

        Args:
            scores: [num_labels], calibrated.
            given: bool [num_labels], the tags at the labels' own thresholds.
            size: width and height of the photo.
            decode_ms: reading the file.
            model_ms: preprocessing and network.
            version: of the model.
            is_foreign: whether it gets no tag of its own accord.
        """
        kept = np.flatnonzero((scores >= FLOOR) | given)
        best = np.argsort(-scores, kind="stable")[:NEAREST]
        indices = sorted({int(index) for index in (*kept, *best)})
        kept_scores = {i: round(float(scores[i]), 6) for i in indices}
        tags = np.flatnonzero(given).tolist()
        return cls(kept_scores, *size, round(decode_ms, 1), round(model_ms, 1), version, tags, is_foreign)

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return _JSON.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: object, num_labels: int, version: str) -> Answer | None:
        """Return the answer that the browser kept, or None if it has none of this model or sends something else."""
        try:
            answer = _JSON.validate_json(text if isinstance(text, str) else "")
        except ValidationError:
            return None
        is_ours = answer.version == version and all(index < num_labels for index in answer.scores)
        is_ours = is_ours and answer.scores.keys() >= set(answer.given)
        return answer if is_ours else None


_JSON = TypeAdapter(Answer)


@dataclass
class Branch:
    """A label that is shown, with the labels shown below it."""

    index: int
    score: float
    is_tag: bool
    """False: it does not reach its threshold and is shown only as the heading of one that does."""
    children: list[Branch] = field(default_factory=list)


def tags_at(answer: Answer, min_score: float | None) -> list[int]:
    """Return the labels that reach `min_score`, or those given of their own accord if that is None, best first."""
    order = sorted(answer.scores, key=lambda index: -answer.scores[index])
    given = set(answer.given)
    return [i for i in order if (i in given if min_score is None else answer.scores[i] >= min_score)][:MAX_SHOWN]


def nearest(answer: Answer, tags: Sequence[int], count: int = NEAREST) -> list[int]:
    """Return the best labels that are not tags, best first."""
    order = sorted(answer.scores, key=lambda index: -answer.scores[index])
    return [index for index in order if index not in set(tags)][:count]


def grouped(tags: Sequence[int], scores: Mapping[int, float], hierarchy: Hierarchy) -> list[Branch]:
    """Return the tags as trees below their topmost parents; each label appears once, under its most probable parent.

    Parents of a tag are in the tree even if they miss their own threshold. Trees with children come first, and
    within a level the most probable label.
    """
    tag_set = set(tags)
    names = {hierarchy.labels[index] for index in tags}
    names |= {above for index in tags for above in hierarchy.ancestors[index]}
    branches = {name: Branch(i, scores.get(i, 0.0), i in tag_set) for name in names for i in [hierarchy.index[name]]}
    roots = []
    for name, branch in branches.items():
        above = [branches[parent] for parent in hierarchy.parents.get(name, ())]
        if above:
            max(above, key=lambda parent: (parent.score, -parent.index)).children.append(branch)
        else:
            roots.append(branch)
    for branch in branches.values():
        branch.children.sort(key=lambda child: (-child.score, child.index))
    return sorted(roots, key=lambda root: (not root.children, -root.score, root.index))
