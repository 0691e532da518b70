"""Bundles that say how good they are, and what other commands would have printed of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nlp.intent.evaluation import evaluate
from shared.bundle.read import Bundle
from shared.bundle.write import rewrite_bundle
from shared.training.outcomes import Outcomes
from shared.tuning.comparing import Entry, compare
from tests.language_bundles import make_intent_bundle

LABELS = ("book_flight", "play_music", "weather")
HOSTILE = '<script>alert("x")</script>'
COUNT = 330
EXAMPLES: list[object] = [object() for _ in range(200)]


def answered() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [N, 3], out-of-scope scores and targets [N]: 300 with an intent, the third a hard one."""
    rng = np.random.default_rng(4)
    targets = np.concatenate([np.repeat([0, 1, 2], 100), np.full(30, -1)])
    given = np.where(rng.random(COUNT) < np.array([0.97, 0.95, 0.6, 0.0])[targets], targets, rng.integers(0, 3, COUNT))
    probabilities = np.full((COUNT, 3), 0.05)
    probabilities[np.arange(COUNT), given] = 0.9
    scores = np.where(targets < 0, rng.uniform(0.3, 1, COUNT), rng.uniform(0, 0.55, COUNT))
    return probabilities, scores, targets


def metrics() -> dict[str, Any]:
    """What a run would write of `answered`."""
    found = evaluate(
        *answered(), np.zeros(COUNT, dtype=int), labels=LABELS, sources=["all"], abstain_below=0.5, acceptance=0.95
    )
    worth = {
        "measure": "accuracy", "examples": 300, "value": 0.86, "low": 0.82, "high": 0.9, "beaten_by": [],
        "baselines": {"always the most frequent intent": 0.3333, "the nearest intent by its words": 0.7},
    }  # fmt: skip
    return {**found, "worth": worth}


def intent_bundle(folder: Path, split: Mapping[str, Any] | None = None, **changes: Any) -> Bundle:
    """Return a tiny bundle that says this of its splits: metrics of test data if not given."""
    plain = make_intent_bundle(folder / "plain", labels=LABELS)
    said = {"metrics": {"test": metrics()} if split is None else dict(split), **changes}
    config = plain.config.model_copy(update=said)
    return rewrite_bundle(plain, folder / "bundle", config, onnx=plain.file("model.onnx"))


def entry(bundle: Bundle, name: str, wrong_every: int, version: str | None = None) -> Entry:
    """A bundle of a comparison that has every n-th answer wrong."""
    values = (np.arange(len(EXAMPLES)) % wrong_every > 0).astype(float)
    labels = [LABELS[i % 3] for i in range(len(values))]
    outcomes = Outcomes(
        "right answers", "", EXAMPLES, values, ["x"] * len(values), np.full(len(values), 0.9), labels,
        [5 + i % 40 for i in range(len(values))], "words", ["text"] * len(values),
    )  # fmt: skip
    return Entry(name, outcomes, 2.0, 20.0, version=version or f"{bundle.name} {bundle.version}")


def compared(bundle: Bundle, ours: int = 10, other: int = 3) -> dict[str, Any]:
    """What `percept compare --json` prints of a bundle and another, each of which has every n-th answer wrong."""
    return compare([entry(bundle, "ours", ours), entry(bundle, "other", other, "another 2026.01.01-00000000")])
