"""Two bundles on the same examples: the difference, what chance would do, and what the data can tell at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

DRAWS = 4000
_SEED = 0
_Z = 1.959963984540054
_POWER = 0.8416212335729143
"""Standard normal quantile of 80 %."""
SURE = 0.05
_BLOCK = 4_000_000
"""Numbers that are drawn at once."""


@dataclass(frozen=True)
class Difference:
    """How much better the second is than the first, example by example."""

    examples: int
    value: float
    """Mean of second minus first."""
    low: float
    high: float
    """95 % interval, by the bootstrap over examples."""
    p: float
    """Chance of a difference at least so large if the two were equally good."""
    better: int
    """Examples that the second answers better."""
    worse: int
    detectable: float
    """The least difference that so many examples, differing so often, show four times in five."""


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compare two bundles on the same examples.

    Where each answer is right or wrong the test is McNemar's, exact; else the signs of the differences are drawn at
    random. Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions".

    Args:
        first: float [N], 0 to 1.
        second: likewise, of the same examples.
    """
    apart = second - first
    better, worse = int((apart > 0).sum()), int((apart < 0).sum())
    means = _resampled(apart)
    low, high = np.quantile(means, [0.025, 0.975])
    if np.isin(apart, (-1.0, 0.0, 1.0)).all():
        p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    else:
        p = _sign_test(apart)
    spread = float(np.sqrt((apart**2).mean()))  # under no difference
    detectable = (_Z + _POWER) * spread / np.sqrt(len(apart))
    return Difference(len(apart), float(apart.mean()), float(low), float(high), p, better, worse, float(detectable))


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together. Source: Holm 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(chances, kind="stable")
    found, least = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(chances) - rank) * chances[place]))
        found[place] = least
    return found


def _resampled(values: np.ndarray) -> np.ndarray:
    """Return the means of bootstrap samples, float [DRAWS].

    A sample's mean depends only on how often each distinct value is drawn: few values are drawn as counts.
    """
    rng = np.random.default_rng(_SEED)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 50:
        drawn = rng.multinomial(len(values), counts / len(values), size=DRAWS)
        return np.asarray(drawn @ distinct / len(values))
    step = max(1, _BLOCK // len(values))
    sizes = [min(step, DRAWS - start) for start in range(0, DRAWS, step)]
    return np.concatenate([values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1) for size in sizes])


def _sign_test(apart: np.ndarray) -> float:
    rng = np.random.default_rng(_SEED)
    moved = apart[apart != 0]
    if not len(moved):
        return 1.0
    step = max(1, _BLOCK // len(moved))
    sizes = [min(step, DRAWS - start) for start in range(0, DRAWS, step)]
    sums = np.concatenate([rng.choice((-1.0, 1.0), size=(size, len(moved))) @ moved for size in sizes])
    return float(((np.abs(sums) >= abs(moved.sum()) - 1e-9).sum() + 1) / (DRAWS + 1))
