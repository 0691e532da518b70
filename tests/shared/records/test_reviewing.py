"""What reviewers are shown first and why, what is kept of what they say, and the random sample, in both databases."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from shared.records import migrating
from shared.records import queue as queues
from shared.records.queue import Queue, audited, draw, queue
from shared.records.reviewing import Review, keep_reviews, photo_of, reviewed, take_back
from shared.records.store import Store
from shared.records.tables import FINDINGS, RECORDS, REVIEWS
from tests.shared.records.test_store import record, rows

NASTY = ["'; DROP TABLE percept_reviews; --", '" OR 1=1 --', "%_\\", "\u202e<script>"]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, open_store: Callable[..., Store]) -> Iterator[Store]:
    """A store without records."""
    made = open_store() if request.param == "sqlite" else open_store(request.getfixturevalue("postgres"))
    made.sweep(_now() + timedelta(days=1))
    yield made
    made.sweep(_now() + timedelta(days=1))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def write(store: Store, *records: Any) -> list[int]:
    """Write records and return their ids."""
    store.write(rows(*records))
    with store.reading() as connection:
        ids = list(connection.scalars(sa.select(RECORDS.c.id).order_by(RECORDS.c.id.desc()).limit(len(records))))
    return ids[::-1]


def say(store: Store, record_id: int, labels: Any = None, *, by: str = "ada", reason: str = "audit", **more: Any):
    review = Review(record_id, labels, more.get("answer"), more.get("comment"), reason)
    return keep_reviews(store, more.get("model", "m"), by, [review])


def find_group(store: Store, *groups: tuple[str, list[int]], days_ahead: int = 0) -> None:
    found = {"groups": [{"name": name, "size": len(ids), "records": ids} for name, ids in groups]}
    with store.writing() as connection:
        time = _now() + timedelta(days=days_ahead)
        values = {"time": time, "model": "m", "version": "1", "state": "alarm", "found": found}
        connection.execute(sa.insert(FINDINGS).values(**values))


def shown(found: Queue) -> list[tuple[str, str]]:
    return [(item.reason, item.record["text"]) for item in found.items if item.reason != "audit"]


def give(store: Store, request_id: str, **said: Any) -> None:
    kept = store.find(request_id, 0, None)
    assert kept is not None
    store.give_feedback(kept, request_id, 0, "shop", **said)


def test_what_is_worth_a_look_comes_with_its_reason_and_the_weightiest_first(store: Store):
    sure = {"confidence": 0.97, "scores": [0.97]}
    ids = write(
        store,
        record("sure", text="sure", **sure),
        record("low", text="low", confidence=0.3),
        record("lower", text="lower", confidence=0.2),
        record("near", text="near", outcome="out_of_scope", labels=[], confidence=0.9, out_of_scope_score=0.4),
        record("far", text="far", outcome="out_of_scope", labels=[], confidence=0.9, out_of_scope_score=0.9),
        record("shadowed", text="shadowed", **sure),
        record("same", text="same as the candidate", **sure),
        record("grouped", text="grouped", outcome="out_of_scope", labels=[], out_of_scope_score=0.9),
        record("wrong", text="wrong", **sure),
        record("other", text="other label", **sure),
        record("right", text="right", **sure),
        record("shadowed", text=None, labels=["bye"], version="2", shadow_of="1"),
        record("same", text=None, version="2", shadow_of="1"),
        record("elsewhere", text="of another model", model="n", confidence=0.1),
    )
    find_group(store, ("bitcoin", [ids[7]]))
    give(store, "wrong", right=False)
    give(store, "other", labels=["bye"])
    give(store, "right", labels=["greet"])
    found = queue(store, "m", "ada")
    assert shown(found) == [
        ("disagreed", "other label"), ("disagreed", "wrong"), ("group", "grouped"), ("shadow", "shadowed"),
        ("uncertain", "lower"), ("uncertain", "low"), ("uncertain", "near"),
    ]  # fmt: skip
    by_text = {item.record["text"]: item for item in found.items}
    assert by_text["other label"].said == {"labels": ["bye"], "answer": None, "by": "feedback"}
    assert (by_text["shadowed"].said or {})["labels"] == ["bye"]
    assert (by_text["shadowed"].said or {})["by"] == "2"
    assert by_text["grouped"].group == "bitcoin"
    assert [each["right"] for each in by_text["wrong"].feedback] == [False]
    counts = {name: count for name, count in found.counts.items() if name != "audit"}
    assert counts == {"disagreed": 2, "group": 1, "shadow": 1, "uncertain": 3, "reviewers": 0}
    assert shown(queue(store, "m", "ada", reason="shadow")) == [("shadow", "shadowed")]
    assert (found.task, found.records, found.with_inputs) == ("intent", 11, 11)


def test_items_of_one_group_come_together_in_the_order_of_the_newest_finding(store: Store):
    ids = write(store, *(record(f"r{n}", text=f"text {n}", confidence=0.99) for n in range(6)))
    find_group(store, ("old", ids), days_ahead=900)  # by a clock that was wrong: the newest was written last
    find_group(store, ("one", [ids[5], ids[0]]), ("two", [ids[3], ids[1], ids[4]]))
    say(store, ids[5], ["x"], by="ben")
    found = [item for item in queue(store, "m", "ada").items if item.reason == "group"]
    assert [item.group for item in found] == ["one", "one", "two", "two", "two"]
    assert [item.record["id"] for item in found[:2]] == [ids[0], ids[5]]  # what nobody has looked at is first


def test_of_a_question_other_words_and_an_answer_where_there_is_none_disagree(store: Store):
    qa = {"task": "qa", "outcome": "answered", "labels": [], "scores": [], "out_of_scope_score": None,
          "confidence": 0.95, "context": "Open from nine."}  # fmt: skip
    write(
        store,
        record("a", text="when?", answer="nine", **qa),
        record("b", text="when is it?", answer="from nine", **qa),
        record("c", text="who?", **{**qa, "outcome": "unanswerable", "confidence": 0.01}),
        record("a", **{**qa, "context": None, "outcome": "unanswerable"}, version="2", shadow_of="1"),
    )
    give(store, "b", answer="From  NINE")
    give(store, "c", answer="Ada")
    found = queue(store, "m", "ada")
    assert shown(found) == [("disagreed", "who?"), ("shadow", "when?")]


def test_a_tag_need_not_come_with_what_it_is_a_kind_of(store: Store):
    tagging = {"task": "tagging", "outcome": "tagged", "labels": ["cat", "animal"], "text": "x", "confidence": 0.9}
    write(store, record("a", **tagging))
    give(store, "a", labels=["cat"])
    assert shown(queue(store, "m", "ada")) == [("disagreed", "x")]
    assert shown(queue(store, "m", "ada", parents={"cat": ["animal"]})) == []


def test_identical_texts_come_once_and_a_decision_holds_for_all_of_them(store: Store):
    texts = ("My card  was\nDECLINED", "my card was declined", "my card was declined ")
    ids = write(store, *(record(f"r{n}", text=text, confidence=0.1) for n, text in enumerate(texts)))
    [item] = [item for item in queue(store, "m", "ada").items if item.reason == "uncertain"]
    assert (item.record["id"], item.stands_for) == (ids[2], 3)
    assert say(store, ids[2], ["pay"]) == ([], 0)
    assert queue(store, "m", "ada").items == []
    write(store, record("later", text="MY CARD WAS DECLINED", confidence=0.1))
    assert queue(store, "m", "ada").items == []
    again = queue(store, "m", "ben").items[0]
    assert [(each["reviewer"], each["labels"]) for each in again.reviews] == [("ada", ["pay"])]
    assert take_back(store, ids[0], "ada")
    assert queue(store, "m", "ada").items[0].stands_for == 4
    assert not take_back(store, ids[0], "ada")


def test_the_same_question_of_another_passage_is_another_item(store: Store):
    write(store, *(record(f"r{n}", text="who?", context=f"text {n}", confidence=0.1) for n in range(2)))
    assert [item.stands_for for item in queue(store, "m", "ada").items] == [1, 1]


def test_records_without_text_or_photo_are_no_items(store: Store):
    write(store, record("a", confidence=0.1), record("b", confidence=0.1))
    found = queue(store, "m", "ada")
    assert (found.records, found.with_inputs, found.items) == (2, 0, [])


def test_reviewers_who_disagree_are_shown_to_both_and_who_sets_aside_says_nothing(store: Store):
    one, two, three = write(store, *(record(f"r{n}", text=f"text {n}") for n in range(3)))
    say(store, one, ["a"])
    say(store, one, ["b"], by="ben")
    say(store, two, ["a"])
    say(store, two, ["a"], by="ben")
    say(store, three, ["a"])
    say(store, three, None, by="ben")
    for reviewer in ("ada", "ben", "cy"):
        [item] = queue(store, "m", reviewer, reason="reviewers").items
        assert [(each["reviewer"], each["labels"]) for each in item.reviews] == [("ada", ["a"]), ("ben", ["b"])]


def test_a_review_takes_the_place_of_the_same_reviewers_earlier_one(store: Store):
    [one] = write(store, record("a", text="x"))
    assert say(store, one, ["a"], comment="first") == ([], 0)
    assert say(store, one, [], reason="uncertain") == ([], 1)
    assert say(store, one, None, by="ben", answer="") == ([], 0)
    [found] = reviewed(store, "m")
    said = [(each["reviewer"], each["labels"], each["answer"], each["comment"]) for each in found["reviews"]]
    assert said == [("ada", [], None, None), ("ben", None, "", None)]
    assert queue(store, "m", "ada").done_today == 1


def test_of_an_unknown_record_nothing_is_kept_and_it_is_named(store: Store):
    one, other, shadow = write(
        store, record("a", text="x"), record("b", model="n"), record("a", version="2", shadow_of="1")
    )
    reviews = [Review(each, ["a"], None, None, "audit") for each in (one, other, shadow, 2**62)]
    assert keep_reviews(store, "m", "ada", reviews) == ([other, shadow, 2**62], 0)
    assert reviewed(store, "m") == []


def test_sql_in_every_field_is_a_text(store: Store):
    for nasty in NASTY:
        [one] = write(store, record("a", text=nasty, model=nasty))
        say(store, one, [nasty], by=nasty[:60], reason="audit", model=nasty, comment=nasty, answer=nasty)
        [found] = reviewed(store, nasty)
        [said] = found["reviews"]
        assert (said["labels"], said["comment"], said["answer"], said["reviewer"]) == (
            [nasty],
            nasty,
            nasty,
            nasty[:60],
        )
        assert queue(store, nasty, "other").reviewed_labels == [nasty]
        assert take_back(store, one, nasty[:60])
    assert len(NASTY) == len(queues.known_models(store))


def test_whoever_is_forgotten_and_what_is_too_old_goes_with_its_reviews(store: Store):
    mine, old = write(
        store, record("a", text="x", subject="zoe"), record("b", text="y", seconds=time.time() - 40 * 86_400)
    )
    for each in (mine, old):
        say(store, each, ["a"])
    store.forget("zoe")
    assert [row["id"] for row in reviewed(store, "m")] == [old]
    store.sweep(_now() - timedelta(days=30))
    with store.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(REVIEWS)) == 0


def test_a_photo_is_read_by_its_record_and_equal_photos_are_one_item(store: Store):
    from PIL import Image

    photo = Image.new("RGB", (40, 30), "teal")
    one, _, _ = write(
        store, record("a", photo=photo, confidence=0.1), record("b", photo=photo, confidence=0.1), record("c")
    )
    found = photo_of(store, one)
    assert found is not None
    assert found.startswith(b"\xff\xd8")
    assert photo_of(store, one + 2) is None
    assert photo_of(store, 2**62) is None
    [item] = [item for item in queue(store, "m", "ada").items if item.reason == "uncertain"]
    assert (item.stands_for, item.record["has_photo"], "photo" in item.record) == (2, True, False)


# The random sample


def test_every_tenth_is_drawn_at_random_and_independent_of_all_else(open_store: Callable[..., Store]):
    store = open_store()
    ids = write(store, *(record(f"r{n}", text=f"text {n}", confidence=0.3 if n % 2 else 0.99) for n in range(400)))
    found = queue(store, "m", "ada", limit=200)
    places = [place for place, item in enumerate(found.items) if item.reason == "audit"]
    assert places == list(range(9, 200, 10))
    drawn = [item.record["id"] for item in found.items if item.reason == "audit"]
    seen = {item.record["id"] for item in found.items}
    assert drawn == sorted(drawn, key=draw)
    assert {each for each in ids if draw(each) <= draw(drawn[-1])} <= seen  # for one reason or another
    assert len(seen) == 200
    assert all(draw(item.record["id"]) < 0.1 for item in queue(store, "m", "ada", reason="audit").items)


def test_the_sample_has_no_bias_although_the_doubtful_were_judged_before(open_store: Callable[..., Store]):
    store = open_store()
    wrong = {n for n in range(1500) if n % 5 == 0}  # 20 % are wrong, and these are uncertain besides
    ids = write(
        store, *(record(f"r{n}", text=f"text {n}", confidence=0.3 if n in wrong else 0.99) for n in range(1500))
    )
    truth = {each: ["bye"] if n in wrong else ["greet"] for n, each in enumerate(ids)}
    for reason, limit in (("uncertain", 400), ("audit", 300)):
        items = queue(store, "m", "ada", reason=reason, limit=limit).items
        reviews = [Review(each.record["id"], truth[each.record["id"]], None, None, reason) for each in items]
        keep_reviews(store, "m", "ada", reviews)
    as_drawn = [row for row in reviewed(store, "m") if row["reviews"][-1]["reason"] == "audit"]
    naive = np.mean([row["labels"] == truth[row["id"]] for row in as_drawn])
    assert naive == 1.0  # all that is wrong was judged before it was drawn
    audit = queue(store, "m", "ada").audit
    sample = audited(store, "m")
    assert {each["reason"] for row in sample for each in row["reviews"]} == {"audit"}
    expected = [truth[each] == ["greet"] for each in ids if draw(each) <= max(draw(row["id"]) for row in sample)]
    assert audit.count == len(sample) == len(expected) > 100
    assert audit.right == pytest.approx(np.mean(expected))
    assert audit.low is not None
    assert audit.high is not None
    assert audit.low < 0.8 < audit.high


def test_no_more_than_the_newest_are_read(open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queues, "MOST_RECORDS", 5)
    store = open_store()
    write(store, *(record(f"r{n}", text=f"text {n}", confidence=0.1) for n in range(9)))
    found = queue(store, "m", "ada")
    assert (found.records, found.counts["uncertain"]) == (5, 5)


# From version 1 to 2


def _old_store(store: Store) -> None:
    """Make a store of version 1 with one record."""
    with store.engine.connect().execution_options(percept_writes=True) as connection, connection.begin():
        token = migrating.CONNECTION.set(connection)
        command.upgrade(migrating._config(), "1")
        migrating.CONNECTION.reset(token)
        connection.exec_driver_sql(
            "INSERT INTO percept_records (request_id, item, time, key, task, model, version, outcome, labels, scores, "
            "confidence, share, text) VALUES ('old', 0, '2026-12-01 00:00:00', '', 'intent', 'm', '1', 'in_scope', "
            """'["greet"]', '[0.5]', 0.2, 1.0, 'from before')"""
        )


def _check_migrated(store: Store) -> None:
    _old_store(store)
    with store.engine.connect() as connection:
        assert migrating.revision_of(connection) == "1"
    [old] = store.read("old")  # the first use brings it up to date
    with store.engine.connect() as connection:
        assert migrating.revision_of(connection) == "2"
    write(store, record("new", text="from before", confidence=0.1))
    found = queue(store, "m", "ada")
    assert [item.record["text"] for item in found.items if item.reason == "uncertain"] == ["from before"] * 2
    assert say(store, old["id"], ["bye"]) == ([], 0)
    assert take_back(store, old["id"], "ada")


def test_a_store_of_version_1_is_brought_up_to_date_in_sqlite(open_store: Callable[..., Store], file: Path):
    _check_migrated(open_store())
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT text, same FROM percept_records ORDER BY id").fetchone() == (
            "from before", None
        )  # fmt: skip


def test_a_store_of_version_1_is_brought_up_to_date_in_postgresql(open_store: Callable[..., Store], postgres: str):
    name = f"old_{secrets.token_hex(4)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = sa.engine.make_url(postgres).set(database=name).render_as_string(hide_password=False)
    _check_migrated(open_store(url))
