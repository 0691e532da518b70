"""What is compared: the records of a while, and what the bundle says of its validation data, in one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shared.bundle.layout import AnswerDecision, IntentDecision, TagDecision
from shared.bundle.read import Bundle
from shared.bundle.reference import Reference
from shared.intervals import effective

NO_ANSWER = {
    "intent": ("out_of_scope", "out of scope"),
    "tagging": ("untagged", "without a tag"),
    "qa": ("unanswerable", "without an answer"),
}
"""Task -> the outcome in records that gives nothing, and how people call it."""
SIZES = ("characters", "context_characters", "width", "height")
FAR = 0.99
"""What is farther from the mean of the reference's features than this share of them is called far."""


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Sample:
    """Numbers that each count for so many: a record for 1 / the share of its like that was kept."""

    values: np.ndarray
    """float64 [N]."""
    weights: np.ndarray
    """float64 [N], above 0."""

    @property
    def mean(self) -> float:
        """The weighted mean."""
        return float(np.average(self.values, weights=self.weights))

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return float(np.sqrt(np.average((self.values - self.mean) ** 2, weights=self.weights)))

    @property
    def skewness(self) -> float:
        """The third moment by the standard deviation's third power; 0 if all are the same."""
        if self.deviation == 0:
            return 0.0
        return float(np.average((self.values - self.mean) ** 3, weights=self.weights)) / self.deviation**3

    @property
    def size(self) -> float:
        """How many numbers of weight 1 would say as much about the mean; N if all weights are the same.

        Source: Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data", Survey Methodology 24.
        """
        total = float(self.weights.sum())
        error = float((self.weights**2 * (self.values - self.mean) ** 2).sum()) / total**2
        return self.deviation**2 / error if error > 0 else effective(self.weights)

    def quantiles(self, *shares: float) -> list[float]:
        """Return the values below which these shares of the weight lie."""
        order = np.argsort(self.values, kind="stable")
        below = np.cumsum(self.weights[order]) / self.weights.sum()
        places = np.minimum(np.searchsorted(below, shares), len(order) - 1)
        return [float(value) for value in self.values[order][places]]


def plain(values: np.ndarray) -> Sample:
    """Return numbers that count for one each."""
    return Sample(np.asarray(values, dtype=np.float64), np.ones(len(values)))


@dataclass(frozen=True, eq=False)
class Window:
    """What a model answered in a while, or on its validation data."""

    name: str
    """As sentences call it."""
    rows: int
    confidence: Sample
    without: Sample | None
    """1 for each that got no intent, tag or answer, else 0; None where a bundle does not say."""
    label_shares: np.ndarray | None
    """float64 [num_labels]: share that gets each label; None of answers, which have none."""
    size: float
    """How many records of weight 1 would say as much about labels."""
    features: np.ndarray | None = None
    """float32 [M, D]."""
    sizes: Mapping[str, Sample] = field(default_factory=dict)
    """Of the inputs, as far as records have them."""
    out_of_scope: Sample | None = None
    """Out-of-scope scores, of tasks that have them."""

    def with_size(self, name: str, sample: Sample | None) -> Window:
        """Return the same with one more size of the inputs; as it is for None."""
        return self if sample is None else replace(self, sizes={**self.sizes, name: sample})


def of_reference(bundle: Bundle, reference: Reference) -> Window:
    """Return what a bundle says of its validation data."""
    confidence = reference.confidence
    shares = reference.label_shares.astype(np.float64)
    return Window(
        "validation data",
        len(confidence),
        plain(confidence),
        _without(bundle, reference),
        None if bundle.config.task == "qa" else shares,
        float(len(confidence)),
        None if reference.features is None else reference.features.astype(np.float32),
        out_of_scope=None if reference.out_of_scope is None else plain(reference.out_of_scope),
    )


def of_records(bundle: Bundle, rows: Sequence[Mapping[str, Any]], name: str) -> Window:
    """Return what records say; there is at least one.

    Args:
        bundle: of the model that answered.
        rows: as `Store.newest` gives them.
        name: as sentences call it.
    """
    outcome, _ = NO_ANSWER[bundle.config.task]
    weights = weights_of(rows)
    numbers = np.array([np.nan if row["confidence"] is None else row["confidence"] for row in rows], dtype=np.float64)
    scores = np.array([np.nan if row["out_of_scope_score"] is None else row["out_of_scope_score"] for row in rows])
    has_score = ~np.isnan(scores)
    sizes = {}
    for size in SIZES:
        given = [place for place, row in enumerate(rows) if row[size] is not None]
        if given:
            sizes[size] = Sample(np.array([rows[place][size] for place in given], dtype=np.float64), weights[given])
    return Window(
        name,
        len(rows),
        Sample(numbers[~np.isnan(numbers)], weights[~np.isnan(numbers)]),
        Sample(np.array([row["outcome"] == outcome for row in rows], dtype=np.float64), weights),
        None if bundle.config.task == "qa" else _label_shares(bundle, rows, weights),
        effective(weights),
        _features(rows),
        sizes,
        Sample(scores[has_score], weights[has_score]) if has_score.any() else None,
    )


def is_far(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return bool [N]: which features are farther from the mean of the reference's than `FAR` of these.

    Args:
        features: float [N, D].
        reference: float [M, D].
    """
    centre = reference.mean(axis=0)
    limit = np.quantile(np.linalg.norm(reference - centre, axis=1), FAR)
    return np.asarray(np.linalg.norm(features - centre, axis=1) > limit)


def weights_of(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return float64 [N]: for how many each record counts."""
    return np.array([1 / row["share"] for row in rows], dtype=np.float64)


def _without(bundle: Bundle, reference: Reference) -> Sample | None:
    decision = bundle.config.decision
    if isinstance(decision, IntentDecision) and reference.out_of_scope is not None:
        return plain(1 - reference.out_of_scope < decision.abstain_below)
    if isinstance(decision, AnswerDecision):
        return plain(reference.confidence < decision.abstain_below)
    if reference.without is not None:
        return plain(reference.without)
    if isinstance(decision, TagDecision) and decision.abstain_below is None:
        thresholds = set(decision.thresholds.values())
        if len(thresholds) == 1:  # with several, the best score alone does not tell whether any tag is given
            return plain(reference.confidence < thresholds.pop())
    return None


def _label_shares(bundle: Bundle, rows: Sequence[Mapping[str, Any]], weights: np.ndarray) -> np.ndarray:
    shares = np.zeros(len(bundle.labels))
    for row, weight in zip(rows, weights, strict=True):
        for label in row["labels"]:
            if label in bundle.config.label2id:  # another version may have others
                shares[bundle.config.label2id[label]] += weight
    shares /= weights.sum()
    return shares


def _features(rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Return those of the newest record's length: other versions may have others."""
    kept = [np.frombuffer(row["features"], dtype="<f2") for row in rows if row["features"]]
    if not kept:
        return None
    return np.stack([each for each in kept if len(each) == len(kept[0])]).astype(np.float32)
