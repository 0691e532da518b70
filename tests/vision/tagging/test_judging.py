"""From what a network says of the validation photos to a decision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from shared.bundle.calibration import probabilities_from_logits
from shared.bundle.layout import ProblemType, TagDecision
from shared.training.metrics import calibration_error
from tests.networks import photos
from vision.images import ImagePreprocessor
from vision.tagging.judging import Judged, Rule, TagJudging, fit_abstention, fit_centres
from vision.tagging.module import shift_logits
from vision.tagging.network import build_network
from vision.tagging.predictor import likeness
from vision.tagging.taxonomy import Hierarchy

LABELS = ["cat", "dog", "sea", "sun"]
MULTI: ProblemType = "multi_label_classification"


def two_sets() -> TagJudging:
    """Cat or dog in the first set, sea and sun in the second; neither says anything of the other's labels."""
    sources = [
        SimpleNamespace(name="pets", labels=["cat", "dog"], is_single_label=True),
        SimpleNamespace(name="views", labels=["sea", "sun"], is_single_label=False),
    ]
    hierarchy = Hierarchy(LABELS, {})
    data: Any = SimpleNamespace(labels=LABELS, sources=sources)
    return TagJudging(data, ImagePreprocessor(32, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3), hierarchy, MULTI)


def judged(shift: float, count: int = 20_000) -> Judged:
    """Logits that are too low by `shift` for the best pet of a photo, and for sea and sun."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (count, 4))
    logits[:, :2] = -9 + logits[:, :2] * 0.01
    best = generator.integers(0, 2, count)
    logits[np.arange(count), best] = generator.normal(0, 2, count)
    targets = (generator.random((count, 4)) < 1 / (1 + np.exp(-logits - shift))).astype(np.int8)
    source_ids = np.arange(count) % 2
    targets[source_ids == 0, 2:] = -1
    targets[source_ids == 1, :2] = -1
    return Judged(logits.astype(np.float32), targets, source_ids)


def test_scores_that_are_too_low_throughout_are_shifted():
    found = judged(0.8)
    temperature, shift = two_sets().fit_scale(found, can_shift=True)
    assert temperature == pytest.approx(1.0, abs=0.1)
    assert shift == pytest.approx(0.8, abs=0.15)
    rows = found.source_ids == 0
    pets = found.logits[rows][:, :2]
    confidence = probabilities_from_logits(pets + shift, temperature, MULTI).max(axis=1)
    best = pets.argmax(axis=1)
    assert calibration_error(confidence, found.targets[rows][np.arange(rows.sum()), best] == 1) < 0.03


def test_a_network_that_cannot_be_shifted_gets_a_temperature_alone():
    _, shift = two_sets().fit_scale(judged(0.8), can_shift=False)
    assert shift == 0


def test_every_label_gets_a_threshold_and_scores_follow_the_temperature():
    judging, found = two_sets(), judged(0.0)
    decision = judging.fit_decision(found, 2.0)
    assert decision.temperature == 2.0
    assert set(decision.thresholds) == set(LABELS)
    np.testing.assert_allclose(judging.scores(found, 2.0), 1 / (1 + np.exp(-found.logits.astype(float) / 2)))


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "resnet18", "convnext_tiny"])
def test_the_shift_is_added_to_all_logits(architecture: str):
    torch.manual_seed(0)
    network = build_network(architecture, len(LABELS)).eval()
    with torch.inference_mode():
        before = network(photos(2))
        shift_logits(network, 0.75)
        torch.testing.assert_close(network(photos(2)), before + 0.75, rtol=0, atol=1e-5)


def directions(count: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features around three axes of eight, of any length, and the label of each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    features = np.eye(8)[labels] + rng.normal(0, spread, (count, 8))
    return (features * rng.uniform(1, 9, (count, 1))).astype(np.float32), labels


def of_features(features: np.ndarray, labels: np.ndarray) -> Judged:
    targets = np.eye(3, dtype=np.int8)[labels]
    return Judged(targets.astype(np.float32) * 9, targets, np.zeros(len(labels), dtype=int), (), features)


def test_a_photo_unlike_all_that_were_learned_is_foreign_whatever_its_scores():
    train, val, test = (of_features(*directions(300, 0.15, seed)) for seed in (1, 2, 3))
    centres = fit_centres(train)
    np.testing.assert_allclose(np.linalg.norm(centres.astype(float), axis=1), 1, atol=1e-2)
    bare = TagDecision(temperature=1.0, thresholds=dict.fromkeys("abc", 0.5))
    decision = fit_abstention(bare, val, centres, 0.95)
    rule = Rule(decision, centres)
    assert rule.foreign(val).mean() == pytest.approx(0.05, abs=0.01)
    assert rule.foreign(test).mean() == pytest.approx(0.05, abs=0.04)
    others = np.random.default_rng(4).normal(0, 1, (200, 8)).astype(np.float32)
    others[:, :3] = 0
    foreign = Judged(test.logits[:200], test.targets[:200], test.source_ids[:200], (), others)
    assert rule.foreign(foreign).all()
    assert not Rule(bare).foreign(foreign).any(), "a bundle without the limit is as before"


def test_a_label_without_a_training_photo_has_no_centre_and_draws_nothing():
    features, labels = directions(40, 0.1, 5)
    kept = labels != 2
    centres = fit_centres(of_features(features[kept], labels[kept]))
    assert (centres[2] == 0).all()
    assert likeness(np.eye(8)[[2]], centres)[0] < 0.2
