"""What the report counts is what can be counted by hand, and files of something else are refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlp.qa.evaluation import Prediction
from nlp.qa.evaluation import evaluate as evaluate_answers
from nlp.qa.sources import Example
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.intervals import wilson
from shared.reporting.evidence import Comparison, Evidence, Results, measured_of, read_json
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_qa_bundle
from tests.shared.reporting.conftest import answered, compared, intent_bundle, metrics
from vision.tagging.evaluation import SourceView
from vision.tagging.evaluation import evaluate as evaluate_tags
from vision.tagging.taxonomy import Hierarchy


def saying(bundle: Bundle, **splits: Any) -> Bundle:
    return Bundle(bundle.path, bundle.config.model_copy(update={"metrics": splits}), bundle.preprocessor, bundle.golden)


def test_intents_are_counted_as_right_wrong_and_none(tmp_path: Path):
    found = measured_of(intent_bundle(tmp_path))
    assert found is not None
    probabilities, scores, targets = answered()
    named, inside = scores <= 0.5, targets >= 0
    right = named & (probabilities.argmax(axis=1) == targets)
    known, foreign = found.outcomes
    assert known.examples == 300
    assert known.parts["right"] == pytest.approx(right[inside].mean(), abs=1e-4)
    assert known.parts["none"] == pytest.approx((~named)[inside].mean(), abs=1e-4)
    assert known.parts["wrong"] == pytest.approx((named & ~right)[inside].mean(), abs=1e-4)
    assert foreign.parts["right"] == pytest.approx((~named)[~inside].mean(), abs=1e-4)
    assert (known.low, known.high) == pytest.approx([float(end) for end in wilson(known.parts["right"], 300)])


def test_questions_are_counted_by_words_beside_silence(tmp_path: Path):
    rng = np.random.default_rng(1)
    asked, scores, f1 = rng.random(200) < 0.6, rng.random(200), rng.random(200).round(2)
    texts = [("ada",) if each else () for each in asked]
    questions = [
        Example(str(i), 0, "", "who is it", "it is ada", each, (6,) * len(each)) for i, each in enumerate(texts)
    ]
    predictions = [Prediction("ada", 6, 9, 1.0, 0.0, float(value)) for value in f1]
    said = evaluate_answers(questions, predictions, scores, 0.4, ["all"])
    found = measured_of(saying(make_qa_bundle(tmp_path), test=said))
    assert found is not None
    answerable, unanswerable = found.outcomes
    given = scores >= 0.4
    assert answerable.parts["right"] == pytest.approx((f1 * given)[asked].mean(), abs=1e-4)
    assert answerable.parts["none"] == pytest.approx((~given)[asked].mean(), abs=1e-4)
    assert unanswerable.parts["wrong"] == pytest.approx(given[~asked].mean(), abs=1e-4)


def test_photos_with_one_label_are_counted_as_right_wrong_and_none(tmp_path: Path):
    rng = np.random.default_rng(2)
    targets, scores = np.eye(3, dtype=np.int8)[rng.integers(0, 3, 120)], rng.random((120, 3))
    labels = ["cat", "dog", "car"]
    views = [SourceView("all", (0, 1, 2), True)]
    said = evaluate_tags(scores, targets, np.zeros(120, dtype=int), views, Hierarchy(labels, {}), np.full(3, 0.6))
    bundle = make_tagger_bundle(tmp_path, labels, problem_type="single_label_classification")
    found = measured_of(saying(bundle, test=said))
    assert found is not None
    given = scores >= 0.6
    right = (given & (targets == 1)).any(axis=1)
    parts = found.outcomes[0].parts
    assert parts["right"] == pytest.approx(right.mean(), abs=1e-4)
    assert parts["none"] == pytest.approx((~given.any(axis=1)).mean(), abs=1e-4)
    assert parts["wrong"] == pytest.approx((given.any(axis=1) & ~right).mean(), abs=1e-4)


def test_several_labels_per_photo_are_counted_as_found_and_missed(tmp_path: Path):
    said = {"overall": {"examples": 50, "micro_recall": 0.7, "micro_precision": 0.8, "untagged": 0.1}}
    found = measured_of(saying(make_tagger_bundle(tmp_path), test=said))
    assert found is not None
    assert [(each.kind, each.parts["right"]) for each in found.outcomes] == [("labels", 0.7), ("tags", 0.8)]


def test_validation_data_are_read_as_they_were_cross_fitted(tmp_path: Path):
    fair = {"kept": 0.9, "out_of_scope_recall": 0.8, "right": (0.85 * 300 + 0.8 * 30) / 330, "ece": 0.02}
    found = measured_of(intent_bundle(tmp_path, {"val": {**metrics(), "cross_fitted": fair}}))
    assert found is not None
    assert (found.split, found.is_cross_fitted) == ("val", True)
    assert found.outcomes[0].parts["right"] == pytest.approx(0.85)
    assert found.outcomes[0].parts["wrong"] == pytest.approx(0.05)


def test_what_metrics_lose_by_rounding_is_no_wrong_answer(tmp_path: Path):
    """Shares of thirds: as bundles have them, they do not sum to those of all."""
    known, foreign, named, silent = 2999, 97, 2998, 61
    overall = {
        "examples": known + foreign,
        "out_of_scope": foreign,
        "kept": round(named / known, 5),
        "out_of_scope_recall": round(silent / foreign, 5),
        "right": round((named + silent) / (known + foreign), 5),
    }
    intents = measured_of(intent_bundle(tmp_path / "intent", {"test": {"overall": overall}}))
    assert intents is not None
    assert [each.parts["wrong"] for each in intents.outcomes] == [0.0, pytest.approx(36 / 97)]
    overall = {"examples": 300, "unanswerable": 77, "answered": round(200 / 300, 5), "silent": round(50 / 77, 5),
               "f1_at_threshold": round(250 / 377, 5)}  # fmt: skip
    answers = measured_of(saying(make_qa_bundle(tmp_path / "qa"), test={"overall": overall}))
    assert answers is not None
    assert answers.outcomes[0].parts["wrong"] == 0.0
    overall = {"examples": 300, "micro_recall": round(100 / 300, 5), "untagged": round(200 / 300, 5)}
    tagger = make_tagger_bundle(tmp_path / "tagger", problem_type="single_label_classification")
    photos = measured_of(saying(tagger, test={"overall": overall}))
    assert photos is not None
    assert photos.outcomes[0].parts["wrong"] == 0.0


def test_a_label_gets_the_share_that_is_right_and_named(tmp_path: Path):
    found = measured_of(intent_bundle(tmp_path))
    assert found is not None
    probabilities, scores, targets = answered()
    for label in found.labels:
        rows = targets == ("book_flight", "play_music", "weather").index(label.name)
        right = (scores <= 0.5) & (probabilities.argmax(axis=1) == targets)
        assert label.share == label.least == pytest.approx(right[rows].mean(), abs=1e-4)


def test_an_older_bundle_only_says_between_which_shares_a_label_is(tmp_path: Path):
    rows = [
        {"label": "weather", "support": 100, "recall": 0.9, "kept": 0.8},
        {"label": "play_music", "support": 100, "recall": 1.0, "kept": 0.9},
    ]
    found = measured_of(intent_bundle(tmp_path, {"test": {**metrics(), "per_label": rows}}))
    assert found is not None
    label, known = found.labels
    assert known.least == known.share == 0.9
    assert (label.least, label.share) == (pytest.approx(0.7), 0.8)
    assert (label.low, label.high) == pytest.approx((float(wilson(0.7, 100)[0]), float(wilson(0.8, 100)[1])))


def test_a_bundle_that_says_nothing_gives_no_outcome(tmp_path: Path):
    assert measured_of(make_tagger_bundle(tmp_path)) is None  # it has a figure, but no examples
    empty = measured_of(intent_bundle(tmp_path / "intent", {"test": {"overall": {"examples": 0}}}))
    assert empty is not None
    assert not empty.outcomes


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"worth": {"value": "high"}}, "metrics.test.worth.measure"),
        ({"per_label": [{"label": 3, "support": 1}]}, "metrics.test.per_label.0.label"),
        ({"overall": []}, "metrics.test.overall"),
    ],
)
def test_metrics_of_another_form_are_refused_with_their_place(tmp_path: Path, changed: dict[str, Any], place: str):
    with pytest.raises(BundleError, match=re.escape(place)):
        measured_of(saying(make_tagger_bundle(tmp_path), test={**metrics(), **changed}))


def test_what_is_no_number_is_not_counted(tmp_path: Path):
    said = {"overall": {"examples": 50, "micro_recall": "much", "micro_precision": float("nan"), "untagged": None}}
    found = measured_of(saying(make_tagger_bundle(tmp_path), test=said))
    assert found is not None
    assert not found.outcomes


def results(**more: Any) -> str:
    measure = {"name": "n", "value": 1, "unit": "share"}
    return json.dumps({"title": "t", "question": "q", "measures": [measure], **more})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "all of it"),
        ('{"title": "t", "question": "q", "measures": []}', "measures"),
        ('{"title": "t", "question": "q", "measures": [{"name": "n", "value": 1}], "mesures": []}', "mesures"),
        ('{"title": "t", "question": "q", "measures": [{"name": "n", "value": 5, "low": 1, "high": 2}]}', "not within"),
        ('{"title": "t", "question": "q", "measures": [{"name": "n", "value": 5, "low": 1}]}', "both low and high"),
        ('{"title": "t", "question": "q", "measures": [{"name": "n", "value": 5, "unit": "share"}]}', "from 0 to 1"),
        ('{"title": "t", "question": "q", "measures": [{"name": "n", "value": NaN}]}', "finite"),
        (results(models=[{"name": "a", "value": 1, "low": 0.5}]), "models.0: .*both low and high"),
        (results(models=[{"name": "a", "value": 5}]), "a: a share is a number from 0 to 1"),
        (results(weak=[{"name": "a", "value": -1}]), "a: a share is a number from 0 to 1"),
        (results(outcomes={"right": 10**400, "wrong": 0}), "outcomes.right"),
        (results(weak=[{"name": "a", "value": 1, "examples": 10**400}]), "weak.0.examples"),
        (results(cost={"megabytes": 10**400}), "cost.megabytes"),
    ],
)
def test_results_that_are_wrong_are_refused_with_what_is_wrong(tmp_path: Path, content: str, said: str):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_json(file, Results, "See the example.")


def test_a_comparison_of_other_bundles_is_refused_by_name(tmp_path: Path):
    bundle = intent_bundle(tmp_path)
    file = tmp_path / "compare.json"
    file.write_text(json.dumps(compared(bundle)).replace(bundle.version, "2020.01.01-00000000"))
    evidence = Evidence(bundle=bundle, comparison=read_json(file, Comparison, ""))
    with pytest.raises(ConfigError, match=f"and not of {bundle.name} {bundle.version}"):
        evidence.check()
