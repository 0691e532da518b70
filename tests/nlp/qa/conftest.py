from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.encoders import make_encoder

PEOPLE = ("Ada", "Bela", "Cleo", "Dana", "Emil", "Fred", "Gina", "Hugo")
THINGS = ("boat", "lamp", "horse", "violin", "kite", "clock", "garden", "bakery")
PLACES = ("Lisbon", "Oslo", "Quito", "Dakar", "Turin", "Kyoto", "Perth", "Lima")


def rows() -> list[dict]:
    """Return 64 questions on 32 contexts of four titles; every answer is one name of a place or person."""
    found = []
    for i in range(32):
        person, thing, place = PEOPLE[i % 8], THINGS[(i // 2) % 8], PLACES[(i * 3) % 8]
        context = f"{person} has a {thing} in {place}. The {thing} number {i} is old, and people like to look at it."
        for question, answer in ((f"Who has the {thing}?", person), (f"Where is the {thing}?", place)):
            answers = {"text": [answer], "answer_start": [context.index(answer)]}
            found.append({"id": f"q{len(found)}", "title": f"title {i % 4}", "context": context, "question": question,
                          "answers": answers})  # fmt: skip
    return found


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "people.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows()))
    return path


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text for row in rows() for text in (row["context"], row["question"])]
    return make_encoder(tmp_path_factory.mktemp("encoder"), texts)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))
