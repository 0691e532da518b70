"""The cards of intents and answers: metrics, calibration, what is out of scope, and code that fits the bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from nlp.intent.evaluation import evaluate as evaluate_intents
from nlp.intent.predictor import KINDS
from nlp.qa.evaluation import Prediction
from nlp.qa.evaluation import evaluate as evaluate_answers
from nlp.qa.sources import Example
from shared.bundle.card import render_card
from shared.bundle.layout import BundleConfig
from shared.bundle.read import Bundle
from tests.shared.bundle.test_card import section


def intent_metrics(labels: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet([1.0] * len(labels), size=40)
    return evaluate_intents(
        chances, rng.random(40), rng.integers(-1, len(labels), 40), np.zeros(40, dtype=int),
        labels=labels, sources=["wishes"], abstain_below=0.5, acceptance=0.95,
    )  # fmt: skip


def changed(bundle: Bundle, **changes: Any) -> BundleConfig:
    entry = {"name": "wishes", "examples": 130, "labels": 3, "out_of_scope": 10, "skipped": 2, "contradictions": 1,
             "fingerprint": "0123456789abcdef" * 4, "licence": "CC-BY-4.0", "origin": None}  # fmt: skip
    provenance = {**bundle.config.provenance.model_dump(), "dataset": [entry]}
    return BundleConfig.model_validate({**bundle.config.model_dump(), "provenance": provenance, **changes})


@pytest.fixture
def intent_card(intent_bundle: Bundle) -> str:
    val = intent_metrics(intent_bundle.labels)
    val["detectors"] = {"energy": {"auroc": 0.98, "recall_at_acceptance": 0.9}}
    val["cross_fitted"] = {"ece": 0.012, "kept": 0.949, "out_of_scope_recall": 0.91, "right": 0.93}
    return render_card(changed(intent_bundle, metrics={"val": val, "test": intent_metrics(intent_bundle.labels)}))


def test_hugging_face_reads_an_intent_card(intent_card: str):
    data = ModelCard(intent_card).data
    assert data.pipeline_tag == "text-classification"
    assert {"accuracy", "roc_auc", "f1"} <= {result.metric_type for result in data.eval_results}


def test_an_intent_card_says_how_to_call_it_and_what_transformers_makes_of_it(intent_bundle: Bundle, intent_card: str):
    usage = section(intent_card, "## Use it")
    assert "http://localhost:3000/v1/intent" in usage
    assert "refuses this folder" in usage
    loads = section(render_card(changed(intent_bundle, pooling="cls")), "## Use it")
    assert "AutoModelForSequenceClassification.from_pretrained(" in loads
    assert "refuses" not in loads


def test_an_intent_card_tells_what_was_fitted_where(intent_card: str):
    evaluation = section(intent_card, "## Evaluation")
    assert "trust the test rows" in evaluation
    assert "ECE 0.012, named of those with an intent 0.949, refused of those without 0.910, right 0.930" in evaluation
    assert "| energy | energy of the logits | 0.980 | 0.900 |" in evaluation
    calibration = section(intent_card, "## Calibration")
    assert "**Out of scope.** The detector is `energy`" in calibration
    assert "at least 0.500, which lets 95 % of the validation utterances" in calibration


def test_an_intent_card_counts_utterances_not_photos(intent_card: str):
    assert "photo" not in intent_card
    assert "| wishes | 130 | 3 | 10 | 2 | 1 |" in section(intent_card, "## Training data")
    assert "3 labels on test utterances" in intent_card
    assert "| (none) |" in intent_card


@pytest.mark.parametrize("detector", sorted(KINDS))
def test_every_detector_is_explained(intent_bundle: Bundle, detector: str):
    decision = {**intent_bundle.config.decision.model_dump(), "detector": detector}
    calibration = section(render_card(changed(intent_bundle, decision=decision)), "## Calibration")
    assert f"The detector is `{detector}`: " in calibration
    assert "its own" not in calibration


def test_a_copy_without_weights_says_where_they_are(intent_bundle: Bundle):
    text = render_card(changed(intent_bundle), has_weights=False)
    assert "are in the bundle that the command under Training writes" in text
    assert "holds the trained weights" not in text


def test_an_answer_card_has_its_own_sections(qa_bundle: Bundle):
    examples = [
        Example("q1", 0, "t", "Who?", "Ada came.", ("Ada",), (0,)),
        Example("q2", 0, "t", "When?", "Ada.", (), ()),
    ]
    predictions = [Prediction("Ada", 0, 3, 4.0, 1.0, 1.0), Prediction("Ada", 0, 3, -2.0, 0.0, 0.0)]
    metrics = evaluate_answers(examples, predictions, np.array([0.9, 0.1]), 0.5, ["people"])
    text = render_card(changed(qa_bundle, metrics={"test": metrics}))
    data = ModelCard(text).data
    assert data.pipeline_tag == "question-answering"
    assert ("exact_match", 1.0) in {(result.metric_type, result.metric_value) for result in data.eval_results}
    assert "http://localhost:3000/v1/answer" in section(text, "## Use it")
    assert "| test | people | 1 | 1 | 1.000 | 1.000 |" in section(text, "## Evaluation")
    assert "no longer than 8 tokens" in section(text, "## Calibration")
    assert "## Labels" not in text
    assert "photo" not in text


def test_bundles_of_both_tasks_have_cards_without_measurements(intent_bundle: Bundle, qa_bundle: Bundle):
    for bundle in (intent_bundle, qa_bundle):
        text = render_card(changed(bundle, metrics={}))
        assert "## Evaluation" not in text
        assert "## Calibration" in text
