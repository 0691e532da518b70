"""Utterances that a tiny network learns in a second."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from shared.project import PROJECT_ROOT

WORDS = {
    "bill": "invoice bill payment charge",
    "login": "password account sign login",
    "ship": "parcel delivery van box",
}
SMOKE = ["-c", str(PROJECT_ROOT / "configs" / "nlp" / "intent_smoke.yaml")]


def _letters(number: int) -> str:
    """Return a word that no other number has."""
    return "".join("abcdefghij"[int(digit)] for digit in f"{number:03d}")


@pytest.fixture(scope="session")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 180 utterances in three intents, each by one of 12 people."""
    rng = random.Random(0)
    file = tmp_path_factory.mktemp("tuning") / "tickets.csv"
    with file.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(["text", "label", "person"])
        for number in range(180):
            label = sorted(WORDS)[number % 3]
            other = WORDS[rng.choice(sorted(WORDS))].split()
            words = [rng.choice(WORDS[label].split()), rng.choice(other), f"word{rng.randrange(40)}", _letters(number)]
            writer.writerow([" ".join(words), label, f"person {number % 12}"])
    return file


@pytest.fixture
def args(tickets: Path) -> list[str]:
    """Of `percept fit intent`, on these utterances."""
    return [*SMOKE, f"--data.source={tickets}", "--data.test_share=0.1", "--model.hidden_size=16"]
