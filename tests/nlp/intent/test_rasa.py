from __future__ import annotations

from pathlib import Path

import pytest

from nlp.intent.sources import is_rasa, read_rasa, without_entities
from shared.errors import DataError

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


def test_intents_are_read_and_all_else_is_passed_over(tmp_path: Path):
    (tmp_path / "nlu.yml").write_text(NLU)
    (tmp_path / "stories.yml").write_text('version: "3.1"\nstories:\n- story: one\n  steps: []\n')
    assert read_rasa(tmp_path) == [
        {"text": "hey", "label": "greet"},
        {"text": "good   morning", "label": "greet"},
        {"text": "fly to Paris", "label": "book/flight"},
        {"text": "from the big apple please", "label": "book/flight"},
    ]


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
        ("nlu:\n- intent: greet\n  examples: 3\n", "examples of 'greet'"),
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
