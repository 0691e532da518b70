"""How good the tags are: single numbers, and their assembly per set of photos, per label and over everything.

A photo says nothing of many labels (target -1), so every number here is over known (photo, label) pairs only. What is
not defined is None. torchmetrics counts, numpy selects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multilabel_average_precision,
    multilabel_stat_scores,
)

from shared.errors import DataError
from shared.training.metrics import (
    DIGITS,
    MAX_CONFUSIONS,
    calibration_error,
    confusions,
    mean,
    ratio,
    reliability_rows,
    top_k_accuracy,
    weighted_mean,
)
from vision.tagging.taxonomy import UNKNOWN, Hierarchy


@dataclass(frozen=True)
class SourceView:
    """What evaluation must know of one set of photos."""

    name: str
    label_indices: Sequence[int]
    """The set's own labels, as columns of the scores."""
    is_single_label: bool
    """Whether each photo has exactly one own label."""


def evaluate(
    scores: np.ndarray,
    targets: np.ndarray,
    source_ids: np.ndarray,
    sources: Sequence[SourceView],
    hierarchy: Hierarchy,
    thresholds: np.ndarray,
    foreign: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return every metric that the model card shows, as JSON-able values; None where a metric is not defined.

    `sources` -> name:
      - `examples`, `labels` (own labels that occur)
      - `top1`, `top5`: single-label sets only; the best of the set's own labels against the photo's own label. Where
        own labels are parents of one another, a tie goes to the more specific one. `top5` needs more than five labels.
      - `map`: mean average precision over own labels; `parents_map`: over labels that are parents and not
        the set's own. Both take only labels that hold on at least one photo and not on all.
      - `macro_f1`: at the labels' thresholds, mean over own labels that occur.
      - `ece`: expected calibration error, 15 bins of equal width. For a single-label set the score of the best own
        label against its being right, one judgement per photo: pairs would be mostly easy negatives, and their error is
        near 0 whatever the model does. For a multi-label set all known pairs of photos and own labels.
    `overall`: `quality` as in `validation_summary`; `map`, `micro_f1`, `macro_f1`, `micro_precision`, `micro_recall`
        over all known pairs; `top1` and `ece` as means of the sets' values, weighted by photos; `ece_given`, the
        calibration error over the tags that are given (score at or above the threshold); `untagged`, the share of
        photos that get no tag, and `foreign`, of those that get none whatever their scores.
    `per_label`: one row per label that is known on some photo.
    `confusions`: own label, given own label, count; the most frequent first.
    `reliability` -> name: the bins behind `ece`, as `reliability_rows` gives them.

    Args:
        scores: float [N, num_labels], calibrated and reconciled.
        targets: int8 [N, num_labels]; 1 holds, 0 does not hold, -1 unknown.
        source_ids: int [N], positions in `sources`.
        thresholds: float [num_labels].
        foreign: bool [N], photos that get no tag whatever their scores; None for none.

    Raises:
        DataError: there is no photo, or a photo of a single-label set has not exactly one own label.
    """
    _check(scores, targets, source_ids, hierarchy)
    parts = list(_parts(scores, targets, source_ids, sources, hierarchy))
    sizes = [len(part.scores) for part in parts]
    familiar = np.ones(len(scores), dtype=bool) if foreign is None else ~foreign
    given = hierarchy.given(scores, thresholds) & familiar[:, np.newaxis]
    per_label = _per_label(scores, targets, given, hierarchy.labels, thresholds)
    found = {part.view.name: _source_metrics(part, thresholds, familiar[part.rows]) for part in parts}
    hits = int((given & (targets == 1)).sum())
    false_alarms = int((given & (targets == 0)).sum())
    misses = int((~given & (targets == 1)).sum())
    given_known = given & (targets != UNKNOWN)
    overall = {
        "examples": len(scores),
        "labels": sum(row["support"] > 0 for row in per_label),
        "quality": mean([values["map"] if values["top1"] is None else values["top1"] for values in found.values()]),
        "map": mean([row["ap"] for row in per_label]),
        "macro_f1": mean([row["f1"] for row in per_label if row["support"]]),
        "micro_f1": ratio(2 * hits, 2 * hits + false_alarms + misses),
        "micro_precision": ratio(hits, hits + false_alarms),
        "micro_recall": ratio(hits, hits + misses),
        "top1": weighted_mean([values["top1"] for values in found.values()], sizes),
        "ece": weighted_mean([values["ece"] for values in found.values()], sizes),
        "ece_given": calibration_error(scores[given_known], targets[given_known] == 1),
        "untagged": ratio(int((~given.any(axis=1)).sum()), len(scores)),
        "foreign": ratio(int((~familiar).sum()), len(scores)),
    }
    return {
        "overall": overall,
        "sources": found,
        "per_label": per_label,
        "confusions": _confusions(parts, hierarchy),
        "reliability": {part.view.name: reliability_rows(*part.judgements) for part in parts},
    }


def validation_summary(
    scores: np.ndarray,
    targets: np.ndarray,
    source_ids: np.ndarray,
    sources: Sequence[SourceView],
    hierarchy: Hierarchy,
) -> dict[str, float]:
    """Return what is logged after each epoch: `quality`, `map`, `top1`, `ece`; `top1/NAME`, `map/NAME` for each set.

    Checkpoints are chosen by `quality`: the mean over the sets, each with equal weight, of top1 where a photo
    has one label and of map where it has several; NaN where no set has either. The others are as in `evaluate`, but
    thresholds are not fitted yet, so nothing depends on them. What is not defined of them is left out.
    """
    _check(scores, targets, source_ids, hierarchy)
    parts = list(_parts(scores, targets, source_ids, sources, hierarchy))
    sizes = [len(part.scores) for part in parts]
    top1 = [part.top_k(1) for part in parts]
    own_map = [mean(average_precisions(part.own_scores, part.own_targets)) for part in parts]
    quality = mean(
        [precision if accuracy is None else accuracy for accuracy, precision in zip(top1, own_map, strict=True)]
    )
    values: dict[str, float | None] = {
        "quality": float("nan") if quality is None else quality,
        "map": mean(average_precisions(scores, targets)),
        "top1": weighted_mean(top1, sizes),
        "ece": weighted_mean([calibration_error(*part.judgements) for part in parts], sizes),
    }
    if len(parts) > 1:
        for part, accuracy, precision in zip(parts, top1, own_map, strict=True):
            values[f"top1/{part.view.name}"] = accuracy
            values[f"map/{part.view.name}"] = precision
    return {name: value for name, value in values.items() if value is not None}


def average_precisions(scores: np.ndarray, targets: np.ndarray) -> list[float | None]:
    """Return each label's average precision over known photos; None where it holds on none or on all of them.

    Args:
        scores: float [N, num_labels] in [0, 1].
        targets: int [N, num_labels].
    """
    result: list[float | None] = [None] * scores.shape[1]
    columns = np.flatnonzero((targets == 1).any(axis=0) & (targets == 0).any(axis=0))
    if len(columns):
        values = multilabel_average_precision(
            torch.from_numpy(scores[:, columns].clip(0, 1)),
            torch.from_numpy(targets[:, columns].astype(np.int64)),
            num_labels=len(columns),
            average=None,
            ignore_index=UNKNOWN,
            validate_args=False,
        )
        for column, value in zip(columns, values.reshape(-1).tolist(), strict=True):
            result[column] = round(value, DIGITS)
    return result


def confusion_counts(given: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return int64 [num_labels, 4]: true positives, false positives, true negatives, false negatives of known pairs.

    Args:
        given: bool [N, num_labels], whether the label was given.
        targets: int [N, num_labels].
    """
    counts = multilabel_stat_scores(
        torch.from_numpy(given.astype(np.int64)),
        torch.from_numpy(targets.astype(np.int64)),
        num_labels=targets.shape[1],
        average=None,
        ignore_index=UNKNOWN,
        validate_args=False,
    )
    return np.asarray(counts.numpy()).reshape(targets.shape[1], 5)[:, :4]  # the fifth column is the support


def f1_scores(counts: np.ndarray) -> list[float | None]:
    """Return 2 TP / (2 TP + FP + FN) of each row of `confusion_counts`."""
    return [ratio(2 * tp, 2 * tp + fp + fn) for tp, fp, _, fn in counts.tolist()]


def most_wrong(scores: np.ndarray, targets: np.ndarray, count: int) -> list[int]:
    """Return the rows with the greatest log loss over their known labels, the worst first.

    Args:
        scores: float [N, num_labels].
        targets: int [N, num_labels].
    """
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    loss = -np.where(targets == 1, np.log(clipped), np.where(targets == 0, np.log1p(-clipped), 0)).sum(axis=1)
    return [int(row) for row in np.argsort(-loss, kind="stable")[:count]]


@dataclass(frozen=True)
class _Part:
    """The photos of one set, with the columns of its own labels beside the whole."""

    view: SourceView
    rows: np.ndarray
    """int [n]: its photos' places among all."""
    scores: np.ndarray  # [n, num_labels]
    targets: np.ndarray  # [n, num_labels]
    own_scores: np.ndarray  # [n, own]; slightly less for each own label below, so that ties go to the specific label
    own_targets: np.ndarray  # [n, own]
    own_label: np.ndarray | None  # int [n], position among the own labels; None for a multi-label set
    inner: np.ndarray  # int [k], columns of labels that are parents and not the set's own

    @property
    def judgements(self) -> tuple[np.ndarray, np.ndarray]:
        """What the calibration error is over: (confidences float [m], correct bool [m])."""
        if self.own_label is None:
            known = self.own_targets != UNKNOWN
            return self.own_scores[known].clip(0, 1), self.own_targets[known] == 1
        best = self.own_scores.argmax(axis=1)
        return self.own_scores.max(axis=1).clip(0, 1), best == self.own_label

    def top_k(self, k: int) -> float | None:
        return None if self.own_label is None else top_k_accuracy(self.own_scores, self.own_label, k)


def _parts(
    scores: np.ndarray,
    targets: np.ndarray,
    source_ids: np.ndarray,
    sources: Sequence[SourceView],
    hierarchy: Hierarchy,
) -> Iterator[_Part]:
    """Yield the sets that have photos."""
    for i, view in enumerate(sources):
        rows = np.flatnonzero(source_ids == i)
        if len(rows) == 0:
            continue
        own = np.array(view.label_indices, dtype=np.int64)
        above = _is_above(view.label_indices, hierarchy)
        own_targets = targets[rows][:, own]
        yield _Part(
            view=view,
            rows=rows,
            scores=scores[rows],
            targets=targets[rows],
            own_scores=scores[rows][:, own].astype(np.float64) - 1e-12 * above.sum(axis=1),
            own_targets=own_targets,
            own_label=_own_label(own_targets, above, view.name) if view.is_single_label else None,
            inner=np.setdiff1d(np.array(hierarchy.inner, dtype=np.int64), own),
        )


def _is_above(columns: Sequence[int], hierarchy: Hierarchy) -> np.ndarray:
    """Return bool [k, k]; [i, j]: own label i is an ancestor of own label j."""
    names = [hierarchy.labels[column] for column in columns]
    return np.array([[name in hierarchy.ancestors[column] for column in columns] for name in names], dtype=bool)


def _own_label(own_targets: np.ndarray, above: np.ndarray, name: str) -> np.ndarray:
    """Return int [n]: the own label of each photo, the most specific where its ancestors hold with it."""
    holds = own_targets == 1  # [n, own]
    implied = holds.astype(np.int32) @ above.T.astype(np.int32) > 0  # [n, own]: an ancestor of one that holds
    specific = holds & ~implied
    counts = specific.sum(axis=1)
    if (counts != 1).any():
        row = int(np.flatnonzero(counts != 1)[0])
        raise DataError(
            f"{name} is a set with one label per photo, but {int((counts != 1).sum())} of its {len(counts)} photos "
            f"have none or several (the first: photo {row} with {int(counts[row])}). Evaluate it as a multi-label set."
        )
    return np.asarray(specific.argmax(axis=1))


def _source_metrics(part: _Part, thresholds: np.ndarray, familiar: np.ndarray) -> dict[str, Any]:
    own = list(part.view.label_indices)
    given = (part.scores[:, own] >= thresholds[own]) & familiar[:, np.newaxis]
    counts = confusion_counts(given, part.own_targets)
    occurs = (part.own_targets == 1).any(axis=0)
    return {
        "examples": len(part.scores),
        "labels": int(occurs.sum()),
        "top1": part.top_k(1),
        "top5": part.top_k(5),
        "map": mean(average_precisions(part.own_scores, part.own_targets)),
        "macro_f1": mean([f1 for f1, holds in zip(f1_scores(counts), occurs, strict=True) if holds]),
        "parents_map": mean(average_precisions(part.scores[:, part.inner], part.targets[:, part.inner])),
        "ece": calibration_error(*part.judgements),
    }


def _per_label(
    scores: np.ndarray, targets: np.ndarray, given: np.ndarray, labels: Sequence[str], thresholds: np.ndarray
) -> list[dict[str, Any]]:
    precisions = average_precisions(scores, targets)
    counts = confusion_counts(given, targets)
    f1 = f1_scores(counts)
    return [
        {
            "label": label,
            "support": int(tp + fn),
            "known": int(tp + fp + tn + fn),
            "ap": precisions[i],
            "f1": f1[i],
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, tp + fn),
            "threshold": round(float(thresholds[i]), DIGITS),
        }
        for i, (label, (tp, fp, tn, fn)) in enumerate(zip(labels, counts.tolist(), strict=True))
        if tp + fp + tn + fn
    ]


def _confusions(parts: Sequence[_Part], hierarchy: Hierarchy) -> list[dict[str, Any]]:
    rows = []
    for part in parts:
        if part.own_label is not None:
            names = [hierarchy.labels[column] for column in part.view.label_indices]
            found = confusions(part.own_label, part.own_scores.argmax(axis=1), names)
            rows += [{"source": part.view.name, **row} for row in found]
    return sorted(rows, key=lambda row: (-row["count"], row["label"], row["given"]))[:MAX_CONFUSIONS]


def _check(scores: np.ndarray, targets: np.ndarray, source_ids: np.ndarray, hierarchy: Hierarchy) -> None:
    assert scores.shape == targets.shape == (len(source_ids), len(hierarchy.labels))
    if len(scores) == 0:
        raise DataError("there is no photo to evaluate on. Choose a split that has photos.")
