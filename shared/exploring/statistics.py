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
_SMALL, _SMALL_SHARE = 5.0, 0.2
"""Cochran 1954: chi-squared holds if at most this share of the cells is expected to have fewer rows than that."""
_CONSTANT = 0.95
"""Share of one value, from which a column of numbers says too little for Pearson's coefficient."""
SHUFFLED_ROWS = 1_000
"""In a permutation test, drawn at random if there are more."""
_SHUFFLES, _LEAST_SHUFFLES = 4_999, 999
_SHUFFLED_CELLS = 1e9
"""Shuffles times rows times pairs: with many pairs there are fewer shuffles of each, so that it takes a minute."""
_AT_ONCE = 200
_ENOUGH = 100
"""Shuffles that reach what was measured, after which it is clear enough that p is large."""


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
    Where chi-squared does not hold, since too many cells of a table have few rows, they are those of a permutation
    test. Words that are different in most rows, such as keys, depend on everything, and are left out.

    Source: Bergsma 2013, "A bias-correction for Cramér's V and Tschuprow's T"; Miller 1955, "Note on the bias of
    information estimates"; Cochran 1954, "Some methods for strengthening the common chi-squared tests"; Besag and
    Clifford 1991, "Sequential Monte Carlo p-values".
    """
    as_numbers = {name: _floats(column) for name, column in numbers.items()}
    as_codes = {name: codes for name, column in categories.items() if not _is_key(codes := _codes(column))}
    count = len(as_numbers) + len(as_codes)
    shuffled = _Shuffled(pairs=count * (count - 1) // 2)
    found: list[Dependence] = []
    for one, other in combinations([*as_numbers, *as_codes], 2):
        if one in as_numbers and other in as_numbers:
            found += _of_numbers(one, as_numbers[one], other, as_numbers[other])
        first = _classes(as_numbers[one]) if one in as_numbers else as_codes[one]
        second = _classes(as_numbers[other]) if other in as_numbers else as_codes[other]
        found += _of_classes(one, first, other, second, shuffled, are_words=one in as_codes and other in as_codes)
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
    measured = {"Spearman": stats.spearmanr(first[both], second[both])}
    if not (_is_near_constant(first[both]) or _is_near_constant(second[both])):
        measured = {"Pearson": stats.pearsonr(first[both], second[both])} | measured
    return [
        Dependence(one, other, measure, float(found.statistic), n, float(found.pvalue))
        for measure, found in measured.items()
        if math.isfinite(found.statistic)  # differences can be too small for their squares
    ]


def _is_near_constant(values: np.ndarray) -> bool:
    return bool(np.unique(values, return_counts=True)[1].max() >= _CONSTANT * len(values))


def _is_key(codes: np.ndarray) -> bool:
    """Whether more than half of the known values are different ones."""
    return bool(2 * (codes.max(initial=-1) + 1) > (codes >= 0).sum())


class _Shuffled:
    """Permutation tests: how often a table with the same sums has at least the dependence that was measured."""

    def __init__(self, pairs: int) -> None:
        self.draws = int(np.clip(_SHUFFLED_CELLS / (max(1, pairs) * SHUFFLED_ROWS), _LEAST_SHUFFLES, _SHUFFLES))
        self.orders: dict[int, np.ndarray] = {}
        """Number of rows -> orders of them, int16 [draws, rows]; all pairs of columns see the same ones."""

    def p_values(self, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
        """Return p of chi-squared and of the G-test.

        Args:
            first: int64 [N], from 0.
            second: likewise.
        """
        if len(first) > SHUFFLED_ROWS:
            chosen = np.random.default_rng(0).choice(len(first), SHUFFLED_ROWS, replace=False)
            first, second = first[chosen], second[chosen]
        rows = len(first)
        first, second = (np.unique(codes, return_inverse=True)[1] for codes in (first, second))
        of_first, of_second = np.bincount(first), np.bincount(second)
        if len(of_first) < 2 or len(of_second) < 2:
            return 1.0, 1.0
        if rows not in self.orders:
            same = np.broadcast_to(np.arange(rows, dtype=np.int16), (self.draws, rows))
            self.orders[rows] = np.random.default_rng(0).permuted(same, axis=1)
        first, second = first.astype(np.int32), second.astype(np.int32)
        width = np.int32(len(of_second))
        log = np.log(np.arange(1, rows + 1))

        def measured(orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Return what is different between orders in chi-squared and in G, float64 [D] each."""
            cell = np.sort(first * width + second[orders], axis=1)  # [D, N], equal ones beside each other
            begins = np.ones(cell.shape, dtype=bool)
            begins[:, 1:] = cell[:, 1:] != cell[:, :-1]
            starts = np.flatnonzero(begins)
            found = np.diff(starts, append=cell.size)  # rows in each cell that has some
            table = starts // rows
            row, column = np.divmod(cell.ravel()[starts], width)
            squares = found**2 / (of_first[row] * of_second[column])
            return np.bincount(table, weights=squares), np.bincount(table, weights=found * log[found - 1])

        here = [float(each[0]) * (1 - 1e-9) for each in measured(np.arange(rows)[None])]
        reached, done = np.zeros(2), 0
        while done < self.draws and reached.min() < _ENOUGH:
            orders = self.orders[rows][done : done + _AT_ONCE]
            reached += [(each >= least).sum() for each, least in zip(measured(orders), here, strict=True)]
            done += len(orders)
        chi_squared, information = (1 + reached) / (1 + done)
        return float(chi_squared), float(information)


def _of_classes(
    one: str, first: np.ndarray, other: str, second: np.ndarray, shuffled: _Shuffled, *, are_words: bool
) -> list[Dependence]:
    """Return Cramér's V, if both are words, and mutual information of two columns of codes."""
    both = (first >= 0) & (second >= 0)
    n = int(both.sum())
    if n < _MIN_PAIRS:
        return []
    first, second = (np.unique(codes[both], return_inverse=True)[1] for codes in (first, second))
    height, width = int(first.max()) + 1, int(second.max()) + 1
    if min(height, width) < 2:
        return []
    table = np.bincount(first * width + second, minlength=height * width).reshape(height, width)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    chi_squared = float(((table - expected) ** 2 / expected).sum())
    shares = table / n
    with np.errstate(divide="ignore", invalid="ignore"):
        information = float(np.where(table > 0, shares * np.log(table / expected), 0.0).sum())
    freedom = (height - 1) * (width - 1)
    if (expected < _SMALL).mean() > _SMALL_SHARE:
        p_of_v, p_of_information = shuffled.p_values(first, second)
    else:
        p_of_v, p_of_information = (float(stats.chi2.sf(each, freedom)) for each in (chi_squared, 2 * n * information))
    return [
        *([Dependence(one, other, "Cramér's V", _cramer(chi_squared, n, height, width), n, p_of_v)] * are_words),
        Dependence(
            one, other, "mutual information", _share(information, shares, freedom / (2 * n)), n, p_of_information
        ),
    ]


def _cramer(chi_squared: float, n: int, height: int, width: int) -> float:
    phi = max(0.0, chi_squared / n - (height - 1) * (width - 1) / (n - 1))
    least = min(height - (height - 1) ** 2 / (n - 1), width - (width - 1) ** 2 / (n - 1)) - 1
    return min(1.0, math.sqrt(phi / least)) if least > 0 else 0.0


def _share(information: float, shares: np.ndarray, bias: float) -> float:
    """Return mutual information, less its bias, as a share of what the lesser column holds."""
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    least = min(-float((rows * np.log(rows)).sum()), -float((columns * np.log(columns)).sum()))
    return min(1.0, max(0.0, information - bias) / least) if least > 0 else 0.0


def _corrected(found: Sequence[Dependence]) -> list[Dependence]:
    if not found:
        return []
    adjusted = stats.false_discovery_control([each.p for each in found])
    return [
        Dependence(each.one, each.other, each.measure, each.value, each.n, float(p))
        for each, p in zip(found, adjusted, strict=True)
    ]
