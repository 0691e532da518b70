"""What a run says at its end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from shared.training.worth import Worth, interval, worth_lines


@pytest.mark.parametrize(("right", "count"), [(0, 8), (8, 8), (3, 40), (450, 500)])
def test_the_interval_of_yes_and_no_is_wilson_s(right: int, count: int):
    expected = binomtest(right, count).proportion_ci(method="wilson")
    values = np.array([1.0] * right + [0.0] * (count - right))
    assert interval(values) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_other_values_holds_their_mean_nineteen_times_of_twenty():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        low, high = interval(rng.beta(2, 5, 60))
        hits += low <= 2 / 7 <= high
    assert 178 <= hits <= 200


def worth(right: int, baseline: int, count: int = 100) -> Worth:
    values, other = np.zeros(count), np.zeros(count)
    values[:right] = 1
    other[:baseline] = 1
    return Worth("accuracy", values, {"always the same": other}, ["more epochs"])


def test_a_good_model_gets_one_line_with_interval_and_baselines():
    found = worth(90, 40)
    [line] = worth_lines(found.summary(), "test", "utterance", found.try_next)
    assert line == (
        "accuracy: 0.900 on 100 test utterances (95 % interval 0.826 to 0.945). Beside it: always the same: 0.400."
    )


@pytest.mark.parametrize(("right", "baseline"), [(41, 40), (100, 100), (100, 99)])
def test_too_few_examples_are_said_to_be_too_few(right: int, baseline: int):
    found = worth(right, baseline)
    _, line = worth_lines(found.summary(), "test", "utterance", found.try_next)
    assert line.startswith("These 100 utterances are too few to tell whether the model is better than always the same")


@pytest.mark.parametrize(("right", "baseline"), [(40, 40), (39, 40), (5, 90)])
def test_a_model_that_is_no_better_is_not_worth_serving(right: int, baseline: int):
    found = worth(right, baseline)
    _, line = worth_lines(found.summary(), "test", "utterance", found.try_next)
    assert line.startswith("NOT WORTH SERVING YET")
    assert "no better than always the same" in line
    assert "more epochs" in line


def test_what_was_measured_on_validation_data_says_so():
    found = worth(90, 40)
    assert "also chose the epoch" in worth_lines(found.summary(), "val", "photo", found.try_next)[0]
