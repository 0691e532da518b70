"""Metrics of arrays, each against scikit-learn or against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, multilabel_confusion_matrix

from vision.tagging.evaluation import average_precisions, confusion_counts, f1_scores, most_wrong

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


def test_most_wrong_photos_come_worst_first_and_unknown_labels_do_not_count():
    scores = np.array([[0.9, 0.5], [0.1, 0.5], [0.5, 0.0], [0.5, 0.0]])
    targets = np.array([[1, 0], [1, 0], [1, 0], [1, -1]], dtype=np.int8)
    assert most_wrong(scores, targets, 3) == [1, 0, 2]
    assert most_wrong(scores[2:], np.array([[1, 1], [1, -1]], dtype=np.int8), 2) == [0, 1]
