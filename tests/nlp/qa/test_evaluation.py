from __future__ import annotations

import json
import re
import string
from collections import Counter

import numpy as np
import pytest

from nlp.qa.evaluation import Prediction, best_threshold, evaluate, judge, summary
from nlp.qa.judging import Judged, fit_decision, scores_of
from nlp.qa.sources import Example


def normalise(text: str) -> str:
    """As SQuAD's official script does."""
    text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(given: str, reference: str) -> float:
    left, right = normalise(given).split(), normalise(reference).split()
    same = sum((Counter(left) & Counter(right)).values())
    if not same:
        return float(left == right)
    precision, recall = same / len(left), same / len(right)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("given", "references"),
    [
        ("the Eiffel Tower", ["Eiffel tower", "tower"]),
        ("in 1987, in Paris", ["1987"]),
        ("two old men", ["three old men", "men"]),
        ("Zürich", ["Zurich"]),
        ("nothing alike", ["something else"]),
    ],
)
def test_exact_match_and_f1_are_those_of_squads_official_script(given: str, references: list[str]):
    exact, f1 = judge(given, references)
    assert exact == max(float(normalise(given) == normalise(r)) for r in references)
    assert f1 == pytest.approx(max(official_f1(given, r) for r in references), abs=1e-6)


def random_case(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    answerable = rng.random(count) < 0.6
    margins = rng.normal(answerable * 1.5, 2.0)
    return margins, np.where(answerable, rng.random(count), 0.0), answerable


@pytest.mark.parametrize("digits", [9, 0])
@pytest.mark.parametrize("seed", range(10))
def test_the_threshold_is_the_best_of_all_that_there_are(seed: int, digits: int):
    """With no digit behind the point, many margins are equal."""
    margins, f1, answerable = random_case(seed)
    margins = margins.round(digits)
    threshold, quality = best_threshold(margins, f1, answerable)

    def quality_at(value: float) -> float:
        return float(np.where(answerable, f1 * (margins >= value), margins < value).mean())

    everywhere = [quality_at(value) for value in (*margins, margins.max() + 1)]
    assert quality == pytest.approx(max(everywhere))
    assert quality_at(threshold) == pytest.approx(quality)


def make(count: int = 400, seed: int = 0) -> tuple[list[Example], list[Prediction]]:
    rng = np.random.default_rng(seed)
    examples, predictions = [], []
    for i in range(count):
        is_answerable = bool(rng.random() < 0.6)
        texts = ("Ada",) if is_answerable else ()
        examples.append(Example(str(i), i % 2, "t", "who?", "Ada lit it", texts, (0,) if texts else ()))
        margin = float(rng.normal(2.0 if is_answerable else -2.0, 2.0))
        is_right = is_answerable and bool(rng.random() < 1 / (1 + np.exp(-margin)))
        predictions.append(Prediction("Ada", 0, 3, margin, float(is_right), float(is_right)))
    return examples, predictions


def test_scores_are_honest_after_fitting_and_silence_pays_off():
    fitted = Judged(*make(seed=0, count=2000))
    decision = fit_decision(fitted, 30)
    assert decision.max_answer_tokens == 30
    unseen = Judged(*make(seed=1, count=4000))
    scores = scores_of(unseen, decision)
    report = evaluate(unseen.examples, unseen.predictions, scores, decision.abstain_below, ["one", "two"])
    assert report["overall"]["ece"] < 0.04
    assert report["overall"]["f1_at_threshold"] >= summary(unseen.examples, unseen.predictions)["quality"] - 0.02
    assert set(report["sources"]) == {"one", "two"}
    assert report["overall"]["examples"] + report["overall"]["unanswerable"] == 4000
    json.dumps(report, allow_nan=False)


def test_without_unanswerable_questions_every_answer_is_given():
    examples, predictions = make()
    kept = [i for i, e in enumerate(examples) if e.is_answerable]
    decision = fit_decision(Judged([examples[i] for i in kept], [predictions[i] for i in kept]), 30)
    assert decision.abstain_below == 0.0
