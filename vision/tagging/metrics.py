"""Single numbers from arrays of scores and targets; torchmetrics counts, numpy selects.

A target is 1 (holds), 0 (does not hold) or -1 (unknown); unknown pairs never count. What is not defined is None.
Neighbour: `evaluation` assembles these per set, per label and over everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_accuracy,
    multilabel_average_precision,
    multilabel_stat_scores,
)

from shared.bundle.calibration import reliability_bins
from vision.tagging.taxonomy import UNKNOWN

ECE_BINS = 15
"""Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5."""
DIGITS = 5
"""Decimals that are kept: below one photo in any set that fits on a disk, and readable in config.json."""


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


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float | None:
    """Return the share of photos whose label is among the k best; None where there are not more than k labels.

    Args:
        scores: float [N, num_labels].
        labels: int [N], columns of `scores`.
    """
    num_labels = scores.shape[1]
    if num_labels <= k:
        return None
    accuracy = multiclass_accuracy(
        torch.from_numpy(scores), torch.from_numpy(labels), num_labels, average="micro", top_k=k
    )
    return round(float(accuracy), DIGITS)


def calibration_error(confidences: np.ndarray, correct: np.ndarray) -> float | None:
    """Return the expected calibration error over 15 bins of equal width; None without a judgement.

    Args:
        confidences: float [M] in [0, 1].
        correct: bool [M].
    """
    if len(confidences) == 0:
        return None
    error = binary_calibration_error(
        torch.from_numpy(np.ascontiguousarray(confidences, dtype=np.float64)),
        torch.from_numpy(np.ascontiguousarray(correct).astype(np.int64)),
        n_bins=ECE_BINS,
        norm="l1",
    )
    return round(float(error), DIGITS)


def reliability_rows(confidences: np.ndarray, correct: np.ndarray) -> list[dict[str, float | int]]:
    """Return a row a bin that is not empty: `low`, `high` (its bounds), `confidence`, `accuracy`, `count`.

    Arguments as for `calibration_error`, one judgement at least.
    """
    bins = reliability_bins(confidences, correct, bins=ECE_BINS)
    return [
        {
            "low": round(i / ECE_BINS, DIGITS),
            "high": round((i + 1) / ECE_BINS, DIGITS),
            "confidence": round(float(bins.confidence[i]), DIGITS),
            "accuracy": round(float(bins.accuracy[i]), DIGITS),
            "count": int(bins.count[i]),
        }
        for i in np.flatnonzero(bins.count).tolist()
    ]


def most_wrong(scores: np.ndarray, targets: np.ndarray, count: int) -> list[int]:
    """Return the rows with the greatest log loss over their known labels, the worst first.

    Args:
        scores: float [N, num_labels].
        targets: int [N, num_labels].
    """
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    loss = -np.where(targets == 1, np.log(clipped), np.where(targets == 0, np.log1p(-clipped), 0)).sum(axis=1)
    return [int(row) for row in np.argsort(-loss, kind="stable")[:count]]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are defined.

    >>> mean([1.0, None, 2.0]), mean([None])
    (1.5, None)
    """
    defined = [value for value in values if value is not None]
    return round(float(np.mean(defined)), DIGITS) if defined else None


def weighted_mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Return the weighted mean of the values that are defined.

    >>> weighted_mean([1.0, None, 2.0], [3, 9, 1])
    1.25
    """
    pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    return ratio(sum(value * weight for value, weight in pairs), sum(weight for _, weight in pairs))


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole, None where whole is 0."""
    return round(part / whole, DIGITS) if whole else None
