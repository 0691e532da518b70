"""Metrics of arrays, each against scikit-learn or against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    multilabel_confusion_matrix,
    top_k_accuracy_score,
)

from vision.tagging.metrics import (
    average_precisions,
    calibration_error,
    confusion_counts,
    f1_scores,
    most_wrong,
    reliability_rows,
    top_k_accuracy,
)

RNG = np.random.default_rng(7)
N, LABELS = 60, 5
SCORES = RNG.random((N, LABELS))
TARGETS = (RNG.random((N, LABELS)) < 0.35 + 0.4 * (SCORES - 0.5)).astype(np.int8)
HOLES = np.where(RNG.random((N, LABELS)) < 0.3, -1, TARGETS).astype(np.int8)


def known(column: int) -> np.ndarray:
    return HOLES[:, column] != -1


def test_average_precision_is_scikit_learns_over_known_photos():
    expected = [average_precision_score(HOLES[known(i), i], SCORES[known(i), i]) for i in range(LABELS)]
    assert average_precisions(SCORES, HOLES) == pytest.approx(expected, abs=1e-5)


def test_average_precision_with_tied_scores_is_scikit_learns():
    scores = np.round(SCORES, 1)
    expected = [average_precision_score(TARGETS[:, i], scores[:, i]) for i in range(LABELS)]
    assert average_precisions(scores, TARGETS) == pytest.approx(expected, abs=1e-5)


def test_average_precision_is_undefined_where_a_label_holds_everywhere_nowhere_or_nobody_knows():
    targets = np.array([[1, 0, -1, 1], [1, 0, -1, 0], [-1, 0, -1, 1]], dtype=np.int8)
    found = average_precisions(SCORES[:3, :4], targets)
    assert found[:3] == [None, None, None]
    assert found[3] == pytest.approx(average_precision_score([1, 0, 1], SCORES[:3, 3]), abs=1e-5)


def test_a_single_label_has_its_average_precision_and_counts():
    expected = average_precision_score(TARGETS[:, 0], SCORES[:, 0])
    assert average_precisions(SCORES[:, :1], TARGETS[:, :1]) == pytest.approx([expected], abs=1e-5)
    assert confusion_counts(SCORES[:, :1] > 0.5, TARGETS[:, :1]).shape == (1, 4)


def test_counts_are_scikit_learns_and_unknown_pairs_do_not_count():
    given = SCORES > 0.5
    counts = confusion_counts(given, HOLES)
    for i in range(LABELS):
        (tn, fp), (fn, tp) = multilabel_confusion_matrix(HOLES[known(i), i], given[known(i), i])[1]
        assert counts[i].tolist() == [tp, fp, tn, fn]


def test_f1_is_scikit_learns():
    given = SCORES > 0.5
    expected = [f1_score(HOLES[known(i), i], given[known(i), i]) for i in range(LABELS)]
    assert f1_scores(confusion_counts(given, HOLES)) == pytest.approx(expected, abs=1e-5)


def test_f1_is_undefined_where_a_label_neither_holds_nor_is_given():
    assert f1_scores(np.array([[0, 0, 9, 0]])) == [None]


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


def test_most_wrong_photos_come_worst_first_and_unknown_labels_do_not_count():
    scores = np.array([[0.9, 0.5], [0.1, 0.5], [0.5, 0.0], [0.5, 0.0]])
    targets = np.array([[1, 0], [1, 0], [1, 0], [1, -1]], dtype=np.int8)
    assert most_wrong(scores, targets, 3) == [1, 0, 2]
    assert most_wrong(scores[2:], np.array([[1, 1], [1, -1]], dtype=np.int8), 2) == [0, 1]
