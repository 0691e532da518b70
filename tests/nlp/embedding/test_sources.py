"""Tables of questions, answers and other words for them: what is read, what is left out, what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nlp.embedding.sources import LoadedSource, Source, load_source, passage_text
from nlp.knowledge.passages import Section
from nlp.knowledge.search import key_text
from shared.errors import DataError

GOOD = {"question": "Can I pay later?", "answer": "Within 14 days.", "paraphrases": ["money next week ok"]}


def load(path: Path, rows: Sequence[dict[str, Any]]) -> LoadedSource:
    file = path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return load_source(Source(str(file)), 0)


def test_lists_and_rows_say_the_same(tmp_path: Path):
    listed = load(tmp_path, [{**GOOD, "paraphrases": ["pay next week", "no cash now"]}])
    table = tmp_path / "pairs.csv"
    table.write_text(
        "question,answer,paraphrase\nCan I pay later?,Within 14 days.,pay next week\n"
        "Can I pay later?,Within 14 days.,no cash now\n"
    )
    by_row = load_source(Source(str(table), name="pairs.jsonl"), 0)
    assert listed.examples == by_row.examples
    assert listed.counts() == {"examples": 2, "questions": 1, "groups": 1}
    assert not listed.has_groups
    assert listed.fingerprint == by_row.fingerprint


def test_a_packed_table_is_read_and_a_broken_one_is_named(tmp_path: Path):
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps({**GOOD, "group": "shop"}).encode()))
    loaded = load_source(Source(str(packed)), 0)
    assert loaded.has_groups
    assert [(e.group, e.passage) for e in loaded.examples] == [("shop", "Can I pay later?. Within 14 days.")]
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be unpacked"):
        load_source(Source(str(packed)), 0)


def test_what_cannot_be_learned_from_is_left_out_with_its_reason(tmp_path: Path):
    loaded = load(
        tmp_path,
        [
            GOOD,
            {**GOOD, "question": " "},
            {**GOOD, "question": "Where?", "answer": None},
            {**GOOD, "question": "Who?", "paraphrases": ["", None]},
            {**GOOD, "question": "What?", "paraphrases": []},
            {**GOOD, "paraphrases": ["Money next week OK."]},
            {**GOOD, "paraphrases": ["can i pay later"]},
            {**GOOD, "question": "May I owe you?"},
            {**GOOD, "answer": "Never.", "paraphrases": ["credit"]},
        ],
    )
    assert [example.paraphrase for example in loaded.examples] == ["money next week ok"]
    assert loaded.left_out == {
        "without a question": 1,
        "without an answer": 1,
        "without other words for the question": 2,
        "that occur twice": 1,
        "that only repeat the question": 1,
        "that stand for several questions of a group": 1,
        "whose question has another answer in the same group": 1,
    }


def test_the_same_words_may_be_asked_in_two_groups(tmp_path: Path):
    loaded = load(tmp_path, [{**GOOD, "group": "shop"}, {**GOOD, "question": "Is credit given?", "group": "bank"}])
    assert loaded.counts() == {"examples": 2, "questions": 2, "groups": 2}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "a", "answer": "b"}], r"has the columns answer, question; expected .* paraphrases \(a list"),
        ([{"question": "a", "paraphrases": ["b"]}], "expected question, answer"),
        (
            [{**GOOD, "paraphrases": "one text"}],
            "row 1: paraphrases holds 'one text'; expected paraphrases with a list",
        ),
        ([{**GOOD, "paraphrases": [7]}], "expected paraphrases with a list of texts"),
        ([{**GOOD, "answer": 7}], "answer holds 7; expected a text"),
        ([{**GOOD, "answer": ""}], "no question with an answer .* The first that was left out: train row 1"),
    ],
)
def test_bad_table_is_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str):
    with pytest.raises(DataError, match=message):
        load(tmp_path, rows)


def test_missing_file_is_named():
    with pytest.raises(DataError, match="does not exist"):
        load_source(Source("nowhere/pairs.jsonl.gz"), 0)


@pytest.mark.parametrize("answer", ["By card.", "By  card,\nor cash. " * 40])
def test_passages_are_those_that_the_knowledge_base_embeds(answer: str):
    section = Section((), 0, len(answer), "answer", "How can I pay?")
    assert passage_text("How can I pay?", answer) == key_text("FAQ", answer, section)
