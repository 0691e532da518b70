"""Temperature and thresholds: fitted in training, applied in serving. numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from shared.bundle.layout import ProblemType
from shared.errors import CalibrationError

UNKNOWN = -1
"""Target of a label if the data does not say whether it holds; it is ignored."""
TEMPERATURE_RANGE = (0.05, 20.0)
"""Ends of the search."""
PRIOR_SPREAD = 1.0
"""Of the logarithm of the temperature. Of 0.25, 0.5 and 1, this one has the least calibration error on held-out photos
after training on 50, 100 and 200, 0.02 to 0.04 (benchmarks/small_sets.py, seed 0; 2026-11)."""
THRESHOLD_RANGE = (0.05, 0.95)
"""A threshold outside would follow a handful of validation examples."""

_GOLDEN_RATIO = (5**0.5 - 1) / 2
_TEMPERATURE_STEPS = 40  # log(400) * 0.618^40 = 3e-8: beyond what a temperature can mean
_NEWTON_STEPS = 100
_NEWTON_TOLERANCE = 1e-9


def probabilities_from_logits(logits: np.ndarray, temperature: float, problem_type: ProblemType) -> np.ndarray:
    """Return float64 probabilities of logits / temperature: softmax for a single label, else a sigmoid for each.

    Args:
        logits: [..., num_labels].
        temperature: above 0.

    >>> probabilities_from_logits(np.array([2.0, 0.0]), 2.0, "multi_label_classification").round(3).tolist()
    [0.731, 0.5]
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if problem_type == "single_label_classification":
        powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        result: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
        return result
    decay = np.exp(-np.abs(scaled))  # in (0, 1]: never overflows
    return np.where(scaled >= 0, 1.0, decay) / (1.0 + decay)


def probability_from_logit(logit: float, temperature: float) -> float:
    """Return the sigmoid of logit / temperature: one number in a twentieth of `probabilities_from_logits`' time.

    >>> round(probability_from_logit(2.0, 2.0), 3)
    0.731
    """
    scaled = logit / temperature
    decay = math.exp(-abs(scaled))  # in (0, 1]: never overflows
    return (1.0 if scaled >= 0 else decay) / (1.0 + decay)


def fit_temperature(logits: np.ndarray, targets: np.ndarray, problem_type: ProblemType) -> float:
    """Return the most probable temperature given the validation examples, within `TEMPERATURE_RANGE`.

    Before it has seen any, 1 is the most probable, the temperature of training: its logarithm is normal around 0 with
    `PRIOR_SPREAD`. A few examples that are all right move it little, thousands decide alone. Without this, a faultless
    set of any size would have it near 0, and every score near 1.

    Args:
        logits: [N, num_labels], unscaled.
        targets: int [N], class indices, for a single label; else [N, num_labels] of 1, 0 and -1 for unknown.

    Raises:
        CalibrationError: there is no known target, a logit is not finite, or the shapes do not fit.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2, with a prior.
    """
    values = _finite_matrix(logits, "logits")
    targets = np.asarray(targets)
    if problem_type == "single_label_classification":
        _check_classes(targets, values.shape)
        loss = _softmax_loss(values, targets)
    else:
        _check_matrix(targets, values.shape)
        known = targets != UNKNOWN
        if not known.any():
            raise CalibrationError("no target is known (all are -1): nothing to fit a temperature on.")
        loss = _sigmoid_loss(values[known], targets[known])
    low, high = np.log(TEMPERATURE_RANGE)
    count = len(values)

    def surprise(log_temperature: float) -> float:
        return loss(float(np.exp(log_temperature))) + (log_temperature / PRIOR_SPREAD) ** 2 / (2 * count)

    return float(np.exp(_minimise(surprise, low, high)))


def fit_scale_and_shift(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Return (temperature, shift) for which sigmoid((logit + shift) / temperature) has the least log-loss.

    Two parameters where a temperature alone leaves scores too low or too high throughout, as it does for networks that
    learned from harder examples than they are used on. Falls back to (`fit_temperature`, 0) where higher logits do
    not mean more hits.

    Args:
        logits: float [K], one per judgement.
        targets: [K], 1 or 0.
        weights: [K], how much each judgement counts; all the same if not given.

    Raises:
        CalibrationError: K is 0, a logit is not finite, or a target is neither 1 nor 0.

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines", with its targets that are never quite 0 or
        1; by Newton's method.
    """
    values = _finite_matrix(np.reshape(logits, (-1, 1)), "logits")[:, 0]
    hits = np.asarray(targets).reshape(-1, 1)
    _check_matrix(hits, (len(values), 1))
    if (hits == UNKNOWN).any():
        raise CalibrationError("a target is unknown (-1): leave such pairs out.")
    positives = float(hits.sum())
    smooth = np.where(hits[:, 0] == 1, (positives + 1) / (positives + 2), 1 / (len(values) - positives + 2))
    design = np.stack([values, np.ones_like(values)], axis=1)  # [K, 2]
    counts = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    line = np.array([1.0, 0.0])  # slope and intercept
    for _ in range(_NEWTON_STEPS):
        chances = probabilities_from_logits(design @ line, 1.0, "multi_label_classification")
        gradient = design.T @ (counts * (chances - smooth))
        curvature = (design.T * (counts * chances * (1 - chances))) @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line = line - step * min(1.0, 1.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < _NEWTON_TOLERANCE:
            break
    temperature = 1 / line[0] if line[0] > 0 else np.inf
    if not TEMPERATURE_RANGE[0] <= temperature <= TEMPERATURE_RANGE[1]:
        return fit_temperature(values[:, None], hits, "multi_label_classification"), 0.0
    return float(temperature), float(line[1] * temperature)


def fit_thresholds(probabilities: np.ndarray, targets: np.ndarray, *, default: float | None = None) -> np.ndarray:
    """Return float64 [num_labels]: for each label the threshold with the best F1, within `THRESHOLD_RANGE`.

    Candidates are the midpoints between neighbouring probabilities, and 0.5; of equally good ones the one nearest to
    0.5 is taken. A label without a positive example, or none that a threshold in range finds, gets `default`.

    Args:
        probabilities: [N, num_labels], calibrated.
        targets: [N, num_labels] of 1, 0 and -1 for unknown (left out); one-hot for a single label.
        default: None for the median of the thresholds that were fitted.

    Raises:
        CalibrationError: N is 0, a value is not finite, the shapes do not fit, or no label could be fitted and there is
            no default.
    """
    values = _finite_matrix(probabilities, "probabilities")
    targets = np.asarray(targets)
    _check_matrix(targets, values.shape)
    fitted = np.array([_best_threshold(values[:, i], targets[:, i]) for i in range(values.shape[1])])
    missing = np.isnan(fitted)
    if missing.all() and default is None:
        raise CalibrationError(
            "no label has a positive example that scores 0.05 or more: no threshold can be fitted. "
            "Use more validation data, or train longer."
        )
    fitted[missing] = np.median(fitted[~missing]) if default is None else default
    return fitted


def _finite_matrix(values: np.ndarray, name: str) -> np.ndarray:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise CalibrationError(f"{name} must be [N, num_labels] with N of at least 1; came {list(matrix.shape)}.")
    if not np.isfinite(matrix).all():
        raise CalibrationError(f"{name} hold {int((~np.isfinite(matrix)).sum())} values that are not finite.")
    return matrix


def _check_classes(targets: np.ndarray, shape: tuple[int, ...]) -> None:
    if targets.shape != shape[:1] or targets.dtype.kind not in "iu":
        raise CalibrationError(f"targets must be int [{shape[0]}]; came {targets.dtype} {list(targets.shape)}.")
    if targets.min() < 0 or targets.max() >= shape[1]:
        raise CalibrationError(f"targets must be in [0, {shape[1]}); came [{targets.min()}, {targets.max()}].")


def _check_matrix(targets: np.ndarray, shape: tuple[int, ...]) -> None:
    if targets.shape != shape:
        raise CalibrationError(f"targets must be {list(shape)} like the scores; came {list(targets.shape)}.")
    if not np.isin(targets, (0, 1, UNKNOWN)).all():
        raise CalibrationError("targets must be 1, 0 or -1 (unknown).")


def _softmax_loss(logits: np.ndarray, targets: np.ndarray) -> Callable[[float], float]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(targets)), targets]  # [N]

    def loss(temperature: float) -> float:
        return float(np.mean(np.log(np.exp(shifted / temperature).sum(axis=1)) - own / temperature))

    return loss


def _sigmoid_loss(logits: np.ndarray, targets: np.ndarray) -> Callable[[float], float]:
    against = np.where(targets == 1, -logits, logits)  # [known]: -log(probability of the target) = softplus(against)

    def loss(temperature: float) -> float:
        scaled = against / temperature
        return float(np.mean(np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))))

    return loss


def _minimise(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the place of the only minimum in [low, high] by golden-section search."""
    left = high - _GOLDEN_RATIO * (high - low)
    right = low + _GOLDEN_RATIO * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_TEMPERATURE_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN_RATIO * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN_RATIO * (high - low)
            at_right = function(right)
    return (low + high) / 2


def _best_threshold(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the threshold with the best F1, or NaN where none finds a positive."""
    known = np.sort(scores[targets != UNKNOWN])
    positives = np.sort(scores[targets == 1])
    low, high = THRESHOLD_RANGE
    middles = (known[1:] + known[:-1]) / 2
    candidates = np.concatenate([[0.5, low, high], middles[(middles >= low) & (middles <= high)]])
    found = len(known) - np.searchsorted(known, candidates, side="left")  # scores >= candidate
    right = len(positives) - np.searchsorted(positives, candidates, side="left")
    f1 = 2 * right / np.maximum(found + len(positives), 1)
    if f1.max() == 0:
        return float("nan")
    best = candidates[f1 == f1.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])
