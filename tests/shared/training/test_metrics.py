"""The numbers that every task reports, each against scikit-learn or against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from shared.training.metrics import auroc, calibration_error, reliability_rows, top_k_accuracy

RNG = np.random.default_rng(7)
N, LABELS = 60, 5
SCORES = RNG.random((N, LABELS))
TARGETS = (RNG.random((N, LABELS)) < 0.35 + 0.4 * (SCORES - 0.5)).astype(np.int8)


@pytest.mark.parametrize("k", [1, 3])
def test_top_k_accuracy_is_scikit_learns(k: int):
    labels = RNG.integers(0, LABELS, N)
    expected = top_k_accuracy_score(labels, SCORES, k=k, labels=range(LABELS))
    assert top_k_accuracy(SCORES, labels, k) == pytest.approx(expected, abs=1e-5)


def test_top_k_accuracy_is_undefined_where_it_could_not_miss():
    assert top_k_accuracy(SCORES, np.zeros(N, dtype=np.int64), LABELS) is None


def test_calibration_error_is_the_weighted_gap_of_scikit_learns_bins():
    confidences, correct = SCORES[:, 0], TARGETS[:, 0] == 1
    accuracy, confidence = calibration_curve(correct, confidences, n_bins=15)
    edges = np.linspace(0, 1, 16)
    counts = np.histogram(confidences, edges)[0]
    expected = float(np.abs(accuracy - confidence) @ counts[counts > 0] / N)
    assert calibration_error(confidences, correct) == pytest.approx(expected, abs=1e-5)


def test_reliability_rows_are_scikit_learns_bins_without_the_empty_ones():
    confidences, correct = SCORES[:10, 0], TARGETS[:10, 0] == 1
    accuracy, confidence = calibration_curve(correct, confidences, n_bins=15)
    rows = reliability_rows(confidences, correct)
    assert [row["accuracy"] for row in rows] == pytest.approx(accuracy, abs=1e-5)
    assert [row["confidence"] for row in rows] == pytest.approx(confidence, abs=1e-5)
    assert sum(row["count"] for row in rows) == 10
    assert all(row["low"] <= row["confidence"] <= row["high"] for row in rows)


def test_the_reliability_rows_say_the_calibration_error():
    confidences, correct = SCORES[:, 1], TARGETS[:, 1] == 1
    rows = reliability_rows(confidences, correct)
    gap = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / N
    assert calibration_error(confidences, correct) == pytest.approx(gap, abs=1e-4)


def test_no_judgement_has_no_calibration_error():
    assert calibration_error(np.empty(0), np.empty(0, dtype=bool)) is None


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_auroc_is_scikit_learns_on_any_scale_and_with_ties(scale: float):
    rng = np.random.default_rng(3)
    is_positive = rng.random(200) < 0.6
    values = np.round(rng.normal(is_positive * 1.5, 2.0), 1)
    expected = pytest.approx(roc_auc_score(is_positive, values), abs=1e-5)
    assert auroc(values * scale - scale / 3, is_positive) == expected
    assert auroc(np.where(values == values.min(), -np.inf, values), is_positive) == expected


def test_auroc_of_one_kind_alone_is_not_defined():
    assert auroc(np.arange(3.0), np.ones(3, dtype=bool)) is None


def test_bounds_belong_to_the_bin_below_and_zero_to_the_first():
    rows = reliability_rows(np.array([0.0, 1 / 15, 0.07, 1.0]), np.array([0, 1, 0, 1]))
    assert [(row["low"], row["count"], row["accuracy"]) for row in rows] == [
        (0.0, 2, 0.5), (0.06667, 1, 0.0), (0.93333, 1, 1.0)
    ]  # fmt: skip


def test_calibrated_confidences_have_almost_no_calibration_error():
    confidences = RNG.random(100_000)
    error = calibration_error(confidences, RNG.random(100_000) < confidences)
    assert error is not None
    assert error < 0.01
    assert calibration_error(np.full(10, 1.0), np.zeros(10, dtype=bool)) == 1.0
