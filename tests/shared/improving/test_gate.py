"""The gate lets equals through, lets nothing through that is a margin worse, and says where it cannot tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.gate import drawn
from shared.errors import ConfigError
from shared.improving.gate import PASSES, REFUSED, UNDECIDED, Bounds, judge_gate, powers
from shared.pages import render
from shared.training.outcomes import Outcomes
from shared.tuning.comparing import Entry
from shared.tuning.paired import SURE, margin_p, no_loss, worse_p

RUNS, COUNT, DIFFER = 25, 3000, 0.03
EXAMPLES: list[object] = [object() for _ in range(COUNT)]


def entry(values: np.ndarray, confidence: float | np.ndarray = 0.9, *, labels: list[str] | None = None) -> Entry:
    """Answers that are right in nine of ten cases are calibrated by that."""
    count = len(values)
    outcomes = Outcomes(
        "right answers", "", EXAMPLES[:count], values, ["x"] * count, np.broadcast_to(confidence, count).astype(float),
        labels or ["one"] * count, [1] * count, "words",
    )  # fmt: skip
    return Entry("it", outcomes, 1.0, 1.0)


def right(count: int = COUNT) -> np.ndarray:
    return (np.arange(count) % 10 > 0).astype(float)


def flipped(values: np.ndarray, worse: int, better: int = 0) -> np.ndarray:
    """As many right answers made wrong, and wrong ones made right."""
    found = values.copy()
    found[np.flatnonzero(values == 1)[:worse]] = 0
    found[np.flatnonzero(values == 0)[:better]] = 1
    return found


def check(found: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in found["checks"] if each["kind"] == kind)


def test_with_three_thousand_examples_equals_pass_and_one_a_point_worse_does_not():
    found: dict[float, Counter[str]] = {}
    for loss in (0.0, 0.01):
        found[loss] = Counter()
        for seed in range(RUNS):
            live, candidate = drawn(COUNT, DIFFER, loss, 15, seed)
            found[loss][judge_gate(candidate, live)["verdict"]] += 1
    assert found[0.0][PASSES] >= 0.9 * RUNS
    assert found[0.01][PASSES] <= 0.1 * RUNS
    assert found[0.01][REFUSED] >= 0.8 * RUNS


def test_the_test_on_all_examples_does_so_in_thousands_of_draws():
    rng = np.random.default_rng(1)
    for loss, least, most in ((0.0, 0.9, 1.0), (0.01, 0.0, 0.1)):
        shares = ((DIFFER - loss) / 2, (DIFFER + loss) / 2, 1 - DIFFER)
        better, worse, _ = rng.multinomial(COUNT, shares, size=5000).T
        assert least <= float((margin_p(better, worse, COUNT, 0.01) < SURE).mean()) <= most


def test_three_hundred_examples_decide_nothing_at_three_percent_and_the_gate_says_what_would():
    verdicts = Counter(judge_gate(*drawn(300, DIFFER, 0.0, 3, seed)[::-1])["verdict"] for seed in range(10))
    assert verdicts[UNDECIDED] >= 7
    found = judge_gate(entry(flipped(right(300), 4, 4)), entry(right(300)))
    assert found["verdict"] == UNDECIDED
    assert found["sentence"].startswith(
        f"Undecided: needs about {found['more']:,} more examples. Right answers: 90.0 %"
    )
    assert 1000 < found["more"] < 2500
    assert "a loss of 1 point is not ruled out" in found["sentence"]


def test_the_number_of_examples_that_is_asked_for_decides():
    found = judge_gate(entry(flipped(right(300), 4, 4)), entry(right(300)))
    enough = 300 + found["more"]
    assert powers(enough, 8 / 300, 0.01)[2] > 0.75


def test_a_loss_within_the_margin_passes_even_if_it_is_sure():
    found = judge_gate(entry(flipped(right(), 9)), entry(right()))
    assert found["verdict"] == PASSES
    assert "It is a little worse for sure, but within the margin of 1 point" in found["sentence"]


def test_a_loss_is_refused_with_the_figures():
    found = judge_gate(entry(flipped(right(), 80, 10)), entry(right()))
    assert found["verdict"] == REFUSED
    assert found["sentence"].startswith("Refused. Right answers: 90.0 % before, 87.7 % now (-2.3 points); it loses")
    quality = check(found, "quality")
    assert quality["low"] < quality["value"] < quality["high"] < 0


def test_a_label_that_collapses_is_refused_though_all_examples_together_pass():
    labels = ["rare" if i < 250 else "common" for i in range(COUNT)]
    values = right()
    candidate = values.copy()
    candidate[np.flatnonzero(values[:250] == 1)[:30]] = 0
    candidate[250 + np.flatnonzero(values[250:] == 0)[:30]] = 1
    found = judge_gate(entry(candidate, labels=labels), entry(values, labels=labels))
    assert [each["state"] for each in found["checks"] if each["kind"] == "quality"] == ["holds"]
    assert found["verdict"] == REFUSED
    assert "Rare: -12 points on 250 examples" in found["sentence"]


def test_labels_with_few_examples_are_named_as_not_looked_at():
    labels = [f"label {i % 30}" for i in range(COUNT)]
    found = judge_gate(entry(right(), labels=labels), entry(right(), labels=labels))
    assert not [each for each in found["checks"] if each["kind"] == "label"]
    assert "No label has 200 examples" in found["not_checked"][0]


def test_a_bundle_that_became_too_sure_is_refused_and_a_few_answers_do_not_tell():
    found = judge_gate(entry(right(), 0.999), entry(right(), 0.9))
    assert check(found, "calibration")["state"] == "fails"
    assert found["verdict"] == REFUSED
    few = judge_gate(entry(right(50), 0.9), entry(right(50), 0.9), Bounds(margin=0.2))
    assert check(few, "calibration")["state"] == "open"
    assert few["verdict"] == UNDECIDED


def test_answers_without_confidence_are_not_judged_by_it():
    found = judge_gate(entry(right(), np.nan), entry(right(), np.nan))
    assert found["verdict"] == PASSES
    assert found["not_checked"] == ["The answers have no confidence, so calibration was not looked at."]


@pytest.mark.parametrize(
    ("before", "now", "state"), [(10.0, 12.9, "holds"), (10.0, 13.1, "fails"), (0.1, 0.9, "holds")]
)
def test_it_may_take_a_third_longer_and_no_more(before: float, now: float, state: str):
    found = judge_gate(replace(entry(right()), milliseconds=now), replace(entry(right()), milliseconds=before))
    assert check(found, "speed")["state"] == state


def test_a_candidate_that_has_forgotten_a_label_is_refused():
    found = judge_gate(entry(right()), entry(right()), unknown=["refund"])
    assert found["verdict"] == REFUSED
    assert "the candidate does not know refund" in found["sentence"]


def test_power_is_told_and_grows_with_the_examples():
    few, many = (judge_gate(*drawn(count, DIFFER, 0.0, 1, 0)[::-1])["power"] for count in (300, COUNT))
    assert few["notices_loss"] < 0.3
    assert many["notices_loss"] > 0.8
    assert few["passes_equal"] < 0.5
    assert many["passes_equal"] > 0.9
    assert 1900 < many["needed"] < 3000
    assert "a candidate that is 1 point worse would have been refused for it with probability 0." in many["sentence"]


def test_graded_answers_are_judged_by_the_bootstrap():
    rng = np.random.default_rng(0)
    first = rng.uniform(0.5, 1.0, COUNT)
    same = np.clip(first + rng.normal(0, 0.02, COUNT), 0, 1)
    worse = np.clip(first - 0.05 + rng.normal(0, 0.02, COUNT), 0, 1)
    assert judge_gate(entry(same, np.nan), entry(first, np.nan))["verdict"] == PASSES
    assert judge_gate(entry(worse, np.nan), entry(first, np.nan))["verdict"] == REFUSED
    few = no_loss(first[:40], np.clip(first[:40] + rng.normal(0, 0.2, 40), 0, 1), 0.01)
    assert few.p > SURE
    assert few.low < few.high


def test_only_mcnemar_against_the_second_counts_as_worse():
    assert worse_p(np.array([2, 9]), np.array([9, 2])) == pytest.approx([0.0654296875, 1.0])


def test_what_the_gate_says_can_be_put_on_a_page():
    found = judge_gate(entry(flipped(right(), 5, 5), np.nan), entry(right(), np.nan))
    assert "Percept promote" in render("promote", "x", found, "")


def test_bounds_that_no_data_can_show_are_refused():
    with pytest.raises(ConfigError, match="No data can show that nothing is lost"):
        Bounds(margin=0.0)
    with pytest.raises(ConfigError, match="may always take as long"):
        Bounds(slowdown=0.9)
