"""The starter tagger that ships: small, as good as its card says, and right about photos that it never saw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from shared.bundle.read import Bundle, read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
from tests.test_architecture import MACHINE_PATHS
from vision.demo import SAMPLES
from vision.tagging.predictor import TagPredictor

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "models" / "tagger"
MAX_BYTES = 12_000_000
EXPECTED = {"A lion": "lion", "A pavilion": "structure", "A cheetah": "big cat", "A dahlia": "flower"}
"""Sample photo of the page -> a tag that it must get."""


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return read_bundle(STARTER)


def test_starter_is_small_enough_to_travel_with_the_code():
    assert sum(path.stat().st_size for path in STARTER.iterdir()) <= MAX_BYTES


def test_starter_gives_its_golden_outputs(starter: Bundle):
    check_golden(starter, OnnxRuntime(starter))


def test_starter_is_as_good_as_it_must_be_on_photos_held_back(starter: Bundle):
    metrics = starter.config.metrics["test"]
    sets = metrics["sources"]
    assert sets["caltech101"]["top1"] >= 0.90
    assert sets["tiny_imagenet"]["top1"] >= 0.60
    assert sets["tiny_imagenet"]["parents_map"] >= 0.75
    assert sets["scenes"]["map"] >= 0.92
    assert metrics["overall"]["ece"] <= 0.035


def test_documented_figures_are_those_of_the_bundle(starter: Bundle):
    text = (ROOT / "docs" / "starter-tagger.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \|[^|]*\| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(rows) >= 5
    metrics = starter.config.metrics["test"]
    for part, name, value in rows:
        found = metrics["overall"][name] if part == "overall" else metrics["sources"][part][name]
        assert float(value) == pytest.approx(found, abs=0.0006), (part, name)


def test_starter_names_no_folder_of_the_machine_it_was_made_on():
    for path in (STARTER / "config.json", STARTER / "README.md"):
        text = path.read_text("utf-8")
        assert not [name for name in MACHINE_PATHS if name in text]


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample.name in EXPECTED], ids=lambda s: s.name)
def test_sample_photos_get_sensible_tags(starter: Bundle, sample):
    predictor = TagPredictor(starter, OnnxRuntime(starter))
    with Image.open(sample.path) as image:
        [tags] = predictor.predict([image.convert("RGB")])
    assert EXPECTED[sample.name] in [tag.label for tag in tags], tags
