"""Sets with marks: Rasa's folders, CoNLL files, JointBERT's, and tables; what cannot be used is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nlp.intent.data import UNTAGGED, IntentData, exchanged
from nlp.intent.entities import Kind, Span, words_of
from nlp.intent.sources import Example, LoadedSource, Source, load_source
from shared.errors import DataError
from shared.sources.rasa import marked_entities
from shared.sources.tagged import is_tagged, read_tagged

RASA = Path(__file__).parent / "rasa"


def loaded(path: Path, **options) -> LoadedSource:
    return load_source(Source(str(path), **options), 0)


def named(source: LoadedSource) -> dict[str, list[tuple[str, str]]]:
    """Return utterance -> (words, kind) of its entities."""
    return {
        e.text: [(e.text[span.start : span.end], span.kind.name) for span in e.entities or ()] for e in source.examples
    }


def test_a_rasa_folder_of_travel_is_read_whole():
    source = loaded(RASA / "travel")
    marks = named(source)
    assert marks["book a flight from Paris to Rome"] == [("Paris", "city.from"), ("Rome", "city.to")]
    assert marks["check in for KL45MN please"] == [("KL45MN", "booking_code")]
    assert marks["hello"] == []
    assert {e.label for e in source.examples} == {
        "book_flight", "check_in", "greet", "greet+book_flight", "faq/luggage", "faq/pets", None,
    }  # fmt: skip
    assert source.synonyms == {"": {"nyc": "New York", "nueva york": "New York"}, "city": {"the big apple": "New York"}}
    assert source.lookups == {"city": ["Copenhagen", "Buenos Aires", "Zürich"]}
    assert "lookup 'airline': no example marks it" in source.skipped
    assert source.notes == ["faq.yml: regexes are not used: booking_code"]
    assert source.counts()["entities"] == 26


def test_a_rasa_file_of_a_pizzeria_is_read_whole():
    source = loaded(RASA / "pizzeria")
    marks = named(source)
    assert marks["une petite margherita et une grande reine"] == [
        ("petite", "taille#1"), ("margherita", "pizza#1"), ("grande", "taille#2"), ("reine", "pizza#2"),
    ]  # fmt: skip
    assert marks["livrez au 12 rue de l'Église"] == [("12 rue de l'Église", "adresse")]
    assert marks["c'est pour demain soir"] == [], "what is no JSON is told"
    assert source.left_out["entities whose marks cannot be read"] == 1
    assert marks["je prends la reine"] == [("reine", "pizza#1")]
    assert source.left_out["entities over others"] == 1
    assert source.synonyms["adresse"] == {"chez moi": "domicile"}
    assert source.synonyms["pizza"] == {"calzones": "calzone"}
    assert {e.label for e in source.examples} == {"commander", "livrer", "oui", "non"}


def test_every_mark_of_rasa_is_understood_or_named():
    text = (
        '[two]{"entity": "count", "role": "amount", "value": "2"} [red][{"entity": "hue"}] [pizzas](food:pizza) [x]{1}'
    )
    plain, marks, unread = marked_entities(text)
    assert plain == "two red pizzas x"
    assert [(plain[m["start"] : m["end"]], m["entity"], m.get("role"), m.get("value")) for m in marks] == [
        ("two", "count", "amount", "2"), ("red", "hue", None, None), ("pizzas", "food", None, "pizza"),
    ]  # fmt: skip
    assert unread == ["[x]{1}"]


CONLL = """\
# intent: book_flight
from\tO
New\tB-city
York\tI-city
to\tO
Rome\tB-city

# intent = weather
# text = rain in Oslo?
rain O
in O
Oslo S-city
? O
"""


def test_conll_files_are_read_with_their_intents(tmp_path: Path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.conll").write_text(CONLL.replace("Rome", f"Rome{split}"))
    assert is_tagged(tmp_path)
    stored = read_tagged(tmp_path)
    assert set(stored.splits) == {"train", "test"}
    source = loaded(tmp_path)
    assert named(source)["from New York to Rometrain"] == [("New York", "city"), ("Rometrain", "city")]
    assert named(source)["rain in Oslo?"] == [("Oslo", "city")]
    assert {e.label for e in source.examples} == {"book_flight", "weather"}


def test_joint_berts_folders_are_read(tmp_path: Path):
    for split in ("train", "dev"):
        folder = tmp_path / split
        folder.mkdir()
        (folder / "seq.in").write_text(f"play {split} now\nfly to new york\n")
        (folder / "seq.out").write_text("O B-song O\nO O B-city I-city\n")
        (folder / "label").write_text("play\nfly\n")
    stored = read_tagged(tmp_path)
    assert set(stored.splits) == {"train", "val"}
    assert stored.splits["val"][0] == {
        "text": "play dev now", "label": "play", "entities": [{"start": 5, "end": 8, "entity": "song"}],
    }  # fmt: skip
    (tmp_path / "dev" / "seq.out").write_text("O B-song\nO O B-city I-city\n")
    with pytest.raises(DataError, match=r"seq.in line 1 has 3 words; seq.out has 2 tags"):
        read_tagged(tmp_path)
    (tmp_path / "dev" / "label").unlink()
    with pytest.raises(DataError, match="label is missing"):
        read_tagged(tmp_path)


def test_tags_that_are_not_understood_are_named(tmp_path: Path):
    (tmp_path / "a.conll").write_text("# intent: x\nParis\tLOC\n")
    with pytest.raises(DataError, match="line 2: the tag 'LOC' is not understood"):
        read_tagged(tmp_path / "a.conll")
    (tmp_path / "a.conll").write_text("Paris\n")
    with pytest.raises(DataError, match="'Paris' has no tag"):
        read_tagged(tmp_path / "a.conll")


BAD = [
    ([{"start": 3, "end": 90, "entity": "x"}], "entities outside of their text"),
    ([{"start": 4, "end": 4, "entity": "x"}], "entities outside of their text"),
    ([{"start": -1, "end": 4, "entity": "x"}], "entities outside of their text"),
    ([{"start": 4, "end": 5, "entity": "x"}], "entities without words"),
    ([{"start": 0, "end": 4}], "entities that are no marks"),
    ([{"start": "a", "end": 4, "entity": "x"}], "entities that are no marks"),
    (["Rome"], "entities that are no marks"),
    ({"Rome": 1}, "entities that are no marks"),
    ("[{", "entities that are no marks"),
    ([{"start": 0, "end": 4, "entity": "x", "text": "Rome"}], "entities whose words are elsewhere"),
    ([{"start": 0, "end": 4, "entity": "x", "value": "Rome"}], "entities whose words are elsewhere"),
    ([{"start": 0, "end": 4, "entity": "x"}, {"start": 2, "end": 7, "entity": "y"}], "entities over others"),
]


@pytest.mark.parametrize(("marks", "reason"), BAD)
def test_marks_that_cannot_be_used_are_counted_and_the_utterance_stays(tmp_path: Path, marks: object, reason: str):
    rows = [
        {"text": "from to Rome", "label": "a", "entities": marks},
        {"text": "  to Oslo  ", "label": "b", "entities": [{"start": 5, "end": 10, "entity": "city"}]},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = loaded(tmp_path / "a.jsonl")
    assert source.left_out == {reason: 1}
    assert "train row 1" in source.skipped[0]
    assert [e.text for e in source.examples] == ["from to Rome", "to Oslo"]
    assert named(source)["to Oslo"] == [("Oslo", "city")], "blanks before the text and at the ends of a mark"


def test_marks_in_a_csv_are_json(tmp_path: Path):
    mark = json.dumps([{"start": 3, "end": 7, "entity": "city"}]).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'text,label,entities\nto Rome,a,"{mark}"\nhello,b,\n')
    assert named(loaded(tmp_path / "a.csv")) == {"to Rome": [("Rome", "city")], "hello": []}


def test_sets_without_a_mark_teach_nothing_of_entities(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,label\nto Rome,a\nhello,b\n")
    source = loaded(tmp_path / "a.csv")
    assert [e.entities for e in source.examples] == [None, None]
    assert "entities" not in source.counts()


@pytest.fixture
def travel(tmp_path: Path) -> IntentData:
    shutil.copytree(RASA / "travel", tmp_path / "travel")
    data = IntentData(
        str(tmp_path / "travel"), encoder="bilstm", batch_size=16, vocabulary_size=300, val_share=0.2, test_share=0.0,
        two_wishes_per_batch=4, negated_per_batch=6, lookup_share=1.0, cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    data.setup()
    return data


def test_batches_have_a_tag_for_each_word_and_none_for_other_tokens(travel: IntentData):
    batch = travel.plain_dataloader(travel.splits["train"]).dataset[0]
    examples = travel.splits["train"]
    for row, tags in zip(batch["row"].tolist(), batch["tags"], strict=True):
        words = words_of(travel.encoder.encode(examples[row].text))
        assert int((tags != UNTAGGED).sum()) == len(words)
        marked = {span.kind for span in examples[row].entities or ()}
        assert {travel.kinds[(int(tag) - 1) // 2] for tag in tags if tag > 0} == marked


def test_made_utterances_join_the_batches_and_belong_to_no_intent_or_to_both(travel: IntentData):
    batches = travel.train_dataloader().dataset
    for index in range(len(batches)):
        batch, plain = batches[index], min(16, len(batches.batches[index]))
        made = batch["target"][plain:]
        both = travel.labels.index("greet+book_flight")
        assert len(made) > travel.out_of_scope_per_batch
        assert (made[: travel.out_of_scope_per_batch] == -1).all()
        assert set(made.tolist()) - {-1} <= {both, *batch["target"][:plain].tolist()}
        assert batch["tags"].shape == batch["input_ids"].shape
    travel.two_wishes_per_batch = travel.negated_per_batch = 0
    plain = travel.train_dataloader().dataset
    assert len(plain[0]["target"]) == len(plain.batches[0]) + travel.out_of_scope_per_batch


def test_batches_are_the_same_twice(travel: IntentData):
    first, second = (travel.train_dataloader().dataset for _ in range(2))
    for index in range(len(first)):
        assert all((first[index][name] == second[index][name]).all() for name in first[index])


def test_lookups_lend_their_values_to_training():
    import random

    city = Kind("city")
    example = Example(0, "train", "from Rome to Oslo", "fly", None, (Span(5, 9, city), Span(13, 17, city)))
    text, spans = exchanged(example, {"city": ["Buenos Aires"]}, 1.0, random.Random(0))
    assert text == "from Buenos Aires to Buenos Aires"
    assert [text[span.start : span.end] for span in spans] == ["Buenos Aires"] * 2
    assert exchanged(example, {"other": ["x"]}, 1.0, random.Random(0)) == (example.text, example.entities)
