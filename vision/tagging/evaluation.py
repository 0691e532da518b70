"""How good the tags are: metrics per set of photos, per label and over everything. torchmetrics counts, numpy selects.

A photo says nothing of many labels (target -1), so every number here is over known (photo, label) pairs only.
Neighbours: `module` calls `validation_summary` after each epoch; the end of a run and `percept evaluate` call `evaluate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_accuracy,
    multilabel_average_precision,
    multilabel_stat_scores,
)

from shared.bundle.calibration import reliability_bins
from shared.errors import DataError
from vision.tagging.taxonomy import UNKNOWN, Hierarchy

ECE_BINS = 15
"""Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5."""
MAX_CONFUSIONS = 30
DIGITS = 5
"""Decimals that are kept: below one photo in any set that fits on a disk, and readable in config.json."""


@dataclass(frozen=True)
class SourceView:
    """What evaluation must know of one set of photos."""

    name: str
    label_indices: tuple[int, ...]
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
) -> dict[str, Any]:
    """Return every metric that the model card shows, as JSON-able values; None where a metric is not defined.

    `sources` -> name:
      - `examples`, `labels` (own labels that occur)
      - `top1`, `top5`: single-label sets only; the best of the set's own labels against the photo's own label. Where own
        labels stand above one another, a tie goes to the more specific one. `top5` needs more than five own labels.
      - `map`: mean average precision over own labels; `parents_map`: over labels that stand above others and are not
        the set's own. Both take only labels that hold on one photo at least and do not hold on another.
      - `macro_f1`: at the labels' thresholds, mean over own labels that occur.
      - `ece`: expected calibration error, 15 bins of equal width. For a single-label set the score of the best own label
        against its being right, one judgement a photo: pairs would be mostly easy negatives, and their error is near 0
        whatever the model does. For a multi-label set all pairs of photos and own labels.
    `overall`: `map`, `micro_f1`, `macro_f1`, `micro_precision`, `micro_recall` over all known pairs; `top1` and `ece` as
        means of the sets' values, weighted by photos; `ece_given`, the calibration error over the tags that are given
        (score at or above the threshold); `untagged`, the share of photos that get no tag.
    `per_label`: one row a label that is known on some photo.
    `confusions`: own label, given own label, count; the most frequent first.
    `reliability` -> name: the bins behind `ece`.

    Args:
        scores: float [N, num_labels], calibrated and reconciled.
        targets: int8 [N, num_labels]; 1 holds, 0 does not hold, -1 unknown.
        source_ids: int [N], positions in `sources`.
        thresholds: float [num_labels].

    Raises:
        DataError: there is no photo, or a photo of a single-label set has not exactly one own label.
    """
    _check(scores, targets, source_ids, hierarchy)
    parts = list(_parts(scores, targets, source_ids, sources, hierarchy))
    given = scores >= thresholds
    per_label = _per_label(scores, targets, given, hierarchy.labels, thresholds)
    found = {part.view.name: _source_metrics(part, per_label_thresholds=thresholds) for part in parts}
    known = targets != UNKNOWN
    hits, false_alarms, misses = (
        int((given & (targets == 1)).sum()),
        int((given & (targets == 0)).sum()),
        int((~given & (targets == 1)).sum()),
    )
    given_known = given & known
    overall = {
        "examples": len(scores),
        "labels": sum(row["support"] > 0 for row in per_label),
        "map": _mean([row["ap"] for row in per_label]),
        "macro_f1": _mean([row["f1"] for row in per_label if row["support"]]),
        "micro_f1": _ratio(2 * hits, 2 * hits + false_alarms + misses),
        "micro_precision": _ratio(hits, hits + false_alarms),
        "micro_recall": _ratio(hits, hits + misses),
        "top1": _weighted_mean(parts, [found[part.view.name]["top1"] for part in parts]),
        "ece": _weighted_mean(parts, [found[part.view.name]["ece"] for part in parts]),
        "ece_given": _ece(scores[given_known], targets[given_known] == 1),
        "untagged": _ratio(int((~given.any(axis=1)).sum()), len(scores)),
    }
    return {
        "overall": overall,
        "sources": found,
        "per_label": per_label,
        "confusions": _confusions(parts, hierarchy),
        "reliability": {
            part.view.name: [_rounded(row) for row in reliability_bins(*part.judgements, bins=ECE_BINS)]
            for part in parts
        },
    }


def validation_summary(
    scores: np.ndarray,
    targets: np.ndarray,
    source_ids: np.ndarray,
    sources: Sequence[SourceView],
    hierarchy: Hierarchy,
) -> dict[str, float]:
    """Return what is logged after each epoch: `quality`, `map`, `top1`, `ece`, and `top1/NAME`, `map/NAME` for each set.

    `quality` is what checkpoints are chosen by: the mean over the sets, each with equal weight, of top1 where a photo has
    one label and of map where it has several. The others are as in `evaluate`, but thresholds are not fitted yet, so
    nothing depends on them. What is not defined is left out.
    """
    _check(scores, targets, source_ids, hierarchy)
    parts = list(_parts(scores, targets, source_ids, sources, hierarchy))
    top1 = [part.top_k(1) for part in parts]
    own_map = [_mean(_average_precisions(part.own_scores, part.own_targets)) for part in parts]
    values: dict[str, float | None] = {
        "quality": _mean([b if a is None else a for a, b in zip(top1, own_map, strict=True)]),
        "map": _mean(_average_precisions(scores, targets)),
        "top1": _weighted_mean(parts, top1),
        "ece": _weighted_mean(parts, [_ece(*part.judgements) for part in parts]),
    }
    if len(parts) > 1:
        for part, accuracy, precision in zip(parts, top1, own_map, strict=True):
            values[f"top1/{part.view.name}"] = accuracy
            values[f"map/{part.view.name}"] = precision
    return {name: value for name, value in values.items() if value is not None}


def most_wrong(scores: np.ndarray, targets: np.ndarray, count: int) -> list[int]:
    """Return the rows with the greatest log loss over their known labels, the worst first.

    Args:
        scores: float [N, num_labels].
        targets: int8 [N, num_labels]; unknown labels do not count.
    """
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    loss = -np.where(targets == 1, np.log(clipped), np.where(targets == 0, np.log1p(-clipped), 0)).sum(axis=1)
    return [int(row) for row in np.argsort(-loss, kind="stable")[:count]]


@dataclass(frozen=True)
class _Part:
    """The photos of one set, with the columns of its own labels beside the whole."""

    view: SourceView
    scores: np.ndarray  # [n, num_labels]
    targets: np.ndarray  # [n, num_labels]
    own_scores: np.ndarray  # [n, own]; less a trifle for each own label below, so that ties go to the specific label
    own_targets: np.ndarray  # [n, own]
    own_label: np.ndarray | None  # int [n], position among the own labels; None for a multi-label set
    inner: np.ndarray  # int [k], columns of labels that stand above others and are not the set's own

    @property
    def judgements(self) -> tuple[np.ndarray, np.ndarray]:
        """What the calibration error is over: (confidences float [m], correct bool [m])."""
        if self.own_label is None:
            known = self.own_targets != UNKNOWN
            return self.own_scores[known].clip(0, 1), self.own_targets[known] == 1
        best = self.own_scores.argmax(axis=1)
        return self.own_scores.max(axis=1).clip(0, 1), best == self.own_label

    def top_k(self, k: int) -> float | None:
        own = len(self.view.label_indices)
        if self.own_label is None or own <= k:
            return None
        accuracy = multiclass_accuracy(
            torch.from_numpy(self.own_scores), torch.from_numpy(self.own_label), own, average="micro", top_k=k
        )
        return round(float(accuracy), DIGITS)


def _parts(
    scores: np.ndarray,
    targets: np.ndarray,
    source_ids: np.ndarray,
    sources: Sequence[SourceView],
    hierarchy: Hierarchy,
) -> Iterator[_Part]:
    """Yield the sets of which there are photos."""
    for i, view in enumerate(sources):
        rows = np.flatnonzero(source_ids == i)
        if len(rows) == 0:
            continue
        own = np.array(view.label_indices, dtype=np.int64)
        above = _is_above(view.label_indices, hierarchy)
        own_targets = targets[rows][:, own]
        yield _Part(
            view=view,
            scores=scores[rows],
            targets=targets[rows],
            own_scores=scores[rows][:, own].astype(np.float64) - 1e-12 * above.sum(axis=1),
            own_targets=own_targets,
            own_label=_own_label(own_targets, above, view.name) if view.is_single_label else None,
            inner=np.setdiff1d(np.array(hierarchy.inner, dtype=np.int64), own),
        )


def _is_above(columns: Sequence[int], hierarchy: Hierarchy) -> np.ndarray:
    """Return bool [k, k]; [i, j]: own label i stands above own label j."""
    names = [hierarchy.labels[column] for column in columns]
    return np.array([[name in hierarchy.ancestors[column] for column in columns] for name in names], dtype=bool)


def _own_label(own_targets: np.ndarray, above: np.ndarray, name: str) -> np.ndarray:
    """Return int [n]: the own label of each photo, the most specific where labels that stand above it hold with it."""
    holds = own_targets == 1  # [n, own]
    implied = holds.astype(np.int32) @ above.T.astype(np.int32) > 0  # [n, own]: stands above one that holds
    specific = holds & ~implied
    counts = specific.sum(axis=1)
    if (counts != 1).any():
        row = int(np.flatnonzero(counts != 1)[0])
        raise DataError(
            f"{name} is a set with one label a photo, but {int((counts != 1).sum())} of its {len(counts)} photos have "
            f"none or several (the first: photo {row} with {int(counts[row])}). Evaluate it as a multi-label set."
        )
    return specific.argmax(axis=1)


def _source_metrics(part: _Part, *, per_label_thresholds: np.ndarray) -> dict[str, Any]:
    own = list(part.view.label_indices)
    counts = _counts(part.scores[:, own] >= per_label_thresholds[own], part.own_targets)
    occurs = (part.own_targets == 1).any(axis=0)
    parents = _average_precisions(part.scores[:, part.inner], part.targets[:, part.inner])
    return {
        "examples": len(part.scores),
        "labels": int(occurs.sum()),
        "top1": part.top_k(1),
        "top5": part.top_k(5),
        "map": _mean(_average_precisions(part.own_scores, part.own_targets)),
        "macro_f1": _mean([f1 for f1, holds in zip(_f1(counts), occurs, strict=True) if holds]),
        "parents_map": _mean(parents),
        "ece": _ece(*part.judgements),
    }


def _per_label(
    scores: np.ndarray, targets: np.ndarray, given: np.ndarray, labels: Sequence[str], thresholds: np.ndarray
) -> list[dict[str, Any]]:
    precisions = _average_precisions(scores, targets)
    counts = _counts(given, targets)
    f1 = _f1(counts)
    return [
        {
            "label": label,
            "support": int(tp + fn),
            "known": int(tp + fp + tn + fn),
            "ap": precisions[i],
            "f1": f1[i],
            "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn),
            "threshold": round(float(thresholds[i]), DIGITS),
        }
        for i, (label, (tp, fp, tn, fn)) in enumerate(zip(labels, counts.tolist(), strict=True))
        if tp + fp + tn + fn
    ]


def _confusions(parts: Sequence[_Part], hierarchy: Hierarchy) -> list[dict[str, Any]]:
    rows = []
    for part in parts:
        if part.own_label is None:
            continue
        names = [hierarchy.labels[column] for column in part.view.label_indices]
        best = part.own_scores.argmax(axis=1)
        support = Counter(part.own_label.tolist())
        wrong = best != part.own_label
        pairs = Counter(zip(part.own_label[wrong].tolist(), best[wrong].tolist(), strict=True))
        rows += [
            {"source": part.view.name, "label": names[a], "given": names[b], "count": n, "of": support[a]}
            for (a, b), n in pairs.items()
        ]
    return sorted(rows, key=lambda row: (-int(row["count"]), str(row["label"]), str(row["given"])))[:MAX_CONFUSIONS]


def _average_precisions(scores: np.ndarray, targets: np.ndarray) -> list[float | None]:
    """Return each label's average precision over known photos; None where it holds on none or on all of them."""
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
        for column, value in zip(columns, values.tolist() if len(columns) > 1 else [float(values)], strict=True):
            result[column] = round(value, DIGITS)
    return result


def _counts(given: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return int [num_labels, 4]: true positives, false positives, true negatives, false negatives of known pairs."""
    counts = multilabel_stat_scores(
        torch.from_numpy(given.astype(np.int64)),
        torch.from_numpy(targets.astype(np.int64)),
        num_labels=targets.shape[1],
        average=None,
        ignore_index=UNKNOWN,
        validate_args=False,
    )
    return np.asarray(counts.numpy()[:, :4])  # the fifth column is the support


def _f1(counts: np.ndarray) -> list[float | None]:
    return [_ratio(2 * tp, 2 * tp + fp + fn) for tp, fp, _, fn in counts.tolist()]


def _ece(confidences: np.ndarray, correct: np.ndarray) -> float | None:
    if len(confidences) == 0:
        return None
    error = binary_calibration_error(
        torch.from_numpy(np.ascontiguousarray(confidences, dtype=np.float64)),
        torch.from_numpy(np.ascontiguousarray(correct).astype(np.int64)),
        n_bins=ECE_BINS,
        norm="l1",
    )
    return round(float(error), DIGITS)


def _check(scores: np.ndarray, targets: np.ndarray, source_ids: np.ndarray, hierarchy: Hierarchy) -> None:
    assert scores.shape == targets.shape == (len(source_ids), len(hierarchy.labels))
    if len(scores) == 0:
        raise DataError("there is no photo to evaluate on. Choose a split that has photos.")


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return round(float(np.mean(defined)), DIGITS) if defined else None


def _weighted_mean(parts: Sequence[_Part], values: Sequence[float | None]) -> float | None:
    pairs = [(value, len(part.scores)) for part, value in zip(parts, values, strict=True) if value is not None]
    return _ratio(sum(value * n for value, n in pairs), sum(n for _, n in pairs))


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, DIGITS) if whole else None


def _rounded(row: Any) -> Any:
    return {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in row.items()}
