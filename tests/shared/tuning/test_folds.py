"""Folds: each example validates once, labels are shared out alike, and what is tied stays together."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from nlp.intent.data import IntentData
from nlp.intent.sources import Source
from nlp.qa.data import AnswerData
from shared.errors import ConfigError, DataError
from shared.tuning.folds import Fold, alike_photos, folded
from tests.nlp.qa.conftest import rows as questions
from tests.photos import photo
from vision.tagging.data import TaggingData


def folds_of(source: Source, count: int, **options) -> list[IntentData]:
    found = [folded(IntentData, Fold(number, count))([source], test_share=0.1, **options) for number in range(count)]
    for data in found:
        data.read()
    return found


def test_each_example_validates_once_and_the_test_split_stays_out(tickets: Path):
    plain = IntentData(str(tickets), test_share=0.1)
    plain.read()
    found = folds_of(Source(str(tickets)), 4)
    validated = Counter(example.text for data in found for example in data.splits["val"])
    assert set(validated.values()) == {1}
    assert set(validated) == {example.text for name in ("train", "val") for example in plain.splits[name]}
    for data in found:
        assert data.splits["test"] == plain.splits["test"]
        assert not {e.text for e in data.splits["val"]} & {e.text for e in data.splits["train"]}
        labels = Counter(example.label for example in data.splits["val"])
        assert max(labels.values()) - min(labels.values()) <= 1


def test_what_one_person_said_stays_together(tickets: Path):
    with tickets.open(newline="") as table:
        person_of = {row["text"]: row["person"] for row in csv.DictReader(table)}
    for data in folds_of(Source(str(tickets), group="person"), 3):
        people = [{person_of[example.text] for example in data.splits[name]} for name in ("train", "val")]
        assert not people[0] & people[1]


def test_a_group_that_is_no_column_is_refused(tickets: Path):
    with pytest.raises(DataError, match="group: COLUMN"):
        folds_of(Source(str(tickets), group="speaker"), 2)


def test_utterances_that_differ_in_numbers_marks_and_order_stay_together(tmp_path: Path):
    rows = [(f"{subject} {number}, please{'!' * (number % 2)}", label)
            for label, subject in (("a", "cancel my order"), ("b", "where is parcel"))
            for number in range(8)]  # fmt: skip
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    rows += [(f"{word} thing {label * 3}", label) for label in "ab" for word in words]
    file = tmp_path / "near.csv"
    file.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    for data in folds_of(Source(str(file)), 2):
        for subject in ("cancel my order", "where is parcel"):
            splits = {name for name in ("train", "val") for e in data.splits[name] if e.text.startswith(subject)}
            assert len(splits) == 1


def test_the_questions_about_one_text_stay_together(tmp_path: Path):
    (tmp_path / "people.jsonl").write_text("\n".join(json.dumps(row) for row in questions()))
    for number in range(2):
        data = folded(AnswerData, Fold(number, 2))(str(tmp_path / "people.jsonl"), test_share=0.0)
        data.read()
        contexts = [{example.context for example in data.splits[name]} for name in ("train", "val")]
        assert not contexts[0] & contexts[1]


def test_a_label_of_nearly_equal_utterances_is_divided_all_the_same(tmp_path: Path):
    file = tmp_path / "few.csv"
    file.write_text("text,label\n" + "".join(f"order {n},a\nparcel {n},b\n" for n in range(20)))
    for data in folds_of(Source(str(file)), 3):
        assert {example.label for example in data.splits["train"]} == {"a", "b"}
        assert {example.label for example in data.splits["val"]} == {"a", "b"}


def test_fewer_groups_than_folds_are_refused(tmp_path: Path):
    file = tmp_path / "few.csv"
    file.write_text("text,label,who\n" + "".join(f"order {n},a,ada\nparcel {n},b,ben\n" for n in range(20)))
    with pytest.raises(DataError, match="groups of examples cannot be divided into 5 folds"):
        folds_of(Source(str(file), group="who"), 5)


@pytest.mark.parametrize("count", [1, 21])
def test_a_number_of_folds_that_makes_no_sense_is_refused(count: int):
    with pytest.raises(ConfigError, match="folds must be from 2 to 20"):
        Fold(0, count)


def test_near_copies_of_photos_stay_together(tmp_path: Path):
    for label in ("red", "green"):
        (tmp_path / label).mkdir()
        for number in range(8):
            photo(label, number, 160).save(tmp_path / label / f"{number}.jpg")
    photo("red", 0, 160).resize((100, 100)).save(tmp_path / "red" / "small.jpg")
    plain = TaggingData(str(tmp_path), test_share=0.0, image_size_px=32)
    plain.read()
    tied = alike_photos(plain)
    digest = {
        name: hashlib.sha256((tmp_path / "red" / f"{name}.jpg").read_bytes()).hexdigest() for name in ("0", "small")
    }
    assert set(digest.values()) in [set(pair) for pair in tied]
    for number in range(4):
        data = folded(TaggingData, Fold(number, 4), tied)(str(tmp_path), test_share=0.0, image_size_px=32)
        data.read()
        of_split = {name: {data.digest(example) for example in data.splits[name]} for name in ("train", "val")}
        assert any(set(digest.values()) <= found for found in of_split.values())
