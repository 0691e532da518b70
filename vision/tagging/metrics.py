"""Single numbers from arrays of scores and targets; torchmetrics counts, numpy selects.

A target is 1 (holds), 0 (does not hold) or -1 (unknown); unknown pairs never count. What is not defined is None.
Neighbour: `evaluation` assembles these per set, per label and over everything.
"""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multilabel_average_precision,
    multilabel_stat_scores,
)

from shared.training.metrics import DIGITS, ratio
from vision.tagging.taxonomy import UNKNOWN


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
