"""Whether labels fit: likely errors, labels that are hard to tell apart, and labels that splits share unevenly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from shared.errors import DataError

FOLDS = 5
NEIGHBOURS = 10
STRENGTH = 20.0
"""Inverse of the regularisation, for features of length 1."""
MAX_STEPS = 300
BLOCK_ROWS = 2048
_SHARPNESS = 8.0
"""How much more a nearer neighbour counts."""
_FLOOR = 1.2
"""Times the share of the most frequent label: a model that is hardly better knows nothing of these labels."""


@dataclass(frozen=True)
class Checked:
    """What cross-validation says of labels."""

    margin: np.ndarray
    """float64 [N], -1 to 1: the probability of the given label minus that of the best other one; low is suspicious."""
    suggested: np.ndarray
    """int64 [N], the best other label, or the given one where it is the best."""
    accuracy: float
    """Share of labels that the models give too."""


def nearest(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other rows by cosine: int64 [N, K] row numbers and float32 [N, K] cosines, the nearest first.

    Args:
        features: float [N, D].
        count: K; fewer if there are fewer rows.
    """
    unit = normalised(features)
    count = min(count, len(unit) - 1)
    rows = np.empty((len(unit), count), dtype=np.int64)
    cosines = np.empty((len(unit), count), dtype=np.float32)
    for start in range(0, len(unit), BLOCK_ROWS):
        block = unit[start : start + BLOCK_ROWS] @ unit.T  # [B, N]
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        best = np.argpartition(-block, count - 1, axis=1)[:, :count] if count else np.empty((len(block), 0), dtype=int)
        order = np.argsort(-np.take_along_axis(block, best, axis=1), axis=1, kind="stable")
        rows[start : start + len(block)] = np.take_along_axis(best, order, axis=1)
        cosines[start : start + len(block)] = np.take_along_axis(block, rows[start : start + len(block)], axis=1)
    return rows, cosines


def normalised(features: np.ndarray) -> np.ndarray:
    """Return rows of length 1, float32 [N, D]."""
    found = np.asarray(features, dtype=np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def check_labels(features: np.ndarray, codes: np.ndarray, *, seed: int = 42) -> Checked:
    """Return how well each label fits, seen from rows that the model of its fold did not train on.

    The margins of logistic regression and of the nearest neighbours are averaged: the first is better at labels that
    are wrong at random, the second at those that are taken for a similar one.

    Args:
        features: float [N, D].
        codes: int64 [N], labels as numbers from 0.
        seed: of the folds.

    Raises:
        DataError: there are too few labels or rows, or the features tell nothing of the labels.

    Source: Northcutt et al. 2021, "Confident Learning", whose self-confidence and margin these are.
    """
    sizes = np.bincount(codes)
    labels = np.flatnonzero(sizes)
    if len(labels) < 2:
        raise DataError("labels can only be checked if there are at least two.")
    if len(codes) < 2 * FOLDS:
        raise DataError(f"labels can only be checked on at least {2 * FOLDS} rows; there are {len(codes)}.")
    unit = normalised(features)
    linear = _of_folds(unit, codes, len(sizes), seed)
    near = _of_neighbours(unit, codes, len(sizes))
    own = np.arange(len(codes)), codes
    margins = []
    for shares in (linear, near):
        others = shares.copy()
        others[own] = -np.inf
        margins.append(shares[own] - others.max(axis=1))
    together = linear + near
    accuracy = float((together.argmax(axis=1) == codes).mean())
    if accuracy < _FLOOR * sizes.max() / len(codes):
        raise DataError(f"labels cannot be checked: a model of these features is right for {accuracy:.0%}, and always "
                        f"saying the most frequent label would be for {sizes.max() / len(codes):.0%}. Explore with "
                        "another --bundle.")  # fmt: skip
    return Checked(np.mean(margins, axis=0), together.argmax(axis=1), accuracy)


def confusable(codes: np.ndarray, suggested: np.ndarray, most: int = 20) -> list[tuple[int, int, int]]:
    """Return (label, label, rows of either that look like the other) of pairs, the most first."""
    counts = Counter((min(a, b), max(a, b)) for a, b in zip(codes.tolist(), suggested.tolist(), strict=True) if a != b)
    return [(a, b, count) for (a, b), count in counts.most_common(most)]


def shift(labels: Sequence[str], splits: Sequence[str]) -> list[tuple[str, float, float]]:
    """Return (split, total variation to all others, p) of each split: whether labels are shared out evenly."""
    found = []
    names = {name: place for place, name in enumerate(sorted(set(labels)))}
    codes = np.array([names[label] for label in labels])
    where = np.array(splits)
    for split in sorted(set(splits)):
        here, there = (np.bincount(codes[where == split], minlength=len(names)),
                       np.bincount(codes[where != split], minlength=len(names)))  # fmt: skip
        if not there.sum() or len(names) < 2:
            continue
        variation = 0.5 * float(np.abs(here / here.sum() - there / there.sum()).sum())
        p = float(stats.chi2_contingency(np.stack([here, there])).pvalue)
        found.append((split, variation, p))
    return found


def _of_folds(unit: np.ndarray, codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return probabilities float64 [N, C] of logistic regressions that did not see the row."""
    shares = np.zeros((len(codes), count))
    groups = np.where(np.bincount(codes, minlength=count)[codes] >= FOLDS, codes, count)  # rare ones are mixed
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    if np.bincount(groups).max(initial=0) < FOLDS or (groups == count).sum() in range(1, FOLDS):
        groups = np.zeros(len(codes), dtype=int)
    for train, rest in folds.split(unit, groups):
        if len(np.unique(codes[train])) < 2:
            shares[rest, codes[train][0]] = 1.0
            continue
        model = LogisticRegression(C=STRENGTH, max_iter=MAX_STEPS).fit(unit[train], codes[train])
        shares[rest[:, None], model.classes_[None, :]] = model.predict_proba(unit[rest])
    return shares


def _of_neighbours(unit: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Return shares float64 [N, C] of the labels of the nearest others, the nearer the more."""
    rows, cosines = nearest(unit, NEIGHBOURS)
    weights = np.exp(_SHARPNESS * (cosines - cosines[:, :1]))  # [N, K]
    shares = np.zeros((len(codes), count))
    np.add.at(shares, (np.arange(len(codes))[:, None], codes[rows]), weights)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
