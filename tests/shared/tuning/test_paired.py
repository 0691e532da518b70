"""Comparisons call a winner where there is one, and none where the data cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm

from shared.tuning.paired import SURE, Difference, difference, holm, margin_p, no_loss

POINT, DISCORDANT = 0.01, 0.03


def drawn(count: int, seed: int) -> Difference:
    """Two bundles whose answers differ in 3 % of examples, the second truly better by a point."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=count, p=[1 - DISCORDANT, (DISCORDANT + POINT) / 2, (DISCORDANT - POINT) / 2])
    right = rng.random(count) < 0.9
    return difference(
        np.where(kind == 0, right, kind == 2).astype(float), np.where(kind == 0, right, kind == 1).astype(float)
    )


def test_a_point_is_not_called_on_a_hundred_examples_and_is_on_five_thousand():
    few, many = ([drawn(count, seed) for seed in range(200)] for count in (100, 5000))
    assert np.mean([each.p < SURE for each in few]) <= 0.03
    assert np.mean([each.p < SURE and each.value > 0 for each in many]) >= 0.9
    assert np.mean([each.low <= POINT <= each.high for each in many]) >= 0.9
    assert many[0].detectable < POINT < few[0].detectable


def test_no_winner_is_called_between_equals_more_often_than_was_promised():
    rng = np.random.default_rng(0)
    chances = []
    for _ in range(300):
        apart = rng.choice((-1.0, 0.0, 1.0), size=400, p=(0.05, 0.9, 0.05))
        chances.append(difference(np.zeros(400), apart).p)
    assert np.mean(np.array(chances) < SURE) <= 0.07


def test_right_and_wrong_are_compared_by_mc_nemar_and_scores_by_their_signs():
    first, second = np.zeros(40), np.zeros(40)
    second[:9], first[9:11] = 1, 1
    found = difference(first, second)
    assert (found.better, found.worse, found.value) == (9, 2, pytest.approx(7 / 40))
    assert found.p == pytest.approx(binomtest(9, 11).pvalue)
    assert found.low < found.value < found.high
    halves = difference(first * 0.5, second * 0.5 + first * 0.1)
    assert 0 < halves.p < 0.2
    assert difference(first, first).p == 1.0


def test_several_comparisons_count_together():
    assert holm([0.02, 0.02, 0.5]) == [0.06, 0.06, 0.5]
    assert holm([]) == []


def score_p(better: int, worse: int, count: int, margin: float) -> float:
    """The p-value of `margin_p`, with the likelihood at the margin maximised by search."""

    def unlikely(q: float) -> float:
        shares = np.clip([q - margin, q, 1 - 2 * q + margin], 1e-15, 1)
        return -float(np.array([better, worse, count - better - worse]) @ np.log(shares))

    span = (max(margin, 0.0), (1 + margin) / 2)
    q = minimize_scalar(unlikely, bounds=span, method="bounded", options={"xatol": 1e-12}).x
    variance = count * (2 * q - margin - margin**2)
    return float(norm.sf((better - worse + count * margin) / np.sqrt(variance)))


@pytest.mark.parametrize(
    ("better", "worse", "count", "margin"),
    [(45, 45, 3000, 0.01), (30, 60, 3000, 0.01), (4, 5, 200, 0.05), (0, 3, 200, 0.05), (9, 2, 100, -0.02)],
)
def test_the_score_test_is_that_of_the_likelihood_at_the_margin(better: int, worse: int, count: int, margin: float):
    assert float(margin_p(better, worse, count, margin)) == pytest.approx(
        score_p(better, worse, count, margin), rel=1e-4
    )


def test_the_interval_of_the_score_test_is_as_published():
    """Tango's 95 % interval for the airway data of Fagerland et al. 2014 (1 and 7 of 21 differ): -0.517 to -0.026."""
    assert float(margin_p(1, 7, 21, 0.517)) == pytest.approx(0.025, abs=3e-4)
    assert float(margin_p(7, 1, 21, -0.026)) == pytest.approx(0.025, abs=3e-4)
    first, second = np.repeat([1.0, 0.0], [8, 13]), np.repeat([0.0, 1.0, 0.0], [7, 2, 12])
    found = no_loss(first, second, 0.1)
    assert float(margin_p(1, 7, 21, -found.low)) == pytest.approx(SURE, abs=1e-5)
    assert float(margin_p(7, 1, 21, found.high)) == pytest.approx(SURE, abs=1e-5)


def test_no_loss_is_claimed_where_the_whole_margin_is_lost_no_more_often_than_was_promised():
    rng = np.random.default_rng(0)
    better, worse, _ = rng.multinomial(1000, ((0.06 - 0.02) / 2, (0.06 + 0.02) / 2, 0.94), size=4000).T
    assert float((margin_p(better, worse, 1000, 0.02) < SURE).mean()) <= SURE + 0.015
