"""What is new in a window, and what the inputs look like."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from scripts.main import main
from shared.bundle.read import Bundle
from shared.monitoring.diagnosis import brightness, languages
from shared.monitoring.groups import MOST_GROUPS, MOST_RECORDS, new_groups
from shared.monitoring.sentences import lines
from tests.shared.monitoring.conftest import FEATURES, Write, answers

PARKING = [f"parking for my {what} please" for what in ("car", "van", "bike", "bus")]
PETS = [f"is my {what} dog allowed inside" for what in ("small", "large", "old", "young")]
ABOUT_30 = range(30, 34)
"""One that is alike to no other may be put with the nearest group."""
USUAL = ["hello there", "book a table", "what will the weather be"]


def rows(bundle: Bundle, *, new: int = 30) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Return usual records of every label, two groups that are new, and some of which each is alone."""
    rng = np.random.default_rng(5)
    found, texts = [], {}

    def add(outcome: str, labels: list[str], middle: np.ndarray, text: str, spread: float = 0.1) -> None:
        features = (middle + spread * rng.standard_normal(FEATURES)).astype("<f2").tobytes()
        texts[len(found)] = text
        found.append({"id": len(found), "outcome": outcome, "labels": labels, "features": features})

    spots = np.eye(FEATURES)
    for place in range(120):
        label = place % len(bundle.labels)
        add("in_scope", [bundle.labels[label]], spots[label], USUAL[label % len(USUAL)])
    for place in range(new):
        add("out_of_scope", [], spots[5] + 0.3 * spots[0], PARKING[place % 4])
        add("out_of_scope", [], spots[6], PETS[place % 4])
    for place in range(6):
        add("out_of_scope", [], 3 * rng.standard_normal(FEATURES), f"word{place} nobody{place} knows{place}")
    return found, texts


def test_what_is_new_is_grouped_named_by_its_words_and_beside_its_nearest_label(bundle: Bundle):
    found, texts = rows(bundle)
    parking, pets = sorted(new_groups(bundle, found, None, texts), key=lambda group: "dog" in group["name"])
    assert "parking" in parking["name"]
    assert "dog" in pets["name"]
    assert parking["size"] in ABOUT_30
    assert pets["size"] in ABOUT_30
    assert set(PARKING) <= {texts[id_] for id_ in parking["records"]}
    assert parking["typical"] == parking["records"][:8]
    assert parking["nearest"] == bundle.labels[0]


def test_without_texts_a_group_is_named_by_what_is_near(bundle: Bundle):
    found, _ = rows(bundle)
    groups = new_groups(bundle, found, None, {})
    assert len(groups) == 2
    assert {group["size"] for group in groups} <= set(ABOUT_30)
    assert f"near {bundle.labels[0]}" in {group["name"] for group in groups}


def test_what_one_person_wrote_names_no_group(bundle: Bundle):
    found, texts = rows(bundle)
    texts = {id_: f"{text} zanzibar" if id_ == 121 else text for id_, text in texts.items()}
    assert not any("zanzibar" in group["name"] for group in new_groups(bundle, found, None, texts))


def test_far_features_count_as_new_although_a_label_was_given(bundle: Bundle):
    found, texts = rows(bundle)
    for row in found[120:180]:
        row.update(outcome="in_scope", labels=[bundle.labels[1]])
    usual = np.stack([np.frombuffer(row["features"], "<f2").astype(float) for row in found[:120]])
    assert sum(group["size"] for group in new_groups(bundle, found, usual, texts)) >= 50


def test_few_strange_records_are_no_group(bundle: Bundle):
    found, texts = rows(bundle, new=0)
    assert new_groups(bundle, found, None, texts) == []
    assert new_groups(bundle, [{**row, "features": None} for row in found], None, texts) == []


def test_groups_and_their_ids_are_bounded(bundle: Bundle):
    found, texts = rows(bundle, new=700)
    groups = new_groups(bundle, found, None, texts)
    assert len(groups) <= MOST_GROUPS
    assert [len(group["records"]) for group in groups] == [MOST_RECORDS, MOST_RECORDS]
    assert all(700 <= group["size"] <= 706 for group in groups)


def test_groups_are_on_the_page_in_the_lines_and_in_json(bundle: Bundle, write: Write, tmp_path: Path):
    usual = answers(bundle, 300, text="book a table for two people")
    new = answers(bundle, 60, foreign=1.0, text="where can i park my car")
    url, page = write([*usual, *new]), tmp_path / "page.html"
    args = ["monitor", str(bundle.path), "--records", url, "-o", str(page), "--json"]
    result = CliRunner().invoke(main, args, catch_exceptions=False)
    found = json.loads(result.stdout)
    group = found["groups"][0]
    assert "where can i park my car" in group["texts"]
    assert any(line.strip().startswith(f"new: {group['size']} records like {group['name']}") for line in lines(found))
    assert found["diagnosis"]["languages"][0]["code"] == "en"
    assert "where can i park my car" in page.read_text("utf-8")


def test_the_language_of_texts_is_told_beside_what_it_was():
    english, german = ["when does the shop open on sundays"], ["wann macht der Laden sonntags auf"]
    assert languages(english + 3 * german, english) == [
        {"code": "de", "now": 0.75, "before": 0.0},
        {"code": "en", "now": 0.25, "before": 1.0},
    ]
    assert languages(english, [])[0]["before"] is None
    assert languages([], []) == []


@pytest.mark.parametrize(("grey", "expected"), [(0, 0.0), (255, 1.0)])
def test_brightness_is_that_of_the_photos_that_can_be_seen(grey: int, expected: float):
    buffer = io.BytesIO()
    Image.new("L", (40, 30), grey).save(buffer, "JPEG")
    found = brightness([buffer.getvalue(), b"no photo"])
    assert found is not None
    assert found.values.tolist() == pytest.approx([expected], abs=0.01)
    assert brightness([b"no photo"]) is None
