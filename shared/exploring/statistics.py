"""Columns in numbers: distributions, missing values, outliers, and how columns depend on one another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

MAX_CATEGORIES = 200
"""A column of more different texts is free text."""
BINS = 24
LARGEST = 1e150
"""A greater number is taken for a missing one: its square is none that a computer can hold."""
FAR = 3.0
"""Interquartile ranges beyond the quartiles; Tukey calls what is further out "far out"."""
_MIN_PAIRS = 8
"""Rows with both values, below which no dependence is stated."""
_QUANTILES = 8
"""Classes into which numbers are cut for mutual information."""


@dataclass(frozen=True)
class Numbers:
    """A column of numbers."""

    count: int
    missing: int
    mean: float
    deviation: float
    quartiles: tuple[float, float, float, float, float]
    """Least, lower quartile, median, upper quartile, greatest."""
    edges: list[float]
    """Of the histogram's bins, one more than `counts`."""
    counts: list[int]
    outliers: list[int]
    """Row numbers, the furthest first."""


@dataclass(frozen=True)
class Categories:
    """A column of labels or other words that come again."""

    count: int
    missing: int
    distinct: int
    counts: list[tuple[str, int]]
    """The most frequent first, at most `MAX_CATEGORIES`."""

    @property
    def imbalance(self) -> float:
        """How much more frequent the most frequent is than the rarest; 1 is even."""
        return self.counts[0][1] / self.counts[-1][1] if self.counts else 1.0


@dataclass(frozen=True)
class Dependence:
    """How much one column says of another."""

    one: str
    other: str
    measure: str
    """Pearson, Spearman, Cramér's V, or mutual information."""
    value: float
    """-1 to 1 for the first two, 0 to 1 for the others."""
    n: int
    """Rows that have both."""
    p: float
    """Chance of a value at least as far from 0 if they were independent, corrected for the number of pairs tried."""


def numbers_of(values: Sequence[float | None]) -> Numbers | None:
    """Return what there is to say of a column of numbers; None where it has none.

    >>> numbers_of([1, 2, 3, 4, None, 100]).outliers
    [5]
    """
    found = _floats(values)
    known = found[np.isfinite(found)]
    if not len(known):
        return None
    least, lower, middle, upper, most = (float(q) for q in np.quantile(known, (0, 0.25, 0.5, 0.75, 1)))
    try:
        counts, edges = np.histogram(known, bins=min(BINS, len(np.unique(known))))
    except ValueError:  # all within a few of the smallest differences that there are
        counts, edges = np.array([len(known)]), np.array([least, most])
    reach = upper - lower
    distance = np.where(np.isfinite(found), np.maximum(lower - found, found - upper), 0.0)
    far = np.flatnonzero(distance > FAR * reach) if reach > 0 else np.array([], dtype=int)
    return Numbers(
        count=len(known),
        missing=len(found) - len(known),
        mean=float(known.mean()),
        deviation=float(known.std(ddof=1)) if len(known) > 1 else 0.0,
        quartiles=(least, lower, middle, upper, most),
        edges=[float(edge) for edge in edges],
        counts=[int(count) for count in counts],
        outliers=[int(row) for row in far[np.argsort(-distance[far], kind="stable")]],
    )


def categories_of(values: Sequence[Any]) -> Categories:
    """Return how often each value of a column occurs."""
    known = [str(value) for value in values if value is not None]
    counts = Counter(known)
    return Categories(len(known), len(values) - len(known), len(counts), counts.most_common(MAX_CATEGORIES))


def dependences(
    numbers: Mapping[str, Sequence[float | None]], categories: Mapping[str, Sequence[Any]]
) -> list[Dependence]:
    """Return how each pair of columns depends on one another, the strongest first.

    Two columns of numbers have Pearson's and Spearman's coefficient, two of words Cramér's V, and every pair has its
    mutual information as a share of what the lesser one holds. p-values are corrected after Benjamini and Hochberg.

    Source: Bergsma 2013, "A bias-correction for Cramér's V and Tschuprow's T"; Miller 1955, "Note on the bias of
    information estimates".
    """
    as_numbers = {name: _floats(column) for name, column in numbers.items()}
    as_codes = {name: _codes(column) for name, column in categories.items()}
    found: list[Dependence] = []
    for one, other in combinations([*as_numbers, *as_codes], 2):
        if one in as_numbers and other in as_numbers:
            found += _of_numbers(one, as_numbers[one], other, as_numbers[other])
        elif one in as_codes and other in as_codes:
            found += _cramer(one, as_codes[one], other, as_codes[other])
        first = _classes(as_numbers[one]) if one in as_numbers else as_codes[one]
        second = _classes(as_numbers[other]) if other in as_numbers else as_codes[other]
        found += _information(one, first, other, second)
    return sorted(_corrected(found), key=lambda each: (-abs(each.value), each.one, each.other, each.measure))


def _floats(values: Sequence[float | None]) -> np.ndarray:
    """Return float64 [N]; NaN where there is none, or one that is infinite or greater than `LARGEST`."""
    found = np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
    found[np.abs(found) > LARGEST] = math.nan
    return found


def _codes(values: Sequence[Any]) -> np.ndarray:
    """Return whole numbers for words, int64 [N]; -1 where there is none."""
    names = {name: place for place, name in enumerate(sorted({str(v) for v in values if v is not None}))}
    return np.array([-1 if value is None else names[str(value)] for value in values], dtype=np.int64)


def _classes(values: np.ndarray) -> np.ndarray:
    """Return numbers cut at their quantiles, int64 [N]; -1 where there is none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(values), -1)
    inner = np.unique(np.quantile(known, np.linspace(0, 1, _QUANTILES + 1)[1:-1]))
    return np.where(np.isfinite(values), np.searchsorted(inner, values, side="right"), -1)


def _of_numbers(one: str, first: np.ndarray, other: str, second: np.ndarray) -> list[Dependence]:
    both = np.isfinite(first) & np.isfinite(second)
    n = int(both.sum())
    if n < _MIN_PAIRS or np.ptp(first[both]) == 0 or np.ptp(second[both]) == 0:
        return []
    measured = {
        "Pearson": stats.pearsonr(first[both], second[both]),
        "Spearman": stats.spearmanr(first[both], second[both]),
    }
    return [
        Dependence(one, other, measure, float(found.statistic), n, float(found.pvalue))
        for measure, found in measured.items()
        if math.isfinite(found.statistic)  # differences can be too small for their squares
    ]


def _table(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how often each pair of codes occurs, int64 [A, B], without rows and columns of zeros."""
    both = (first >= 0) & (second >= 0)
    if not both.any():
        return np.zeros((0, 0), dtype=np.int64)
    rows, columns = first[both], second[both]
    width = int(columns.max()) + 1
    table = np.bincount(rows * width + columns, minlength=(int(rows.max()) + 1) * width).reshape(-1, width)
    return np.asarray(table[table.any(axis=1)][:, table.any(axis=0)])


def _cramer(one: str, first: np.ndarray, other: str, second: np.ndarray) -> list[Dependence]:
    table = _table(first, second)
    n = int(table.sum())
    if n < _MIN_PAIRS or min(table.shape, default=0) < 2:
        return []
    found = stats.chi2_contingency(table, correction=False)
    rows, columns = table.shape
    phi = max(0.0, found.statistic / n - (rows - 1) * (columns - 1) / (n - 1))
    least = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    value = math.sqrt(phi / least) if least > 0 else 0.0
    return [Dependence(one, other, "Cramér's V", min(1.0, value), n, float(found.pvalue))]


def _information(one: str, first: np.ndarray, other: str, second: np.ndarray) -> list[Dependence]:
    table = _table(first, second)
    n = int(table.sum())
    if n < _MIN_PAIRS or min(table.shape, default=0) < 2:
        return []
    shares = table / n
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(shares > 0, np.log(shares / np.outer(rows, columns)), 0.0)
    freedom = (len(rows) - 1) * (len(columns) - 1)
    measured = float((shares * logs).sum())
    value = max(0.0, measured - freedom / (2 * n))
    least = min(-float((rows * np.log(rows)).sum()), -float((columns * np.log(columns)).sum()))
    p = float(stats.chi2.sf(2 * n * measured, freedom))  # the G-test
    return [Dependence(one, other, "mutual information", min(1.0, value / least) if least > 0 else 0.0, n, p)]


def _corrected(found: Sequence[Dependence]) -> list[Dependence]:
    if not found:
        return []
    adjusted = stats.false_discovery_control([each.p for each in found])
    return [
        Dependence(each.one, each.other, each.measure, each.value, each.n, float(p))
        for each, p in zip(found, adjusted, strict=True)
    ]
