"""Single numbers that every task reports, and how they are printed; what is not defined is None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error, multiclass_accuracy

ECE_BINS = 15
"""Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5."""
MAX_CONFUSIONS = 30
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


def auroc(values: np.ndarray, is_positive: np.ndarray) -> float | None:
    """Return the chance that a positive example has a larger value than another; None where only one kind is there.

    >>> auroc(np.array([-np.inf, 2.0, 900.0, 1000.0]), np.array([False, True, False, True]))
    0.75

    Args:
        values: float [N], of any scale.
        is_positive: bool [N].
    """
    if is_positive.all() or not is_positive.any():
        return None
    ranks = np.unique(values, return_inverse=True)[1].astype(np.float64)  # torchmetrics squeezes values into 0..1
    found = binary_auroc(torch.from_numpy(ranks / max(1.0, ranks.max())), torch.from_numpy(is_positive.astype(int)))
    return round(float(found), DIGITS)


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
    """Return a row for each bin that is not empty: `low`, `high` (its bounds), `confidence`, `accuracy`, `count`.

    A bin is (low, high]; a confidence of exactly 0 is in the first one. Arguments as for `calibration_error`.
    Source: Guo et al. 2017, section 2.
    """
    bins = np.maximum(np.searchsorted(np.linspace(0, 1, ECE_BINS + 1), confidences, side="left") - 1, 0)
    return [
        {
            "low": round(i / ECE_BINS, DIGITS),
            "high": round((i + 1) / ECE_BINS, DIGITS),
            "confidence": round(float(confidences[bins == i].mean()), DIGITS),
            "accuracy": round(float(correct[bins == i].mean()), DIGITS),
            "count": int((bins == i).sum()),
        }
        for i in np.unique(bins).tolist()
    ]


def confusions(targets: np.ndarray, given: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return `label`, `given`, `count` and `of`, the label's examples, for each confusion, the most frequent first.

    Args:
        targets: int [N], places in `names`.
        given: likewise.
        names: labels; -1 is the last.
    """
    support = Counter(targets.tolist())
    pairs = Counter(pair for pair in zip(targets.tolist(), given.tolist(), strict=True) if pair[0] != pair[1])
    rows = [
        {"label": names[target], "given": names[other], "count": count, "of": support[target]}
        for (target, other), count in pairs.items()
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["label"], row["given"]))[:MAX_CONFUSIONS]


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


def table_lines(report: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """Return the metrics as people read them: a line per set, and one for all sets.

    Args:
        report: `sources` (name -> metrics) and `overall`.
        columns: metric -> heading.
    """
    rows = {**report["sources"], "all sets": report["overall"]}
    first = max(map(len, rows))
    widths = [max(7, len(heading)) for heading in columns.values()]
    cells = [("", list(columns.values()))]
    cells += [(name, [_cell(values.get(key)) for key in columns]) for name, values in rows.items()]
    return [
        f"{name:<{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        for name, line in cells
    ]


def confusion_line(confusions: Sequence[Mapping[str, Any]], count: int = 5) -> str:
    """Return the most frequent confusions in one line."""
    pairs = (f"{row['label']} -> {row['given']} ({row['count']} of {row['of']})" for row in confusions[:count])
    return f"most frequent confusions: {', '.join(pairs)}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
