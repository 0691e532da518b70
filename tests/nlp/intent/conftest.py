from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nlp.intent.data import IntentData
from nlp.intent.sources import Source
from tests.encoders import make_encoder

PATTERNS = {
    "greet": ("hello {}", "hi there {}", "good morning {}", "hey {}"),
    "pay": ("pay {} now", "send money to {}", "transfer ten dollars to {}", "i owe {} money"),
    "weather": ("will it rain in {}", "weather for {}", "is it sunny in {}", "forecast for {} please"),
}
NAMES = ("anna", "bela", "cleo", "dana", "emil", "fred", "gina", "hugo", "ines", "jana")
OUTSIDE = "who painted {} in blue"


def rows() -> list[tuple[str, str]]:
    """Return 120 utterances of three intents and 10 of none."""
    found = [(p.format(name), label) for label, patterns in PATTERNS.items() for p in patterns for name in NAMES]
    return found + [(OUTSIDE.format(name), "oos") for name in NAMES]


@pytest.fixture(scope="session")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("utterances") / "wishes.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows()])
    return path


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder"), [text for text, _ in rows()])


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def data(utterances: Path, cache_dir: str) -> IntentData:
    """Of the utterances above, with a tokenizer of their own."""
    found = IntentData(
        [Source(str(utterances))], encoder="bilstm", batch_size=16, vocabulary_size=200, cache_dir=cache_dir
    )
    found.setup()
    return found
