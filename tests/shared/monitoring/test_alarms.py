"""The alarms on drawn windows: how often they are false, and what they see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shared.monitoring.alarms import FALSE_ALARMS, confidence_alarm, rate_alarm
from shared.monitoring.diagnosis import label_moves
from shared.monitoring.windows import Sample, Window, plain

WINDOWS, RECORDS, EXAMPLES = 100, 500, 2000
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""Confidences, and which inputs got no answer."""


def usual(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.beta(8, 0.5, count), rng.random(count) < 0.05


def with_foreign(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw 8 % of another kind: three of four get no answer, and the model is unsure of them."""
    confidence, without = usual(rng, count)
    is_foreign = rng.random(count) < 0.08
    confidence[is_foreign] = rng.beta(2, 2, is_foreign.sum())
    without[is_foreign] = rng.random(is_foreign.sum()) < 0.75
    return confidence, without


def alarms(draw: Draw, keep: float = 1.0) -> np.ndarray:
    """Return bool [WINDOWS, 2]: which windows raise the alarm on the rate, and on confidence.

    Args:
        draw: of the windows; the reference is always of the usual kind.
        keep: share of the sure answers that the service kept.
    """
    raised = []
    for seed in range(WINDOWS):
        rng = np.random.default_rng(seed)
        confidence, without = usual(rng, EXAMPLES)
        before = plain(without), plain(confidence)
        confidence, without = draw(rng, RECORDS)
        now = sampled(rng, confidence, without, keep)
        raised.append([rate_alarm(now[0], before[0]).is_raised, confidence_alarm(now[1], before[1]).is_raised])
    return np.array(raised)


def sampled(
    rng: np.random.Generator, confidence: np.ndarray, without: np.ndarray, keep: float
) -> tuple[Sample, Sample]:
    """Return (without an answer, confidence) of what a service with `records_share` would have kept."""
    share = np.where(~without & (confidence >= 0.9), keep, 1.0)
    kept = rng.random(len(share)) < share
    weights = 1 / share[kept]
    return Sample(without[kept].astype(float), weights), Sample(confidence[kept], weights)


@pytest.mark.parametrize("keep", [1.0, 0.2], ids=["all records", "sampled"])
def test_windows_like_the_reference_are_quiet(keep: float):
    assert alarms(usual, keep).any(axis=1).sum() <= 3


@pytest.mark.parametrize("keep", [1.0, 0.2], ids=["all records", "sampled"])
def test_eight_percent_of_foreign_traffic_raise_an_alarm(keep: float):
    assert alarms(with_foreign, keep).any(axis=1).sum() >= 80


def test_another_mix_of_labels_raises_none_but_shows_in_the_diagnosis():
    """Ten labels whose confidences have the same mean and different spreads; the mix turns around."""
    shapes = np.linspace(1, 20, 10)
    even, turned = np.full(10, 0.1), np.linspace(1, 19, 10) / 100

    def draw(rng: np.random.Generator, count: int, mix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        label = rng.choice(10, count, p=mix)
        confidence = rng.beta(9 * shapes[label], shapes[label])
        without = rng.random(count) < 0.05
        return label, confidence, without

    raised, seen = 0, 0
    for seed in range(WINDOWS):
        rng = np.random.default_rng(seed)
        windows = []
        for count, mix in ((RECORDS, turned), (EXAMPLES, even)):
            label, confidence, without = draw(rng, count, mix)
            shares = np.bincount(label[~without], minlength=10) / count
            windows.append(Window("", count, plain(confidence), plain(without), shares, count))
        now, before = windows
        raised += rate_alarm(now.without, before.without).is_raised
        raised += confidence_alarm(now.confidence, before.confidence).is_raised
        moves = label_moves([str(place) for place in range(10)], now, before)
        seen += moves["p"] < FALSE_ALARMS
    assert raised <= 5
    assert seen == WINDOWS


@pytest.mark.parametrize("test", ["rate", "confidence"])
def test_the_change_that_is_named_is_seen_four_times_in_five(test: str):
    rng = np.random.default_rng(1)
    confidence, without = usual(rng, EXAMPLES)
    before, run = (plain(without), rate_alarm) if test == "rate" else (plain(confidence), confidence_alarm)
    named = run(plain(before.values[:RECORDS]), before).detectable
    seen = 0
    for _ in range(400):
        if test == "rate":
            now = rng.random(RECORDS) < named
        else:
            now = rng.choice(before.values, RECORDS) - (before.mean - named)
        seen += run(plain(now), before).is_raised
    assert seen / 400 == pytest.approx(0.8, abs=0.06)  # three standard errors of 400 draws


def test_less_without_an_answer_and_more_confidence_are_no_alarm():
    before = plain(np.repeat([1.0, 0.0], [200, 1800]))
    assert not rate_alarm(plain(np.zeros(500)), before).is_raised
    assert not confidence_alarm(plain(np.full(500, 0.99)), plain(np.linspace(0.5, 1, 2000))).is_raised


def test_rate_without_sampling_is_fishers_exact_test():
    from scipy.stats import fisher_exact

    alarm = rate_alarm(plain(np.repeat([1.0, 0.0], [41, 459])), plain(np.repeat([1.0, 0.0], [100, 1900])))
    assert alarm.p == pytest.approx(fisher_exact([[41, 459], [100, 1900]], alternative="greater").pvalue)


def test_confidences_that_were_all_the_same_are_compared_too():
    ones = plain(np.ones(2000))
    assert not confidence_alarm(plain(np.ones(200)), ones).is_raised
    assert confidence_alarm(plain(np.full(200, 0.9)), ones).is_raised
