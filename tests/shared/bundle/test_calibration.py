"""Calibration against outside references: scipy, scikit-learn, torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_recall_curve

from shared.bundle.calibration import (
    THRESHOLD_RANGE,
    fit_scale_and_shift,
    fit_temperature,
    fit_thresholds,
    probabilities_from_logits,
)
from shared.bundle.layout import ProblemType
from shared.errors import CalibrationError

SINGLE: ProblemType = "single_label_classification"
MULTI: ProblemType = "multi_label_classification"


def test_probabilities_agree_with_scipy() -> None:
    logits = np.random.default_rng(0).normal(scale=8, size=(50, 7))
    np.testing.assert_allclose(
        probabilities_from_logits(logits, 1.7, SINGLE), scipy.special.softmax(logits / 1.7, axis=1), rtol=1e-12
    )
    np.testing.assert_allclose(
        probabilities_from_logits(logits, 1.7, MULTI), scipy.special.expit(logits / 1.7), rtol=1e-12
    )


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_huge_logits_neither_overflow_nor_warn(problem_type: ProblemType) -> None:
    probabilities = probabilities_from_logits(np.array([[3e38, -3e38]], dtype=np.float32), 0.05, problem_type)
    np.testing.assert_array_equal(probabilities, [[1.0, 0.0]])


def test_one_row_and_a_batch_give_the_same_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    for problem_type in (SINGLE, MULTI):
        batch = probabilities_from_logits(logits, 1.3, problem_type)
        np.testing.assert_array_equal(probabilities_from_logits(logits[2], 1.3, problem_type), batch[2])
        assert batch.dtype == np.float64


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5, 7.0])
def test_known_temperature_is_recovered_for_a_single_label(true: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=3 * true, size=(20_000, 6))
    probabilities = scipy.special.softmax(logits / true, axis=1)
    targets = (rng.random((len(logits), 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=5)
    assert fit_temperature(logits, targets, SINGLE) == pytest.approx(true, rel=0.05)  # sampling error at N = 20,000


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5, 7.0])
def test_known_temperature_is_recovered_for_many_labels_with_unknowns(true: float) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=3 * true, size=(5_000, 8))
    targets = (rng.random(logits.shape) < scipy.special.expit(logits / true)).astype(np.int8)
    unknown = rng.random(logits.shape) < 0.3
    targets[unknown] = -1
    logits[unknown] = 50  # would drag the temperature up if it counted
    assert fit_temperature(logits, targets, MULTI) == pytest.approx(true, rel=0.05)


def test_temperature_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    logits, targets = rng.normal(scale=4, size=(300, 5)), rng.integers(0, 5, 300)

    def loss(temperature: float) -> float:
        likelihood = scipy.special.log_softmax(logits / temperature, axis=1)[np.arange(300), targets].mean()
        return -float(likelihood + scipy.stats.norm.logpdf(np.log(temperature)) / 300)

    reference = scipy.optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8})
    found = fit_temperature(logits, targets, SINGLE)
    assert loss(found) <= reference.fun + 1e-9


def test_the_fewer_examples_are_all_right_the_nearer_the_temperature_is_to_that_of_training() -> None:
    rng = np.random.default_rng(6)
    targets = rng.integers(0, 5, 1000)
    logits = rng.normal(size=(1000, 5)) + 6 * np.eye(5)[targets]
    found = [fit_temperature(logits[:count], targets[:count], SINGLE) for count in (1, 5, 20, 200)]
    assert 1 > found[0] > found[1] > found[2] > found[3] > 0.1
    scores = probabilities_from_logits(logits[:5], found[1], SINGLE).max(axis=1)
    assert scores.min() < 0.999


def test_one_faultless_judgement_of_yes_or_no_is_no_certainty() -> None:
    temperature = fit_temperature(np.full((5, 1), 2.0), np.ones((5, 1), int), MULTI)
    assert probabilities_from_logits(np.array([2.0]), temperature, MULTI)[0] < 0.99


@pytest.mark.parametrize(
    ("logits", "targets", "problem_type", "named"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), SINGLE, "N of at least 1"),
        (np.zeros(3), np.zeros(3, int), SINGLE, "num_labels"),
        (np.array([[np.nan, 0]]), np.array([0]), SINGLE, "not finite"),
        (np.array([[np.inf, 0]]), np.array([[0, 1]]), MULTI, "not finite"),
        (np.zeros((2, 3)), np.array([0, 3]), SINGLE, r"\[0, 3\)"),
        (np.zeros((2, 3)), np.array([0, -1]), SINGLE, r"\[0, 3\)"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), SINGLE, "int"),
        (np.zeros((2, 3)), np.zeros((2, 2)), MULTI, "like the scores"),
        (np.zeros((2, 3)), np.full((2, 3), 2), MULTI, "1, 0 or -1"),
        (np.zeros((2, 3)), np.full((2, 3), -1), MULTI, "no target is known"),
    ],
)
def test_temperature_refuses_what_it_cannot_fit(
    logits: np.ndarray, targets: np.ndarray, problem_type: ProblemType, named: str
) -> None:
    with pytest.raises(CalibrationError, match=named):
        fit_temperature(logits, targets, problem_type)


def test_scale_and_shift_agree_with_logistic_regression() -> None:
    generator = np.random.default_rng(5)
    logits = generator.normal(0, 3, 20_000)
    targets = (generator.random(20_000) < scipy.special.expit((logits + 0.8) / 1.7)).astype(int)
    temperature, shift = fit_scale_and_shift(logits, targets)
    peer = LogisticRegression(C=1e9).fit(logits[:, None], targets)
    # Platt's smoothed targets pull by about 1 / positives.
    assert 1 / temperature == pytest.approx(peer.coef_[0, 0], rel=1e-2)
    assert shift / temperature == pytest.approx(peer.intercept_[0], rel=1e-2)


def test_a_judgement_of_weight_two_counts_as_two() -> None:
    generator = np.random.default_rng(6)
    logits, targets = generator.normal(0, 2, 3000), generator.integers(0, 2, 3000)
    weights = generator.integers(1, 3, 3000)
    found = fit_scale_and_shift(logits + targets, targets, weights)
    repeated = fit_scale_and_shift(np.repeat(logits + targets, weights), np.repeat(targets, weights))
    assert found == pytest.approx(repeated, rel=1e-2)  # the smoothed targets count judgements, not weights


def test_scale_and_shift_of_faultless_judgements_stay_finite() -> None:
    temperature, shift = fit_scale_and_shift(np.array([3.0, 2.0, -1.0, -2.0]), np.array([1, 1, 0, 0]))
    assert 0.05 <= temperature <= 20
    assert abs(shift) < 10


def test_logits_that_mislead_get_a_high_temperature_and_no_shift() -> None:
    temperature, shift = fit_scale_and_shift(np.array([3.0, 2.0, -1.0, -2.0]), np.array([0, 0, 1, 1]))
    assert temperature > 3
    assert shift == 0


def test_scale_and_shift_refuse_unknown_targets() -> None:
    with pytest.raises(CalibrationError, match="unknown"):
        fit_scale_and_shift(np.array([1.0, 2.0]), np.array([1, -1]))


def test_thresholds_reach_the_best_f1_that_scikit_learn_finds() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random((200, 12)) * 0.8 + 0.1
    targets = (rng.random(scores.shape) < scores**2).astype(int)
    thresholds = fit_thresholds(scores, targets)
    for i, threshold in enumerate(thresholds):
        precision, recall, _ = precision_recall_curve(targets[:, i], scores[:, i])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert f1_score(targets[:, i], scores[:, i] >= threshold) == pytest.approx(best, abs=1e-12)


def test_unknown_targets_do_not_move_a_threshold() -> None:
    rng = np.random.default_rng(5)
    scores = rng.random((100, 1))
    targets = (scores > 0.6).astype(int)
    with_unknown = np.concatenate([scores, np.full((50, 1), 0.9)])
    unknown = np.concatenate([targets, np.full((50, 1), -1)])
    np.testing.assert_array_equal(fit_thresholds(with_unknown, unknown), fit_thresholds(scores, targets))


def test_of_equally_good_thresholds_the_nearest_to_a_half_is_taken() -> None:
    assert fit_thresholds(np.array([[0.2], [0.9]]), np.array([[0], [1]])) == 0.5
    assert fit_thresholds(np.array([[0.6], [0.9]]), np.array([[0], [1]])) == 0.75  # the midpoint, away from both


def test_label_without_positives_gets_the_median_of_the_others() -> None:
    scores = np.array([[0.6, 0.1, 0.3, 0.4], [0.8, 0.3, 0.5, 0.4]])
    targets = np.array([[0, 0, 0, 0], [1, 1, 1, 0]])
    fitted = fit_thresholds(scores, targets)
    np.testing.assert_allclose(fitted, [0.7, 0.2, 0.5, 0.5])
    assert fit_thresholds(scores, targets, default=0.9)[3] == 0.9


def test_thresholds_stay_in_range_whatever_the_scores_say() -> None:
    scores = np.array([[0.001, 0.97, 0.02], [0.1, 0.999, 0.2]])
    fitted = fit_thresholds(scores, np.array([[1, 0, 0], [1, 1, 1]]))
    assert (fitted >= THRESHOLD_RANGE[0]).all()
    assert (fitted <= THRESHOLD_RANGE[1]).all()


def test_no_label_with_a_positive_is_an_error_without_default() -> None:
    with pytest.raises(CalibrationError, match="no label has a positive example"):
        fit_thresholds(np.array([[0.5, 0.5]]), np.array([[0, -1]]))
    np.testing.assert_array_equal(fit_thresholds(np.array([[0.5]]), np.array([[0]]), default=0.5), [0.5])
