from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nlp.embedding.data import PairData
from tests.encoders import make_encoder

GROUPS = ("shop", "museum", "airline", "bank", "library", "gym")
THINGS = {
    "open": ("When do you open?", "At nine.", ("which hours", "early morning possible")),
    "pay": ("How can I pay?", "By card.", ("is cash fine", "credit accepted")),
    "cancel": ("How do I cancel?", "Write to us.", ("want out", "stop my contract")),
    "lost": ("What if I lost my card?", "Call us.", ("it is gone", "cannot find the thing")),
}


def rows() -> list[dict[str, Any]]:
    """Return 24 questions of six groups, with two paraphrases each."""
    return [
        {
            "group": group,
            "question": f"{question[:-1]} at the {group}?",
            "answer": f"{answer} Ask the {group}.",
            "paraphrases": [f"{group} {text}" for text in paraphrases],
        }
        for group in GROUPS
        for question, answer, paraphrases in THINGS.values()
    ]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows())))
    return path


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that knows the words of the pairs."""
    texts = [text for row in rows() for text in (row["question"], row["answer"], *row["paraphrases"])]
    return make_encoder(tmp_path_factory.mktemp("encoder"), texts)


@pytest.fixture
def data(pairs: Path, tiny: Path, cache_dir: str) -> PairData:
    found = PairData(str(pairs), encoder=str(tiny), batch_size=16, val_share=0.2, test_share=0.2, cache_dir=cache_dir)
    found.setup()
    return found
