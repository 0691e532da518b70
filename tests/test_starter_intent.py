"""The starter intent classifier that ships: small, as good as its card says, and right about utterances of our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nlp.intent.predictor import IntentPredictor
from nlp.page import render
from shared.bundle.layout import WEIGHTS
from shared.bundle.read import Bundle, read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from tests.test_architecture import MACHINE_PATHS

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "models" / "intent"
MAX_BYTES = 24_000_000
EXPECTED = {
    "could you move two hundred dollars over to my savings": "transfer",
    "what's it going to be like outside on sunday": "weather",
    "how would a german say good evening": "translate",
    "my suitcase never showed up at the airport": "lost_luggage",
    "get me up at a quarter to seven": "alarm",
    "which pin do i use for this account": "pin_change",
    "flip a coin for me": "flip_coin",
    "is there a nice place to eat thai food around here": "restaurant_suggestion",
    "someone stole my visa": "report_lost_card",
    "bye for now": "goodbye",
    **{text: label for label, text in render.IN_SCOPE.items()},  # what the page offers to press
}
"""Written for this, none of it from CLINC150: an utterance and the intent it must get."""
OUTSIDE = (
    *render.OUT_OF_SCOPE,  # what the page offers to press
    "who was the second person to walk on the moon",
    "write me a poem about an old lighthouse",
    "how do bees find their way home",
    "why does my washing machine smell of eggs",
    "translate nothing, sell my guitar on the internet",
    "what did the senate vote on last night",
)
"""Likewise, and nothing that a bank, a kitchen or a trip needs."""


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return read_bundle(STARTER)


@pytest.fixture(scope="module")
def predictor(starter: Bundle) -> IntentPredictor:
    return IntentPredictor(starter, OnnxRuntime(starter))


def test_starter_is_small_enough_to_travel_with_the_code(starter: Bundle):
    assert sum(path.stat().st_size for path in STARTER.iterdir()) <= MAX_BYTES
    assert not (STARTER / WEIGHTS).exists()
    assert f"without `{WEIGHTS}`" in (STARTER / "README.md").read_text("utf-8")


def test_starter_gives_its_golden_outputs(starter: Bundle):
    check_golden(starter, OnnxRuntime(starter))


def test_starter_is_as_good_as_it_must_be_on_validation_utterances(starter: Bundle):
    overall = starter.config.metrics["val"]["overall"]
    assert overall["accuracy"] >= 0.975
    assert overall["auroc"] >= 0.98
    assert overall["out_of_scope_recall"] >= 0.9
    assert overall["kept"] >= 0.95
    assert overall["ece"] <= 0.015
    fair = starter.config.metrics["val"]["cross_fitted"]
    assert fair["kept"] >= 0.94
    assert fair["out_of_scope_recall"] >= 0.9
    assert fair["ece"] <= 0.02


def test_documented_figures_are_those_of_the_bundle(starter: Bundle):
    text = (ROOT / "docs" / "starter-intent.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \|[^|]*\| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(rows) >= 6
    for part, name, value in rows:
        assert float(value) == pytest.approx(starter.config.metrics["val"][part][name], abs=0.0006), (part, name)


def test_starter_names_no_folder_of_the_machine_it_was_made_on():
    for path in (STARTER / "config.json", STARTER / "README.md"):
        text = path.read_text("utf-8")
        assert not [name for name in (*MACHINE_PATHS, "/tmp/") if name in text]  # noqa: S108


def test_our_own_utterances_get_their_intents(predictor: IntentPredictor):
    results = predictor.predict(list(EXPECTED), top_k=1)
    right = [result.intent == intent for result, intent in zip(results, EXPECTED.values(), strict=True)]
    assert sum(right) >= len(EXPECTED) - 2, [(r.intent, r.ranking[0].name) for r in results]


def test_what_belongs_to_no_intent_gets_none(predictor: IntentPredictor):
    results = predictor.predict(OUTSIDE)
    assert sum(result.out_of_scope for result in results) >= len(OUTSIDE) - 2, [r.intent for r in results]
