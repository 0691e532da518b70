"""What a bundle does with utterances in a language that it does not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nlp.intent.decision import Judged, scores_of
from nlp.intent.predictor import IntentPredictor, read_detector
from nlp.intent.sources import Example
from shared.bundle.layout import IntentDecision
from shared.bundle.read import Bundle
from shared.runtime.cpu import OnnxRuntime
from tests.language_bundles import make_intent_bundle

FOREIGN = "je voudrais book un flight pour demain matin s'il vous plaît"
"""Has the words that the tiny bundle knows, in a French sentence."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_intent_bundle(tmp_path_factory.mktemp("languages") / "intent")


def knowing(bundle: Bundle, *languages: str) -> Bundle:
    decision = bundle.config.decision.model_copy(update={"languages": languages})
    return replace(bundle, config=bundle.config.model_copy(update={"decision": decision}))


def predictor(bundle: Bundle) -> IntentPredictor:
    return IntentPredictor(bundle, OnnxRuntime(bundle))


def test_an_utterance_in_another_language_is_out_of_scope_and_not_guessed(bundle: Bundle):
    [found] = predictor(knowing(bundle, "en")).predict([FOREIGN])
    assert (found.intent, found.out_of_scope, found.out_of_scope_score) == (None, True, 1.0)
    assert found.ranking[0].name == "book_flight", "what it would have guessed is still shown"


@pytest.mark.parametrize("languages", [(), ("fr",), ("en", "fr")], ids=["none named", "French", "both"])
def test_it_is_answered_where_its_language_is_known_or_none_is_named(bundle: Bundle, languages: tuple[str, ...]):
    [found] = predictor(knowing(bundle, *languages)).predict([FOREIGN])
    assert found.intent == "book_flight"


def test_short_utterances_are_answered_in_any_language(bundle: Bundle):
    for found in predictor(knowing(bundle, "en")).predict(["flight", "météo ?", "un flight"]):
        assert not found.out_of_scope


def test_older_bundles_name_no_language(bundle: Bundle):
    old = bundle.config.decision.model_dump()
    old.pop("languages")
    assert IntentDecision(**old).languages == ()


def test_evaluation_counts_what_the_service_would_answer(bundle: Bundle):
    examples = [Example(0, None, text, "book_flight") for text in ("book a flight", FOREIGN)]
    found = predictor(knowing(bundle, "en"))
    outputs = found.infer([found.encoder.encode(example.text) for example in examples])
    judged = Judged({"logits": np.stack([row["logits"] for row in outputs])}, np.zeros(2, dtype=int), examples)
    scores = scores_of(judged, read_detector(bundle), found.decision)
    served = [result.out_of_scope_score for result in found.predict([example.text for example in examples])]
    np.testing.assert_allclose(scores, served)
    assert scores[1] == 1.0
