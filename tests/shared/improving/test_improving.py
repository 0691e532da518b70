"""Reviews become examples, examples the next version of a dataset, and that a better bundle; what is held out stays."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from nlp.qa.sources import Source, load_source
from scripts.main import main
from shared.bundle.read import Bundle, read_bundle
from shared.dataset.columns import kinds_of, to_table
from shared.dataset.layout import LICENCE, PLACE, SHA256, SOURCE, TIME
from shared.dataset.read import Dataset, read_dataset
from shared.dataset.write import write_dataset
from shared.errors import ConfigError
from shared.exploring.rows import load_rows
from shared.improving.examples import OUT_OF_SCOPE, examples_of
from shared.improving.improving import Improvement, prepare
from shared.improving.version import Version, is_recent, next_version, words_of
from shared.records.record import Record
from shared.records.reviewing import Review, keep_reviews
from shared.records.store import Store
from shared.training.recipe import read_recipe
from tests.language_bundles import make_intent_bundle

MODEL = "helpdesk"
NOW = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
VERBS, THINGS = ("cancel", "stop", "end", "quit", "close"), ("plan", "contract", "membership", "account", "service")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(f"sqlite:///{tmp_path / 'records.sqlite'}")
    yield found
    found.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_intent_bundle(tmp_path_factory.mktemp("bundles") / "live", name=MODEL)


def record(store: Store, *texts: str, **more: Any) -> list[int]:
    """Keep records of utterances, and return their ids."""
    before = store.newest(MODEL, 100_000)
    rows = [
        Record(f"r{len(before) + i}", 0, NOW + len(before) + i, "", "intent", MODEL, "v1", "out_of_scope", [], [], 0.3,
               0.9, 1.0, text=text, **more).row()
        for i, text in enumerate(texts)
    ]  # fmt: skip
    store.write(rows)
    ids = sorted(row["id"] for row in store.newest(MODEL, 100_000))
    return ids[len(before) :]


def say(store: Store, records: Sequence[int], labels: Sequence[str] | None, by: str = "ada") -> None:
    unknown, _ = keep_reviews(store, MODEL, by, [Review(each, labels, None, None, "group") for each in records])
    assert not unknown


def dataset_of(folder: Path, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Dataset:
    told = {SOURCE: "before", PLACE: "", TIME: "", LICENCE: "CC BY 4.0", SHA256: ""}
    full = {split: [{**row, **told} for row in rows] for split, rows in parts.items()}
    columns = kinds_of(row for rows in full.values() for row in rows)
    tables = ((split, to_table(rows, columns)) for split, rows in full.items())
    return write_dataset(folder, tables, name="before", columns=columns, history=[{"step": "collect"}])


def rows_of(dataset: Dataset | None, split: str) -> list[dict[str, Any]]:
    assert dataset is not None
    return [row for _, batch in dataset.batches(split) for row in batch.to_pylist()]


def texts_of(dataset: Dataset | None, split: str) -> set[str]:
    return {row["text"] for row in rows_of(dataset, split)}


@pytest.fixture
def before(tmp_path: Path) -> Dataset:
    return dataset_of(tmp_path / "before", {
        "train": [{"text": "book a flight", "label": "book_flight"}, {"text": "play a song", "label": "play_music"},
                  {"text": "will it rain", "label": "book_flight"}],
        "val": [{"text": "fly me home", "label": "book_flight"}, {"text": "music please", "label": "play_music"}],
        "test": [{"text": "reserve a plane", "label": "book_flight"}, {"text": "a song now", "label": "play_music"}],
    })  # fmt: skip


def version_of(
    store: Store, live: Bundle, before: Dataset, folder: Path, recent: Dataset | None = None, **more: Any
) -> Version:
    return next_version(before, recent, examples_of(store, live), live, store.forgotten(), folder, **more)


def cancelling() -> list[str]:
    return [f"{verb} my {thing}" for verb in VERBS for thing in THINGS]


def test_what_most_reviewers_say_is_an_example_with_where_it_is_from(store: Store, live: Bundle):
    agreed, torn, aside, foreign, twice, *_ = ids = record(
        store, "cancel it for ada@example.org", "what now", "hm", "tell me a joke", "stop it", "Stop it!", subject="ada"
    )
    for who, label in (("ada", "cancel"), ("bob", "cancel"), ("eve", "play_music")):
        say(store, [agreed], [label], who)
    say(store, [torn], ["cancel"], "ada")
    say(store, [torn], ["play_music"], "bob")
    say(store, [aside], None)
    say(store, [foreign], [])
    say(store, [twice], ["cancel"])
    say(store, ids[5:], ["play_music"])
    found = examples_of(store, live)
    assert {(each.row["text"], each.row["label"]) for each in found.examples} == {
        ("cancel it for [e-mail]", "cancel"),
        ("tell me a joke", OUT_OF_SCOPE),
    }
    first = next(each.row for each in found.examples if each.row["label"] == "cancel")
    assert (first["request_id"], first["reviewer"], first[SOURCE]) == ("r0", "ada, bob, eve", f"reviews of {MODEL}")
    assert first["group"] == store.hashes(["ada"])[0]
    assert found.left_out == Counter({
        "on which reviewers do not agree": 1, "set aside": 1, "with several labels for one input": 2
    })  # fmt: skip
    assert all("row" in each and not each["row"] for each in found.rows_left_out), "what is left out is not kept"


def test_what_is_held_out_stays_and_no_review_of_it_is_trained_on(
    store: Store, live: Bundle, before: Dataset, tmp_path: Path
):
    texts = ["Reserve a plane.", "please, music", "book a flight", "will it rain", *cancelling()]
    ids = record(store, *texts)
    say(store, ids[:1], ["cancel"])
    say(store, ids[1:2], ["cancel"])
    say(store, ids[2:3], ["book_flight"])
    say(store, ids[3:4], ["weather"])
    say(store, ids[4:], ["cancel"])
    found = version_of(store, live, before, tmp_path / "out")
    for split in ("val", "test"):
        assert texts_of(found.dataset, split) == texts_of(before, split)
        assert [row["label"] for row in rows_of(found.dataset, split)] == [
            row["label"] for row in rows_of(before, split)
        ]
    trained, kept = texts_of(found.dataset, "train"), texts_of(found.recent, "test")
    assert not trained & kept
    assert trained | kept == {"book a flight", "play a song", *cancelling()}, "weather is new and has one example"
    assert 0 < len(kept) < len(cancelling())
    assert found.new_labels == {"cancel": len(trained) - 2}
    assert set(found.too_few) == {"weather"}
    assert found.left_out["in the test part, which stays as it is"] == 1
    assert found.left_out["in the val part, which stays as it is"] == 1, "the same words in another order"
    assert found.left_out["in the training part already, with this label"] == 1
    assert found.left_out["given another label by reviewers"] == 1
    new = next(row for row in rows_of(found.dataset, "train") if row["text"] in cancelling())
    assert (new[SOURCE], new["reviewer"]) == (f"reviews of {MODEL}", "ada")
    assert found.dataset.info.history[-1]["added"] == found.added
    found.dataset.verify()


def test_a_new_label_needs_examples_enough(store: Store, live: Bundle, before: Dataset, tmp_path: Path):
    say(store, record(store, *cancelling()), ["cancel"])
    found = version_of(store, live, before, tmp_path / "out", least=len(cancelling()))
    assert found.added == 0
    assert 0 < found.too_few["cancel"] < len(cancelling()), "what is kept apart does not count"
    assert found.recent is None
    assert texts_of(found.dataset, "train") == texts_of(before, "train")


def test_one_person_s_reviews_are_all_trained_on_or_all_kept_apart_and_always_the_same(
    store: Store, live: Bundle, before: Dataset, tmp_path: Path
):
    for who in "abcdefgh":
        say(store, record(store, *(f"{text} {who}" for text in cancelling()[:6]), subject=who), ["cancel"])
    examples = examples_of(store, live).examples
    by_person = {each.group: {is_recent(other) for other in examples if other.group == each.group} for each in examples}
    assert all(len(sides) == 1 for sides in by_person.values())
    assert len(by_person) == 8
    first, again = (version_of(store, live, before, tmp_path / name) for name in ("one", "two"))
    assert texts_of(first.recent, "test") == texts_of(again.recent, "test")
    assert first.dataset.info.files == again.dataset.info.files


def test_the_next_time_what_was_kept_apart_stays_apart_and_the_forgotten_go(
    store: Store, live: Bundle, before: Dataset, tmp_path: Path
):
    say(store, record(store, *cancelling()[:20]), ["cancel"])
    say(store, record(store, *(f"{text} today" for text in cancelling()), subject="bob"), ["cancel"])
    first = version_of(store, live, before, tmp_path / "one")
    assert any("today" in text for text in texts_of(first.dataset, "train") | texts_of(first.recent, "test"))
    store.forget("bob")
    store.sweep(datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1))  # the records are gone by now
    say(store, record(store, *cancelling()), ["cancel"])
    second = version_of(store, live, first.dataset, tmp_path / "two", first.recent)
    kept, trained = texts_of(second.recent, "test"), texts_of(second.dataset, "train")
    assert not any("today" in text for text in kept | trained)
    assert {text for text in texts_of(first.recent, "test") if "today" not in text} <= kept
    assert not kept & trained
    assert second.frozen == first.frozen
    assert [step["step"] for step in second.dataset.info.history] == ["collect", "improve", "improve"]


def test_nothing_is_both_trained_on_and_kept_apart(store: Store, live: Bundle, tmp_path: Path):
    texts = cancelling()
    before = dataset_of(tmp_path / "mine", {
        "train": [{"text": text, "label": "stop"} for text in texts[:10]],
        "test": [{"text": "reserve a plane", "label": "stop"}],
    })  # fmt: skip
    say(store, record(store, *texts, *(" ".join(reversed(text.split())) for text in texts)), ["stop"])
    examples = examples_of(store, live).examples
    assert any(is_recent(each) for each in examples if each.row["text"] in texts[:10])
    first = version_of(store, live, before, tmp_path / "one")
    again = version_of(store, live, first.dataset, tmp_path / "two", first.recent)
    for found in (first, again):
        trained, kept = ({words_of(text) for text in texts_of(*part)}
                         for part in ((found.dataset, "train"), (found.recent, "test")))  # fmt: skip
        assert kept
        assert not trained & kept
    assert texts_of(again.recent, "test") == texts_of(first.recent, "test")


def test_out_of_scope_is_no_new_label_whatever_reviewers_call_it(
    store: Store, live: Bundle, before: Dataset, tmp_path: Path
):
    ids = record(store, *cancelling())
    for place, name in enumerate(("oos", "out_of_scope", "nlu_fallback")):
        say(store, ids[place::3], [name])
    found = version_of(store, live, before, tmp_path / "out")
    assert (found.new_labels, found.too_few) == ({}, {})
    assert {row["label"] for row in rows_of(found.dataset, "train") if row["text"] in cancelling()} == {OUT_OF_SCOPE}


def test_what_was_stopped_or_had_nothing_new_is_prepared_again(
    store: Store, live: Bundle, before: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url, wanted = f"sqlite:///{tmp_path / 'records.sqlite'}", Improvement(live, before, None, tmp_path / "out")
    ids = record(store, *cancelling())
    assert prepare(wanted, url, [])["added"] == 0
    say(store, ids, ["cancel"])

    def stopped(*args: Any, **options: Any) -> Version:
        next_version(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shared.improving.improving.next_version", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare(wanted, url, [])
    found = prepare(wanted, url, [])
    assert found["added"] > 8
    say(store, ids, ["book_flight"])
    assert prepare(wanted, url, [])["new_labels"] == found["new_labels"], "as it began"
    with pytest.raises(ConfigError, match="is another improvement"):
        prepare(Improvement(live, before, None, tmp_path / "out", least=2), url, [])


def test_photos_join_a_dataset_of_photos(store: Store, tagger_bundle: Bundle, tmp_path: Path):
    photos = [Image.new("RGB", (40, 40), (200, 5 * i, 0)) for i in range(24)]
    name = tagger_bundle.config.name
    store.write([
        Record(f"p{i}", 0, NOW + i, "", "tagging", name, "v1", "untagged", [], [], 0.2, None, 1.0, photo=photo).row()
        for i, photo in enumerate(photos)
    ])  # fmt: skip
    ids = [row["id"] for row in store.newest(name, 100)]
    keep_reviews(store, name, "ada", [Review(each, ["bus"], None, None, "group") for each in ids[:-1]])
    keep_reviews(store, name, "ada", [Review(ids[-1], ["bus", "cat"], None, None, "group")])

    def file(colour: tuple[int, int, int]) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.new("RGB", (40, 40), colour).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": "a.png"}

    before = dataset_of(tmp_path / "before", {
        "train": [{"image": file((9, 9, i)), "label": "cat"} for i in range(4)],
        "val": [{"image": file((1, 9, 9)), "label": "cat"}], "test": [{"image": file((2, 9, 9)), "label": "dog"}],
    })  # fmt: skip
    found = next_version(before, None, examples_of(store, tagger_bundle), tagger_bundle, set(), tmp_path / "out")
    assert found.left_out == Counter({"with several tags, where the dataset has one for each photo": 1})
    assert found.added + len(found.recent or ()) == 23
    assert [row["label"] for row in rows_of(found.dataset, "train")] == ["cat"] * 4 + ["bus"] * found.added
    assert load_rows(found.dataset).image == "image"


def test_a_dataset_that_nobody_has_divided_is_refused(store: Store, live: Bundle, tmp_path: Path):
    say(store, record(store, *cancelling()), ["cancel"])
    whole = dataset_of(tmp_path / "whole", {"train": [{"text": "book a flight", "label": "book_flight"}]})
    with pytest.raises(ConfigError, match="does not say how it was divided"):
        version_of(store, live, whole, tmp_path / "out")


def improve(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["improve", "intent", *map(str, args)])


def test_reviews_become_a_bundle_that_knows_more_and_a_stopped_run_goes_on(tmp_path: Path, store: Store):
    table = tmp_path / "utterances.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for label, words in {"pay": ("pay", "bill", "invoice"), "ship": ("parcel", "send", "deliver")}.items():
            endings = [
                f"{number} {end}" for number in ("one", "two", "three", "four") for end in ("now", "soon", "then")
            ]
            writer.writerows([f"{word} it {end}", label] for word in words for end in endings)
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({"name": "desk", "licence": "MIT", "sources": [{"kind": "files", "path": str(table)}]}))
    assert CliRunner().invoke(main, ["collect", str(spec), str(tmp_path / "data")]).exit_code == 0
    fitted = CliRunner().invoke(main, [
        "fit", "intent", "--data.source", str(tmp_path / "data"), "--name", MODEL, "--run_dir", str(tmp_path / "run"),
        "--model.encoder", "tfidf", "--data.vocabulary_size", "300", "--data.test_share", "0.2",
    ])  # fmt: skip
    assert fitted.exit_code == 0, fitted.output
    live = read_bundle(tmp_path / "run" / "bundle")
    recipe = read_recipe(live)
    assert recipe is not None
    assert recipe["model"]["encoder"] == "tfidf"
    assert "source" not in recipe["data"]
    assert "run_dir" not in recipe
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    fixed = ("--records", url, "--data", tmp_path / "data", "--over", live.path)
    none = improve(tmp_path / "none", *fixed)
    assert none.exit_code == 2
    assert "no records" in none.output
    record(store, "hello there")
    none = improve(tmp_path / "none", *fixed)
    assert none.exit_code == 3, none.output
    assert "nothing was trained" in none.output
    say(
        store,
        record(store, *(f"{text}{end}" for text in cancelling() for end in ("", " please", " today"))),
        ["cancel"],
    )
    out = tmp_path / "better"
    done = improve(out, *fixed)
    assert done.exit_code == 0, done.output
    assert "New labels: cancel" in done.output
    both = json.dumps([{"path": str(out / "dataset")}, {"path": str(out / "recent")}])
    assert f"Next: percept promote {out / 'bundle'} --over {live.path} --data.source '{both}'" in done.output
    better = read_bundle(out / "bundle")
    assert better.labels == ["cancel", "pay", "ship"]
    assert better.config.name == MODEL
    told = json.loads((out / "improved.json").read_text())
    assert told["compared"]["recent"]["verdict"].startswith("candidate is better than live")
    assert f"{told['recent']} utterances have labels that the live bundle does not know" in "".join(
        told["compared"]["recent"]["notes"]
    )
    assert (out / "test.html").is_file()
    assert (out / "recent.html").is_file()
    made = (out / "bundle" / "config.json").stat().st_mtime_ns
    again = improve(out, *fixed)
    assert again.exit_code == 0, again.output
    assert "Going on in" in again.output
    assert (out / "bundle" / "config.json").stat().st_mtime_ns == made
    other = improve(out, *fixed, "--model.method", "nearest_centroid")
    assert other.exit_code == 2
    assert "is another improvement" in other.output
    gated = CliRunner().invoke(main, [
        *shlex.split(told["next"])[1:], "--registry",
        str(tmp_path / "registry"), "--margin", "40", "--ece-margin", "0.9", "--slowdown", "9", "--json",
    ])  # fmt: skip
    # The gate asks the new label, too, which the test part of before does not have.
    assert json.loads(gated.stdout)["examples"] == told["rows"]["test"] + told["recent"], gated.output
    assert read_dataset(out / "dataset").info.splits["test"] == told["rows"]["test"]


def test_reviewed_answers_are_questions_that_can_be_trained_on(store: Store, qa_bundle: Bundle, tmp_path: Path):
    name, context = qa_bundle.config.name, "The engine was described by Ada in 1815."
    store.write([
        Record(f"q{i}", 0, NOW + i, "", "qa", name, "v1", "answered", [], [], 0.5, None, 1.0, text=f"who, {i}?",
               context=context).row() for i in range(4)
    ])  # fmt: skip
    ids = sorted(row["id"] for row in store.newest(name, 10))
    for record_, answer in zip(ids, ("Ada", "", "Charles", "Ada"), strict=True):
        keep_reviews(store, name, "ada", [Review(record_, None, answer, None, "audit")])
    found = examples_of(store, qa_bundle)
    assert found.left_out == Counter({"whose answer is not in the text": 1})
    rows = [example.row for example in found.examples]
    tables = [("train", to_table(rows, found.columns))]
    write_dataset(tmp_path / "asked", tables, name="asked", columns=found.columns, history=[{"step": "review"}])
    read = load_source(Source(str(tmp_path / "asked")), 0)
    assert [(e.question, e.texts, e.starts) for e in read.splits["train"]] == [
        ("who, 0?", ("Ada",), (28,)), ("who, 1?", (), ()), ("who, 3?", ("Ada",), (28,))
    ]  # fmt: skip
    refused = CliRunner().invoke(
        main, ["improve", "qa", "out", "--records", "sqlite:///x", "--data", "d", "--over", "b"]
    )
    assert refused.exit_code == 2
    assert "percept review dataset" in refused.output


def test_mistakes_are_told_in_a_line(tmp_path: Path, live: Bundle, before: Dataset, store: Store):
    record(store, "hello")
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    for args, message in (
        (("--model.lr", "1", "--records", url, "--data", before.path, "--over", live.path), "comes before options"),
        ((tmp_path / "out", "--records", url, "--data", tmp_path / "no", "--over", live.path), "is no dataset"),
        ((tmp_path / "out", "--records", url, "--data", before.path, "--over", tmp_path / "no"), "no bundle at"),
        ((tmp_path, "--records", url, "--data", before.path, "--over", live.path), "is not empty"),
    ):
        done = improve(*args)
        assert done.exit_code == 2, done.output
        assert message in done.output
    say(store, record(store, *cancelling()), ["cancel"])
    done = improve(tmp_path / "out", "--records", url, "--data", before.path, "--over", live.path)
    assert done.exit_code == 2
    assert "does not keep the settings" in done.output
