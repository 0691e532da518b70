"""Tables and Rasa files as spreadsheets and people write them: cells are text, and no row is lost without a word."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from nlp.intent.sources import LoadedSource, Source, load_source
from shared.errors import DataError


def load(tmp_path: Path, name: str, content: str, encoding: str = "utf-8") -> LoadedSource:
    file = tmp_path / name
    file.write_bytes(content.encode(encoding))
    return load_source(Source(str(file)), 0, cache_dir=str(tmp_path / "cache"))


def load_or_refusal(tmp_path: Path, name: str, content: str, encoding: str = "utf-8") -> LoadedSource | str:
    """Return the set, or the message that it is refused with."""
    try:
        return load(tmp_path, name, content, encoding)
    except DataError as error:
        return str(error)


def of_labels(found: LoadedSource) -> Counter[str | None]:
    return Counter(example.label for example in found.examples)


@pytest.mark.parametrize("missing", ["None", "NA", "null", "nan"])
def test_a_class_with_a_name_for_nothing_keeps_its_rows(tmp_path: Path, missing: str):
    rows = [f"{verb} number {n},{label}" for n in range(30) for verb, label in
            (("book a flight", "BookFlight"), ("play song", "PlayMusic"), ("so what", missing))]  # fmt: skip
    found = load(tmp_path, "a.csv", "\n".join(["text,label", *rows]))
    assert of_labels(found) == {"BookFlight": 30, "PlayMusic": 30, missing: 30}


def test_zero_and_one_are_labels(tmp_path: Path):
    assert of_labels(load(tmp_path, "a.csv", "text,label\nhello,0\nhi,0\nbye,1\n")) == {"0": 2, "1": 1}


@pytest.mark.parametrize(
    "labels",
    [
        ["007", "7", "08"],
        ["1", "01", "2.0"],
        ["true", "false", "True"],
        ["1e3", "1000", "inf"],
    ],
    ids=",".join,
)
def test_labels_are_text_as_they_are_written(tmp_path: Path, labels: list[str]):
    rows = [f"text {n},{label}" for n, label in enumerate(labels)]
    assert of_labels(load(tmp_path, "a.csv", "\n".join(["text,label", *rows]))) == Counter(labels)


def test_one_blank_label_changes_no_other(tmp_path: Path):
    found = load(tmp_path, "a.csv", "text,label\nhello,0\nhi,\nhey,0\nbye,1\n")
    assert of_labels(found) == {"0": 2, "1": 1}
    assert found.skipped == ["train row 2: has no label"]


SEMICOLONS = "text;label\nhallo;gruss\nguten tag;gruss\nmoin;gruss\ntschüss;abschied\n"


def test_semicolons_are_read_or_the_setting_is_named(tmp_path: Path):
    found = load_or_refusal(tmp_path, "a.csv", SEMICOLONS)
    if isinstance(found, str):
        assert re.search("separator|delimiter", found)
    else:
        assert of_labels(found) == {"gruss": 3, "abschied": 1}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_other_charsets_are_read_or_the_setting_is_named(tmp_path: Path, encoding: str):
    found = load_or_refusal(tmp_path, "a.csv", SEMICOLONS.replace(";", ","), encoding)
    if isinstance(found, str):
        assert re.search("charset|encoding", found)
        assert len(found.splitlines()) == 1
    else:
        assert found.examples[-1].text == "tschüss"
        assert of_labels(found) == {"gruss": 3, "abschied": 1}


def test_a_row_with_a_comma_too_many_is_named_by_its_line(tmp_path: Path):
    with pytest.raises(DataError, match=r"line 3"):
        load(tmp_path, "a.csv", "text,label\nhello,greet\nhi, how are you,greet\nhey,greet\nbye,bye\n")


def test_a_stray_quote_merges_no_rows_without_a_word(tmp_path: Path):
    lines = [f"set a timer for {n} minutes\ttimer" for n in range(3)]
    lines += ['"quoted start only\ttimer', *(f"wake me at {n}\talarm" for n in range(3)), 'the 5" pipe"\tplumbing']
    found = load_or_refusal(tmp_path, "a.tsv", "\n".join(["text\tlabel", *lines]))
    if isinstance(found, str):
        assert "line 5" in found
    else:
        assert of_labels(found) == {"timer": 4, "alarm": 3, "plumbing": 1}


YES_NO = """version: "3.1"
nlu:
- intent: yes
  examples: |
    - yes
    - yeah
- intent: no
  examples: |
    - no
    - nope
- intent: on
  examples: |
    - switch it on
- intent: off
  examples: |
    - switch it off
"""


def test_rasas_yes_and_no_are_intents(tmp_path: Path):
    assert of_labels(load(tmp_path, "nlu.yml", YES_NO)) == {"yes": 2, "no": 2, "on": 1, "off": 1}


def test_rasas_yes_and_no_are_examples(tmp_path: Path):
    content = "nlu:\n- intent: affirm\n  examples:\n  - text: yes\n  - text: yeah\n- intent: deny\n  examples:\n"
    found = load(tmp_path, "nlu.yml", content + "  - text: no\n  - text: nope\n")
    assert [(e.text, e.label) for e in found.examples] == [
        ("yes", "affirm"), ("yeah", "affirm"), ("no", "deny"), ("nope", "deny")]  # fmt: skip


def test_lines_without_a_dash_are_skipped_and_named(tmp_path: Path):
    content = (
        "nlu:\n- intent: greet\n  examples: |\n    - hello\n    # - good morning, old example\n"
        "    # the next ones came from the logs\n    - good evening\n- intent: bye\n  examples: |\n    - see you\n"
    )
    found = load(tmp_path, "nlu.yml", content)
    assert [e.text for e in found.examples] == ["hello", "good evening", "see you"]
    assert any("old example" in line for line in found.skipped)


def test_out_of_scope_with_a_name_behind_it_is_out_of_scope(tmp_path: Path):
    content = (
        "nlu:\n- intent: faq/hours\n  examples: |\n    - when do you open\n- intent: out_of_scope/other\n"
        "  examples: |\n    - i like turtles\n"
    )
    assert of_labels(load(tmp_path, "nlu.yml", content)) == {"faq/hours": 1, None: 1}
