"""Single numbers that every task reports: calibration error, accuracy, means over what is defined.

What is not defined is None.
Neighbours: the tasks' `evaluation` assembles them; `shared.bundle.calibration` fits what they judge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics.functional.classification import binary_calibration_error, multiclass_accuracy

from shared.bundle.calibration import reliability_bins

ECE_BINS = 15
"""Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5."""
DIGITS = 5
"""Decimals that are kept: below one example in any set that fits on a disk, and readable in config.json."""


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float | None:
    """Return the share of examples whose label is among the k best; None where there are not more than k labels.

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
