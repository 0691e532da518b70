"""Two bundles on the same examples: the difference, what chance would do, and what the data can tell at all.

`difference` asks whether one is better. `no_loss` asks whether the second is at least nearly as good, which is another
question: where `difference` finds nothing, there may be too few examples to find anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom, binomtest

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
    if is_right_or_wrong(apart):
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


@dataclass(frozen=True)
class NoLoss:
    """Whether the second loses less than a margin against the first."""

    p: float
    """Chance of answers that speak so much for the second if it truly lost the whole margin."""
    low: float
    """The second is at least so much better, negative where it may be worse; sure at one-sided 95 %."""
    high: float
    """And at most so much, likewise."""


def no_loss(first: np.ndarray, second: np.ndarray, margin: float) -> NoLoss:
    """Test whether the second loses less than a margin against the first, on the same examples.

    Where each answer is right or wrong the test is the score test for the difference of paired proportions, and `low`
    and `high` are where it turns; else they come from the bootstrap over examples. Source: Tango 1998, "Equivalence
    test and confidence interval for the difference in proportions for the paired-sample design", Statistics in
    Medicine 17, section 3.

    Args:
        first: float [N], 0 to 1.
        second: likewise, of the same examples.
        margin: more than 0, less than 1.
    """
    apart = second - first
    if not is_right_or_wrong(apart):
        means = _resampled(apart)
        low, high = np.quantile(means, [SURE, 1 - SURE])
        return NoLoss(float(((means <= -margin).sum() + 1) / (DRAWS + 1)), float(low), float(high))
    better, worse = int((apart > 0).sum()), int((apart < 0).sum())
    low = _turning(better, worse, len(apart))
    high = -_turning(worse, better, len(apart))
    return NoLoss(float(margin_p(better, worse, len(apart), margin)), low, high)


def is_right_or_wrong(apart: np.ndarray) -> bool:
    """Return whether the differences are of answers that are each right or wrong."""
    return bool(np.isin(apart, (-1.0, 0.0, 1.0)).all())


def margin_p(better: np.ndarray | int, worse: np.ndarray | int, count: int, margin: float) -> np.ndarray:
    """Return the p-value of Tango's score test that the second loses the whole margin, or more.

    The less likely that is, the surer is the second no worse than by the margin.

    >>> print(f"{margin_p(45, 45, 3000, 0.01):.5f}, {margin_p(30, 60, 3000, 0.01):.2f}")
    0.00125, 0.50

    Args:
        better: int, or int [K]: examples that the second alone answers right.
        worse: likewise, of the first.
        count: all examples.
        margin: -1 to 1, not 0; negative where the second should be better by so much.
    """
    better, worse = np.asarray(better, dtype=float), np.asarray(worse, dtype=float)
    unlike = -margin * (1 + margin)
    half = (better + worse + margin * (2 * count - better + worse)) / 2
    q = (half + np.sqrt(np.maximum(0.0, half**2 + 2 * count * worse * unlike))) / (
        2 * count
    )  # of `worse`, at the margin
    variance = np.maximum(count * (2 * q + unlike), 1e-12)
    found: np.ndarray = ndtr(-(better - worse + count * margin) / np.sqrt(variance))
    return found


def worse_p(better: np.ndarray | int, worse: np.ndarray | int) -> np.ndarray:
    """Return the p-value of McNemar's exact test, two-sided, where the second is the worse one; 1 where it is not."""
    better, worse = np.asarray(better), np.asarray(worse)
    found: np.ndarray = np.where(worse > better, np.minimum(1.0, 2 * binom.cdf(better, better + worse, 0.5)), 1.0)
    return found


def _turning(better: int, worse: int, count: int) -> float:
    """Return the difference at which the score test turns: what is lower is refused at one-sided 95 %."""
    low, high = -1.0, (better - worse) / count
    for _ in range(25):  # to a ten-millionth
        middle = (low + high) / 2
        if margin_p(better, worse, count, -middle) < SURE:
            low = middle
        else:
            high = middle
    return (low + high) / 2


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
