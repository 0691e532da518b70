"""`percept review`: reviews become a dataset that is read again, and go to Label Studio and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from lxml import etree
from PIL import Image

from nlp.intent.sources import Source, load_source
from scripts.main import main
from shared.bundle.read import Bundle
from shared.dataset.read import read_dataset
from shared.improving.label_studio import NO_ANSWER, NOTHING
from shared.records.reviewing import Review, keep_reviews, reviewed
from shared.records.store import Store
from shared.records.tables import RECORDS
from tests.shared.records.test_store import record, rows

TAGGING: dict[str, Any] = {"task": "tagging", "model": "tiny-tagger", "outcome": "tagged", "out_of_scope_score": None}
QA: dict[str, Any] = {"task": "qa", "model": "tiny-qa", "labels": [], "scores": [], "out_of_scope_score": None}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'records.sqlite'}")
    yield made
    made.close()


def write(store: Store, *records: Any) -> list[int]:
    store.write(rows(*records))
    with store.reading() as connection:
        ids = list(connection.scalars(sa.select(RECORDS.c.id).order_by(RECORDS.c.id.desc()).limit(len(records))))
    return ids[::-1]


def unsure(name: str, **more: Any) -> Any:
    return record(name, **{"model": "tiny-intent", "confidence": 0.2, "scores": [0.2], **more})


def say(store: Store, of: int, labels: list[str] | None, by: str = "ada", answer: str | None = None) -> None:
    with store.reading() as connection:
        model = str(connection.scalar(sa.select(RECORDS.c.model).where(RECORDS.c.id == of)))
    assert keep_reviews(store, model, by, [Review(of, labels, answer, None, "audit")]) == ([], 0)


def run(store: Store, *words: Any) -> Result:
    name, bundle, *rest = words
    url = store.engine.url.render_as_string(hide_password=False)
    return CliRunner().invoke(main, ["review", name, str(bundle.path), "--records", url, *map(str, rest)])


def test_reviews_become_a_dataset_that_percept_fit_reads(store: Store, intent_bundle: Bundle, tmp_path: Path):
    ids = write(
        store,
        unsure("a", text="where is my card", subject="zoe", consent=True),
        unsure("b", text="tell me a joke"),
        unsure("c", text="two opinions"),
        unsure("d", text="set aside"),
        unsure("e", text="majority"),
        unsure("f", text="gone", subject="ben"),
    )
    say(store, ids[0], ["card_arrival"])
    say(store, ids[1], [])
    say(store, ids[2], ["a"])
    say(store, ids[2], ["b"], by="ben")
    say(store, ids[3], None)
    for by, label in (("ada", "a"), ("ben", "b"), ("cy", "b")):
        say(store, ids[4], [label], by=by)
    say(store, ids[5], ["a"])
    store.forget("ben")
    out = tmp_path / "out"
    result = run(store, "dataset", intent_bundle, out)
    assert result.exit_code == 0, result.output
    assert "3 examples of 5 reviewed records" in result.output
    assert "1 set aside" in result.output
    assert "1 on which reviewers do not agree" in result.output
    found = [row for _, batch in read_dataset(out).batches() for row in batch.to_pylist()]
    assert read_dataset(out).info.splits == {"train": 3}
    assert [(row["text"], row["reviewer"], row["request_id"]) for row in found] == [
        ("where is my card", "ada", "a"), ("tell me a joke", "ada", "b"), ("majority", "ada, ben, cy", "e")
    ]  # fmt: skip
    assert found[0]["group"] == store.hashes(["zoe"])[0]
    assert found[0]["consent"] is True
    examples = load_source(Source(str(out), group="group"), 0).examples
    assert [example.label for example in examples] == ["card_arrival", None, "b"]


def test_photos_become_files_of_the_dataset(store: Store, tagger_bundle: Bundle, tmp_path: Path):
    [one] = write(store, record("a", photo=Image.new("RGB", (30, 20), "teal"), labels=["cat"], **TAGGING))
    say(store, one, ["cat", "animal"])
    assert run(store, "dataset", tagger_bundle, tmp_path / "out").exit_code == 0
    dataset = read_dataset(tmp_path / "out")
    [photo] = dataset.photos("image")
    assert photo is not None
    assert photo.startswith(b"\xff\xd8")
    assert dataset.info.columns["labels"] == "texts"


def test_without_a_review_there_is_no_dataset_and_a_missing_store_is_not_made(
    store: Store, intent_bundle: Bundle, tmp_path: Path
):
    missing = run(store, "dataset", intent_bundle, tmp_path / "out")
    assert (missing.exit_code, (tmp_path / "records.sqlite").exists()) == (2, False)
    assert "there are no records in" in missing.output
    write(store, unsure("a", text="x"))
    nothing = run(store, "dataset", intent_bundle, tmp_path / "out")
    assert nothing.exit_code == 2
    assert "Review some at /ui/review" in nothing.output
    assert not (tmp_path / "out").exists()


def exported(store: Store, bundle: Bundle, tmp_path: Path) -> tuple[list[dict[str, Any]], Any]:
    result = run(store, "export", bundle, tmp_path / "tasks.json", "--config", tmp_path / "view.xml")
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "tasks.json").read_text()), etree.parse(tmp_path / "view.xml").getroot()


def check_predictions(tasks: list[dict[str, Any]], view: Any) -> None:
    """Check that each prediction names parts of the configuration, and choices that it has."""
    parts = {part.get("name"): part for part in view.iter() if part.get("name")}
    for task in tasks:
        for part in parts.values():
            value = part.get("value", "")
            assert not value.startswith("$") or value[1:] in task["data"]
        for result in (each for prediction in task["predictions"] for each in prediction["result"]):
            part = parts[result["from_name"]]
            assert part.tag.lower() == result["type"]
            assert part.get("toName") == result["to_name"]
            known = {choice.get("value") for choice in part.iter("Choice")}
            assert set(result["value"].get("choices", ())) <= known


def annotated(task: dict[str, Any], *results: dict[str, Any], by: Any = 7, **more: Any) -> dict[str, Any]:
    """Return a task as Label Studio exports it."""
    annotation = {"id": 1, "completed_by": by, "result": list(results), "was_cancelled": False, "lead_time": 2.5,
                  "updated_at": "2026-12-01T10:00:00.000000Z", **more}  # fmt: skip
    return {"id": 5, **task, "annotations": [*task.get("annotations", []), annotation], "project": 3}


def choices(*labels: str, name: str = "label") -> dict[str, Any]:
    return {"id": "r", "from_name": name, "to_name": "text", "type": "choices", "value": {"choices": list(labels)}}


def imported(store: Store, bundle: Bundle, tasks: Any, tmp_path: Path) -> Result:
    file = tmp_path / "annotations.json"
    file.write_text(tasks if isinstance(tasks, str) else json.dumps(tasks))
    return run(store, "import", bundle, file)


def test_intents_go_to_label_studio_and_come_back_as_reviews(store: Store, intent_bundle: Bundle, tmp_path: Path):
    write(store, *(unsure(f"r{n}", text=f'text {n} <&">', labels=['a"<&>'], confidence=n / 20) for n in range(6)))
    write(store, unsure("none", text="no label", outcome="out_of_scope", labels=[], out_of_scope_score=0.2))
    tasks, view = exported(store, intent_bundle, tmp_path)
    check_predictions(tasks, view)
    assert [len(task["predictions"]) for task in tasks] == [1] * 7
    in_scope = [task for task in tasks if task["data"]["text"] != "no label"]
    assert {task["predictions"][0]["result"][0]["value"]["choices"][0] for task in in_scope} == {'a"<&>'}
    one, two, three, four, five, six, *_ = tasks
    gone = json.loads(json.dumps(six))
    gone["data"]["record"] = 10**9
    sent = [
        annotated(one, choices("weather"), by={"id": 3, "email": "ada@example.org"}),
        annotated(annotated(two, choices("old")), choices("new one"), updated_at="2026-12-02T10:00:00Z"),
        annotated(three, choices(NOTHING)),
        annotated(four, was_cancelled=True),
        annotated(five),
        annotated(six, choices("a", "b")),
        annotated(gone, choices("weather")),
        annotated({"data": {"text": "from elsewhere"}}, choices("weather")),
    ]
    result = imported(store, intent_bundle, sent, tmp_path)
    assert result.exit_code == 0, result.output
    for line in ("1 reviews of ada@example.org", "3 reviews of label-studio-7", "1 without a choice",
                 "or no longer: 1000000000", "1 with several intents", "1 not about a record of this model",
                 "does not know: new one"):  # fmt: skip
        assert line in result.output
    said = {
        row["id"]: [(each["labels"], each["reason"]) for each in row["reviews"]]
        for row in reviewed(store, "tiny-intent")
    }
    ids = [task["data"]["record"] for task in tasks]
    assert [said.get(each) for each in ids[:5]] == [
        [(["weather"], one["data"]["why"])], [(["new one"], two["data"]["why"])], [([], three["data"]["why"])],
        [(None, four["data"]["why"])], None,
    ]  # fmt: skip


def test_photos_and_questions_go_to_label_studio_and_come_back(
    store: Store, tagger_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path
):
    write(store, record("a", photo=Image.new("RGB", (30, 20), "teal"), labels=["cat"], confidence=0.2, **TAGGING))
    [task], view = exported(store, tagger_bundle, tmp_path)
    check_predictions([task], view)
    assert task["data"]["image"].startswith("data:image/jpeg;base64,/9j/")
    assert imported(store, tagger_bundle, [annotated(task, choices("cat", "dog"))], tmp_path).exit_code == 0
    assert reviewed(store, "tiny-tagger")[0]["reviews"][0]["labels"] == ["cat", "dog"]

    asked = [("a", "answered", "ada"), ("b", "unanswerable", None), ("c", "answered", "it"), ("d", "answered", "it")]
    for name, outcome, answer in asked:
        write(store, record(name, text=f"who {name}", context="it is ada", outcome=outcome, answer=answer,
                            confidence=0.1, **QA))  # fmt: skip
    tasks, view = exported(store, qa_bundle, tmp_path)
    check_predictions(tasks, view)
    by_name = {task["data"]["request_id"]: task for task in tasks}
    written = {"from_name": "answer", "to_name": "text", "type": "textarea", "value": {"text": ["ada"]}}
    sent = [
        annotated(by_name["a"], written),
        annotated(by_name["b"], choices(NO_ANSWER, name="none")),
        annotated(by_name["c"]),
        annotated(by_name["d"], written, choices(NO_ANSWER, name="none")),
    ]
    result = imported(store, qa_bundle, sent, tmp_path)
    assert "1 without an answer" in result.output
    assert "1 with an answer and without one" in result.output
    said = {row["request_id"]: row["reviews"][0]["answer"] for row in reviewed(store, "tiny-qa")}
    assert said == {"a": "ada", "b": ""}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '{"tasks": []}', '[{"text": "x", "choice": "y"}]', '[{"data": {}, "annotations": 5}]',
     '[{"data": {}, "annotations": [{"result": [{"value": 1}]}]}]', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_export_of_label_studio_is_refused(store: Store, intent_bundle: Bundle, tmp_path: Path, text: str):
    write(store, unsure("a", text="x"))
    result = imported(store, intent_bundle, text, tmp_path)
    assert result.exit_code == 2
    assert "Export from Label Studio as JSON" in result.output


def test_records_and_annotators_that_no_database_takes_cost_only_themselves(
    store: Store, intent_bundle: Bundle, tmp_path: Path
):
    write(store, unsure("a", text="fly me home"))
    tasks, _ = exported(store, intent_bundle, tmp_path)
    foreign = [
        {**tasks[0], "data": {**tasks[0]["data"], "record": number}} for number in (2**63, 10**30, -1, True, 1.0)
    ]
    names: list[Any] = ["\ud800", "a\x00b", {"email": "\ud800@x"}, {"id": "\udfff"}]
    sent = [annotated(task, choices("weather")) for task in foreign]
    sent += [annotated(tasks[0], choices("weather"), by=name) for name in names]
    result = imported(store, intent_bundle, sent, tmp_path)
    assert result.exit_code == 0, result.output
    assert "5 not about a record of this model" in result.output
    assert {each["reviewer"] for row in reviewed(store, "tiny-intent") for each in row["reviews"]} == {
        "label-studio-?", "label-studio-ab", "?@x"
    }  # fmt: skip
