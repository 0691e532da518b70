"""A bundle with a reference, and stores that a service could have written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bundle.read import Bundle
from shared.bundle.reference import Reference
from shared.bundle.write import rewrite_bundle
from shared.records.record import Record
from shared.records.store import Store
from tests.language_bundles import make_intent_bundle

HOUR = 3600.0
FEATURES = 8
Write = Callable[[Sequence[Record]], str]


def confidences(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.beta(20, 1, count)


def scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """Out-of-scope scores of which about 5 % are above a half."""
    return np.where(rng.random(count) < 0.05, rng.uniform(0.5, 1, count), rng.uniform(0, 0.5, count))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An intent bundle whose labels were evenly frequent."""
    folder = tmp_path_factory.mktemp("monitoring")
    made = make_intent_bundle(folder / "plain")
    rng = np.random.default_rng(0)
    out = scores(rng, 2000)
    shares = np.full(len(made.labels), (out <= 0.5).mean() / len(made.labels))
    reference = Reference(confidences(rng, 2000), shares, out, rng.normal(1, 1, (500, FEATURES)))
    files = {name: made.file(name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    onnx = made.file("model.onnx")
    return rewrite_bundle(made, folder / "bundle", made.config, onnx=onnx, files={**files, **reference.file()})


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


@pytest.fixture
def write(url: str) -> Write:
    def make(records: Sequence[Record]) -> str:
        store = Store(url)
        store.write([record.row() for record in records])
        store.close()
        return url

    return make


def answers(
    bundle: Bundle, count: int, *, foreign: float = 0.0, hours_ago: float = 0.5, **changes: Any
) -> list[Record]:
    """Return what a service would note of so many inputs, a share of which is of another kind."""
    rng = np.random.default_rng(3)
    is_foreign = rng.random(count) < foreign
    sure = np.where(is_foreign, rng.beta(2, 2, count), confidences(rng, count))
    out = np.where(is_foreign, rng.uniform(0.5, 1, count), scores(rng, count))
    features = rng.normal(1, 1, (count, FEATURES)) - 6 * is_foreign[:, np.newaxis]
    found = []
    for place in range(count):
        label, is_out = bundle.labels[place % len(bundle.labels)], out[place] > 0.5
        given: dict[str, Any] = {
            "request_id": f"r{place}", "item": 0, "seconds": time.time() - hours_ago * HOUR - place / 1000, "key": "",
            "task": "intent", "model": bundle.config.name, "version": bundle.config.version,
            "outcome": "out_of_scope" if is_out else "in_scope", "labels": [] if is_out else [label],
            "scores": [] if is_out else [float(sure[place])], "confidence": float(sure[place]),
            "out_of_scope_score": float(out[place]), "share": 1.0, "characters": 20 + place % 40,
            "features": features[place],
        }  # fmt: skip
        found.append(Record(**{**given, **changes}))
    return found
