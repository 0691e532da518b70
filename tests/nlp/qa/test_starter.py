"""The starter reader that ships: small, as good as its card says, and right about texts that nobody trained on."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from nlp.engine import LanguageEngine
from nlp.page.render import ABOUT_PERCEPT
from nlp.qa.predictor import AnswerPredictor
from shared.bundle.read import Bundle, read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from shared.serving.settings import Settings
from tests.test_architecture import MACHINE_PATHS

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "models" / "qa"
MAX_BYTES = 25_000_000
MODELS_BYTES = 90_000_000
LIGHT = (
    "The light on Seal Rock was lit for the first time in 1871. Since 1962 it has been kept by Ada Brandt, who climbs "
    "its 114 steps every evening. A ferry leaves Haven at seven each morning and takes forty minutes to the rock."
)
COFFEE = (
    "Rinse the jug with hot water before the first use. Fill in 60 grams of coarsely ground coffee for each litre, "
    "pour, and wait four minutes. The steel filter may go into the dishwasher; the wooden handle must not."
)


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return read_bundle(STARTER)


@pytest.fixture(scope="module")
def predictor(starter: Bundle) -> AnswerPredictor:
    return AnswerPredictor(starter, OnnxRuntime(starter))


def test_starter_is_small_enough_to_travel_with_the_code():
    assert sum(path.stat().st_size for path in STARTER.iterdir()) <= MAX_BYTES
    assert sum(path.stat().st_size for path in (ROOT / "models").rglob("*") if path.is_file()) <= MODELS_BYTES


def test_starter_gives_its_golden_outputs(starter: Bundle):
    check_golden(starter, OnnxRuntime(starter))


def test_starter_is_as_good_as_it_must_be_on_titles_held_back(starter: Bundle):
    metrics = starter.config.metrics["test"]
    wikipedia = metrics["sources"]["squadshifts_new_wiki"]
    assert wikipedia["f1"] >= 0.78
    assert wikipedia["exact"] >= 0.66
    assert wikipedia["auroc"] >= 0.85
    assert metrics["sources"]["squad_train_a"]["f1"] >= 0.74
    assert metrics["overall"]["silent"] >= 0.95
    assert metrics["overall"]["ece"] <= 0.05


def test_int8_lost_no_more_than_it_may(starter: Bundle):
    assert starter.config.onnx is not None
    gate = starter.config.onnx.int8_gate
    assert gate is not None
    assert gate["max_loss"] <= 0.003
    assert starter.config.onnx.precision == ("int8" if gate["passed"] else "fp32")


def test_documented_figures_are_those_of_the_bundle(starter: Bundle):
    text = (ROOT / "docs" / "starter-qa.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \|[^|]*\| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(rows) >= 8
    metrics = starter.config.metrics["test"]
    for part, name, value in rows:
        found = metrics["overall"][name] if part == "overall" else metrics["sources"][part][name]
        assert float(value) == pytest.approx(found, abs=0.0006), (part, name)


def test_starter_names_no_folder_of_the_machine_it_was_made_on():
    for path in (STARTER / "config.json", STARTER / "README.md"):
        text = path.read_text("utf-8")
        assert not [name for name in MACHINE_PATHS if name in text]


@pytest.mark.parametrize(
    ("question", "context", "expected"),
    [
        ("Who keeps the light?", LIGHT, "Ada Brandt"),
        ("When was the light lit for the first time?", LIGHT, "1871"),
        ("How long does the ferry take?", LIGHT, "forty minutes"),
        ("How much coffee goes into a litre?", COFFEE, "60 grams"),
        ("How long should I wait?", COFFEE, "four minutes"),
    ],
)
def test_questions_on_new_texts_are_answered(predictor: AnswerPredictor, question: str, context: str, expected: str):
    answer = predictor.answer(question, context)
    assert answer is not None
    assert expected in answer.text
    assert context[answer.start : answer.end] == answer.text
    assert len(answer.text) < 3 * len(expected)


@pytest.mark.parametrize(
    ("question", "context"),
    [
        ("Who won the football world cup in 2014?", LIGHT),
        ("What is the capital of Mongolia?", COFFEE),
        ("Which vitamins are in a lemon?", LIGHT),
    ],
)
def test_what_the_text_does_not_say_is_not_answered(predictor: AnswerPredictor, question: str, context: str):
    assert predictor.answer(question, context) is None


@pytest.mark.parametrize(
    ("question", "expected"), [(ABOUT_PERCEPT[0], r"Apache"), (ABOUT_PERCEPT[1], r"Python 3\.1\d")], ids=ABOUT_PERCEPT
)
def test_the_questions_that_the_page_offers_are_answered_from_our_documents(
    question: str, expected: str, tmp_path: Path
):
    settings = Settings(
        device="cpu", intent="none", qa=STARTER, knowledge=tmp_path / "k.sqlite", knowledge_documents="own"
    )

    async def ask() -> str:
        engine = LanguageEngine.load(settings)
        try:
            understood = await engine.understand(question)
        finally:
            await engine.close()
        assert understood.asked is not None
        assert understood.asked.answer is not None, "no answer"
        return understood.asked.answer.text

    assert re.search(expected, asyncio.run(ask()))
