"""Comparisons call a winner where there is one, and none where the data cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from shared.tuning.paired import SURE, Difference, difference, holm

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
