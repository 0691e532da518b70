"""The decision that is fitted: honest confidences, a stated share that passes, and a score that means a chance."""

from __future__ import annotations

import numpy as np
import pytest

from nlp.intent.decision import (
    Judged,
    choose_detector,
    compare,
    cross_fitted,
    fit_decision,
    measure,
    probabilities_of,
    scores_of,
)
from nlp.intent.judging import judge_texts
from nlp.intent.predictor import Detector, IntentPredictor
from nlp.text import TextEncoder
from shared.bundle.read import Bundle
from shared.errors import CalibrationError
from shared.runtime.cpu import OnnxRuntime
from shared.training.metrics import calibration_error

RNG = np.random.default_rng(2)
ENERGY = Detector("energy")


def judged(inside: int = 4000, outside: int = 400, scale: float = 3.0) -> Judged:
    """Utterances whose logits are `scale` times those that would be honest."""
    honest = RNG.normal(size=(inside, 5)) * 2
    chances = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    targets = np.array([RNG.choice(5, p=row) for row in chances])
    none = RNG.normal(size=(outside, 5)) * 0.7
    logits = np.concatenate([honest, none]) * scale
    return Judged({"logits": logits.astype(np.float32)}, np.concatenate([targets, np.full(outside, -1)]))


def test_confidences_are_honest_and_the_stated_share_passes():
    sample = judged()
    decision = fit_decision(sample, ENERGY, acceptance=0.9)
    assert decision.temperature == pytest.approx(3.0, rel=0.1)
    inside = sample.targets >= 0
    chances = probabilities_of(sample, decision)[inside]
    assert calibration_error(chances.max(axis=1), chances.argmax(axis=1) == sample.targets[inside]) < 0.03
    named = 1 - scores_of(sample, ENERGY, decision) >= decision.abstain_below
    assert named[inside].mean() == pytest.approx(0.9, abs=1e-3)
    assert named[inside].mean() >= 0.9
    assert (~named[~inside]).mean() > 0.3


def test_the_score_is_a_chance_when_half_of_what_comes_belongs_to_none():
    sample = judged(2000, 2000)
    scores = scores_of(sample, ENERGY, fit_decision(sample, ENERGY, 0.95))
    assert calibration_error(scores, sample.targets < 0) < 0.12  # energy is no line in the log-odds
    assert scores[sample.targets < 0].mean() + scores[sample.targets >= 0].mean() == pytest.approx(1, abs=0.02)
    few = judged(4000, 100)
    found = scores_of(few, ENERGY, fit_decision(few, ENERGY, 0.95))
    assert found[few.targets < 0].mean() > 0.5  # rare ones count as much as all others together


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_a_detector_of_any_scale_is_fitted(factor: float):
    sample = judged()
    scaled = Judged({"logits": sample.outputs["logits"] * factor}, sample.targets)
    one, other = (fit_decision(each, ENERGY, 0.95) for each in (sample, scaled))
    if factor > 1:  # energy grows with the logits
        np.testing.assert_allclose(
            scores_of(sample, ENERGY, one).mean(), scores_of(scaled, ENERGY, other).mean(), atol=0.05
        )
    scores = scores_of(scaled, ENERGY, other)
    assert np.isfinite(scores).all()
    assert scores.std() > 0.01


def test_without_anything_out_of_scope_the_threshold_lies_at_a_half():
    sample = judged(1000, 0)
    decision = fit_decision(sample, ENERGY, acceptance=0.95)
    assert decision.abstain_below == pytest.approx(0.5, abs=0.02)
    assert (1 - scores_of(sample, ENERGY, decision) >= decision.abstain_below).mean() == pytest.approx(0.95, abs=0.002)
    assert compare({"energy": ENERGY}, sample, 0.95) == {}


def test_everything_passes_where_all_must():
    sample = judged(300, 30)
    decision = fit_decision(sample, ENERGY, acceptance=1.0)
    named = 1 - scores_of(sample, ENERGY, decision) >= decision.abstain_below
    assert named[sample.targets >= 0].all()


def test_nothing_to_fit_on_is_refused():
    with pytest.raises(CalibrationError, match="belongs to an intent"):
        fit_decision(judged(0, 10), ENERGY, 0.95)


def test_the_best_detector_is_chosen_unless_one_is_wanted():
    compared = {
        "energy": {"auroc": 0.9, "recall_at_acceptance": 0.5},
        "knn": {"auroc": 0.8, "recall_at_acceptance": 0.7},
    }
    assert choose_detector(compared, "auto") == "knn"
    assert choose_detector(compared, "energy") == "energy"
    assert choose_detector({}, "auto") == "energy"


def test_detectors_are_listed_best_first():
    found = compare({"max_softmax": Detector("max_softmax"), "energy": ENERGY}, judged(scale=1.0), 0.95)
    merits = [each["auroc"] + each["recall_at_acceptance"] for each in found.values()]
    assert merits == sorted(merits, reverse=True)


def test_cross_fitting_measures_on_what_was_not_fitted_on():
    sample = judged(600, 60)
    found = cross_fitted(sample, ENERGY, 0.9, seed=0)
    assert found["kept"] == pytest.approx(0.9, abs=0.05)
    decision = fit_decision(sample, ENERGY, 0.9)
    whole = measure(sample, np.zeros(660, int), ENERGY, decision, list("abcde"), ["x"])["overall"]
    assert whole["kept"] == pytest.approx(0.9, abs=0.002)
    assert found["ece"] != whole["ece"]


def test_judging_gives_what_the_predictor_gives_in_the_order_that_came(intent_bundle: Bundle):
    runtime = OnnxRuntime(intent_bundle)
    predictor = IntentPredictor(intent_bundle, runtime)
    texts = ["play a song that is my song", "météo", "book a flight", "zzz"]
    outputs = judge_texts(runtime, TextEncoder.from_bundle(intent_bundle), texts, "test")
    found = Judged(outputs, np.array([1, 2, 0, -1]))
    chances = probabilities_of(found, predictor.decision)
    scores = scores_of(found, predictor.detector, predictor.decision)
    for i, result in enumerate(predictor.predict(texts)):
        assert result.confidence == pytest.approx(chances[i].max())
        assert result.out_of_scope_score == pytest.approx(scores[i])
        assert result.out_of_scope == (i == 3)
