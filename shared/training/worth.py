"""What a trained model is worth on data that it has not seen: with an interval, beside answers that learn nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.intervals import wilson

DRAWS = 2000
_SEED = 0


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Worth:
    """How good each held-out answer is, and how good those of simpler means are on the same examples."""

    measure: str
    """What the mean of the values is called, such as "accuracy"."""
    values: np.ndarray
    """float [N], 0 to 1."""
    baselines: Mapping[str, np.ndarray]
    """What it is compared with, in words that follow "beside" -> the same of its answers, float [N]."""
    try_next: Sequence[str]
    """What may help where the model is no better, the likeliest first."""

    def summary(self) -> dict[str, Any]:
        """Return the means, the model's 95 % interval, and whether it is surely better than each baseline."""
        low, high = interval(self.values)
        return {
            "measure": self.measure,
            "examples": len(self.values),
            "value": round(float(self.values.mean()), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "baselines": {name: round(float(values.mean()), 4) for name, values in self.baselines.items()},
            "beaten_by": [name for name, values in self.baselines.items() if _resampled(self.values - values)[0] <= 0],
        }


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a mean: Wilson's for yes and no, else by the bootstrap's percentiles.

    Wilson's is honest for few examples and for means near 0 and 1, where resampling sees no doubt at all.

    >>> [round(end, 3) for end in interval(np.ones(10))]
    [0.722, 1.0]
    """
    count, mean = len(values), float(values.mean())
    if np.isin(values, (0, 1)).all():
        low, high = wilson(mean, count)
        return float(low), float(high)
    return _resampled(values)


def _resampled(values: np.ndarray) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a mean, by percentiles."""
    rng = np.random.default_rng(_SEED)
    means = [float(rng.choice(values, len(values)).mean()) for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def worth_lines(summary: Mapping[str, Any], split: str, noun: str, try_next: Sequence[str]) -> list[str]:
    """Return what a run says at its end: the quality, and a warning where the model is not worth serving.

    Args:
        summary: of a `Worth`.
        split: where it was measured.
        noun: what an example is called.
        try_next: what may help.
    """
    beside = "; ".join(f"{name}: {value:.3f}" for name, value in summary["baselines"].items())
    first = (
        f"{summary['measure']}: {summary['value']:.3f} on {summary['examples']:,} {split} {noun}s "
        f"(95 % interval {summary['low']:.3f} to {summary['high']:.3f}). Beside it: {beside}."
    )
    if split == "val":
        first += " They also chose the epoch and the thresholds: new data will do a little worse."
    behind = [name for name in summary["beaten_by"] if summary["value"] <= summary["baselines"][name] < 1]
    help_ = f"What to try next: {'; '.join(try_next)}."
    if behind:
        return [first, f"NOT WORTH SERVING YET: the model is no better than {' or '.join(behind)}. {help_}"]
    if summary["beaten_by"]:
        return [
            first,
            f"These {summary['examples']:,} {noun}s are too few to tell whether the model is better than "
            f"{' or '.join(summary['beaten_by'])}: hold more back, with --data.test_share or a test set of your own.",
        ]
    return [first]
