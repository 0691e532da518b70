from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from nlp.intent.sources import Source, load_source
from shared.errors import DataError
from shared.sources.rasa import is_rasa, read_rasa, without_entities


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def load(path: str, tmp_path: Path, **options):
    return load_source(Source(path, **options), 0, cache_dir=str(tmp_path / "cache"))


def test_every_form_gives_the_same_utterances(tmp_path: Path):
    rows = [{"text": "hey", "label": "greet"}, {"text": "pay bob", "label": "pay"}]
    table = datasets.Dataset.from_list(rows)
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.yml").write_text("nlu:\n- intent: greet\n  examples: |\n    - hey\n- intent: pay\n  examples: |\n"
                                    "    - pay bob\n")  # fmt: skip
    found = [load(str(tmp_path / f"a.{kind}"), tmp_path) for kind in ("csv", "tsv", "parquet", "jsonl", "yml")]
    for each in found:
        assert [(e.text, e.label) for e in each.examples] == [("hey", "greet"), ("pay bob", "pay")]
    assert len({each.fingerprint for each in found}) == 1


def test_rasas_yaml_is_read_from_a_folder(tmp_path: Path):
    (tmp_path / "nlu.yml").write_text(NLU)
    assert load(str(tmp_path), tmp_path).labels == ["book/flight", "greet"]


def test_duplicates_are_left_out_and_contradictions_are_named(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [
        {"text": "Hello!", "label": "greet"},
        {"text": " hello ", "label": "greet"},
        {"text": "HELLO", "label": "bye"},
        {"text": "", "label": "bye"},
        {"text": "ciao", "label": None},
        {"text": "ciao ciao", "label": "bye"},
    ])  # fmt: skip
    found = load(path, tmp_path)
    assert [(e.text, e.label) for e in found.examples] == [("Hello!", "greet"), ("ciao ciao", "bye")]
    assert found.contradictions == ["'HELLO': greet (kept) and bye"]
    assert len(found.skipped) == 4
    assert "has no text" in found.skipped[2]
    assert "has no label" in found.skipped[3]
    summary = found.summary()
    assert (summary["examples"], summary["labels"], summary["skipped"], summary["contradictions"]) == (2, 2, 4, 1)


def test_of_two_equal_utterances_that_in_the_more_guarded_split_is_kept(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train", "test"):
        write(folder / f"{name}.jsonl", [{"text": "hey", "label": "greet"}, {"text": f"{name} it", "label": "do"}])
    found = load(str(folder), tmp_path)
    assert {(e.split, e.text) for e in found.examples} == {("test", "hey"), ("test", "test it"), ("train", "train it")}


def test_labels_can_mean_that_an_utterance_belongs_to_none(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": "oos"}, {"text": "b", "label": "else"},
                                        {"text": "c", "label": "greet"}])  # fmt: skip
    assert [e.label for e in load(path, tmp_path).examples] == [None, "else", "greet"]
    assert [e.label for e in load(path, tmp_path, out_of_scope_labels=["else"]).examples] == ["oos", None, "greet"]
    assert [e.label for e in load(path, tmp_path, out_of_scope=True).examples] == [None] * 3


def test_columns_can_be_named_and_a_whole_set_be_of_one_split(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"utterance": "a", "intent": 3, "asked": "b", "topic": "x"}])
    [example] = load(path, tmp_path, split="val").examples
    assert (example.text, example.label, example.split) == ("a", "3", "val")
    [example] = load(path, tmp_path, text="asked", label="topic").examples
    assert (example.text, example.label) == ("b", "x")
    [example] = load(path, tmp_path, text="asked", out_of_scope=True).examples
    assert (example.text, example.label) == ("b", None)


def test_a_large_set_can_be_thinned_evenly(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"text": f"say {i}", "label": "x"} for i in range(10)])
    assert [e.text for e in load(path, tmp_path, max_examples=3).examples] == ["say 0", "say 3", "say 6"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"words": "hey", "label": "greet"}], "columns label, words; expected text or"),
        ([{"text": "hey", "topic": "greet"}], "expected label or"),
        ([{"text": 7, "label": "greet"}], "text column holds 7"),
        ([{"text": "hey", "label": None}], "no utterance with a label"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, rows: list[dict], message: str):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.jsonl", rows), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        load(str(tmp_path / "nothing.csv"), tmp_path)


NLU = """
version: "3.1"
nlu:
- intent: greet
  examples: |
    - hey
    - good   morning
- intent: book/flight
  examples:
  - text: |
      - fly to [Paris](city)
    metadata: {sentiment: neutral}
  - text: |
      from [the big apple]{"entity": "city", "value": "NYC"} please
- synonym: NYC
  examples: |
    - the big apple
- regex: zip
  examples: |
    - \\d{5}
- lookup: city
  examples: |
    - Oslo
"""


def test_intents_and_entities_are_read_and_synonyms_and_lookups_kept_beside_them(tmp_path: Path):
    (tmp_path / "nlu.yml").write_text(NLU)
    (tmp_path / "stories.yml").write_text('version: "3.1"\nstories:\n- story: one\n  steps: []\n')
    stored = read_rasa(tmp_path)
    paris = {"start": 7, "end": 12, "entity": "city"}
    new_york = {"start": 5, "end": 18, "entity": "city", "value": "NYC"}
    assert stored.splits["train"] == [
        {"text": "hey", "label": "greet"},
        {"text": "good   morning", "label": "greet"},
        {"text": "fly to Paris", "label": "book/flight", "entities": [paris]},
        {"text": "from the big apple please", "label": "book/flight", "entities": [new_york]},
    ]
    assert stored.synonyms == {"the big apple": "NYC"}
    assert stored.lookups == {"city": ["Oslo"]}
    assert stored.notes == ["nlu.yml: regexes are not used: zip"]


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("to [Oslo](city:OSL)", "to Oslo"),
        ('[two]{"entity": "count", "role": "adults"} seats', "two seats"),
        ('[red wine][{"entity": "drink"}, {"entity": "colour"}]', "red wine"),
        ("keep [this] (as it is)", "keep [this] (as it is)"),
        ("no marks", "no marks"),
    ],
)
def test_entity_marks_are_taken_out(marked: str, plain: str):
    assert without_entities(marked) == plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nlu: [", "cannot be read as YAML"),
        ("nlu: {greet: hey}", "must be a list"),
        ("nlu:\n- intent: greet\n  examples: 3\n", "no example begins with a dash"),
        ("nlu:\n- intent: greet\n  examples: {a: 3}\n", "examples of 'greet'"),
        ("version: '3.1'\nstories: []\n", "no `nlu:` section"),
    ],
)
def test_what_is_not_rasas_form_is_named(tmp_path: Path, content: str, message: str):
    (tmp_path / "nlu.yml").write_text(content)
    with pytest.raises(DataError, match=message):
        read_rasa(tmp_path / "nlu.yml")


def test_a_folder_with_a_table_is_no_rasa_data(tmp_path: Path):
    (tmp_path / "nlu.yml").write_text(NLU)
    assert is_rasa(tmp_path)
    (tmp_path / "train.csv").write_text("text,label\nhey,greet\n")
    assert not is_rasa(tmp_path)
