from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from nlp.qa.sources import Source, load_source
from shared.errors import DataError


def write(path: Path, rows: list[dict]) -> Source:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return Source(str(path))


def row(**changes) -> dict:
    content = {"id": "1", "title": "t", "context": "Ada lit the lamp.", "question": "Who lit it?",
               "answers": {"text": ["Ada"], "answer_start": [0]}}  # fmt: skip
    return {**content, **changes}


def test_squad_v2_is_read_with_its_unanswerable_questions(tmp_path: Path, cache_dir: str):
    path = tmp_path / "squad.json"
    asked = [
        {"id": "a", "question": "Who lit it?", "answers": [{"text": "Ada", "answer_start": 0}], "is_impossible": False},
        {"id": "b", "question": "Who broke it?", "answers": [], "is_impossible": True,
         "plausible_answers": [{"text": "Ada", "answer_start": 0}]},
    ]  # fmt: skip
    path.write_text(json.dumps({"version": "v2.0", "data": [
        {"title": "Lamps", "paragraphs": [{"context": "Ada lit the lamp.", "qas": asked}]}]}))  # fmt: skip
    examples = load_source(Source(str(path)), 0, cache_dir).splits["train"]
    assert [(e.id, e.title, e.texts, e.starts) for e in examples] == [
        ("a", "Lamps", ("Ada",), (0,)),
        ("b", "Lamps", (), ()),
    ]
    assert [e.is_answerable for e in examples] == [True, False]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_flat_rows_are_read_from_json_lines_and_parquet(tmp_path: Path, cache_dir: str, suffix: str):
    rows = [row(), row(id="2", question="What?", answers={"text": ["the lamp"], "answer_start": [8]})]
    path = tmp_path / f"q{suffix}"
    if suffix == ".jsonl":
        write(path, rows)
    else:
        datasets.Dataset.from_list(rows).to_parquet(path)
    found = load_source(Source(str(path)), 3, cache_dir)
    assert [e.texts for e in found.splits["train"]] == [("Ada",), ("the lamp",)]
    assert {e.source for e in found.splits["train"]} == {3}
    assert found.summary()["examples"] == 2


def test_a_folder_of_split_files_keeps_its_splits(tmp_path: Path, cache_dir: str):
    write(tmp_path / "train.jsonl", [row(), row(question="Who was it?")])
    write(tmp_path / "dev.jsonl", [row(question="Who?")])
    found = load_source(Source(str(tmp_path)), 0, cache_dir)
    assert {name: len(part) for name, part in found.splits.items()} == {"train": 2, "val": 1}


def test_a_question_that_stands_twice_is_taken_once_and_named(tmp_path: Path, cache_dir: str):
    found = load_source(write(tmp_path / "q.jsonl", [row(), row(id="2")]), 0, cache_dir)
    assert len(found.splits["train"]) == 1
    assert found.skipped == ["train row 1: occurs twice"]


def test_answers_that_do_not_stand_where_they_should_stop_the_run(tmp_path: Path, cache_dir: str):
    wrong = row(answers={"text": ["lamp"], "answer_start": [0]})
    with pytest.raises(DataError, match=r"'lamp' is not at 0.*counts characters"):
        load_source(write(tmp_path / "q.jsonl", [row(), wrong]), 0, cache_dir)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"question": "Who?"}', "expected question, context and answers"),
        ("{", "line 1 is not JSON"),
        (json.dumps(row(question=" ")), "the question or the context is empty"),
    ],
)
def test_unusable_rows_are_refused_with_what_was_expected(tmp_path: Path, cache_dir: str, content: str, said: str):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        load_source(Source(str(path)), 0, cache_dir)


def test_a_missing_file_is_said_to_be_missing(cache_dir: str):
    with pytest.raises(DataError, match="does not exist"):
        load_source(Source("nowhere/questions.jsonl"), 0, cache_dir)


def test_squad_of_another_shape_is_refused(tmp_path: Path, cache_dir: str):
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"data": [{"title": "t"}]}))
    with pytest.raises(DataError, match="as in SQuAD"):
        load_source(Source(str(path)), 0, cache_dir)


def test_the_fingerprint_follows_the_content_and_not_the_order(tmp_path: Path, cache_dir: str):
    first, second = row(), row(question="What lit it?")
    prints = {
        load_source(write(tmp_path / f"{i}.jsonl", rows), 0, cache_dir).fingerprint
        for i, rows in enumerate([[first, second], [second, first], [first, row(question="When?")]])
    }
    assert len(prints) == 2
