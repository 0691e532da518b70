"""The store by itself: what is written reads back, several processes write to it, what is wrong with it is named."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import event

from shared.project import PROJECT_ROOT
from shared.records import migrating
from shared.records import store as stores
from shared.records.record import Record
from shared.records.store import Store, StoreError
from shared.records.tables import TABLES

FEATURES = np.array([0.5, -1.25, 1e9], dtype=np.float32)


def record(request_id: str = "r1", item: int = 0, **changes: Any) -> Record:
    given: dict[str, Any] = {
        "request_id": request_id, "item": item, "seconds": time.time(), "key": "", "task": "intent", "model": "m",
        "version": "1", "outcome": "in_scope", "labels": ["greet"], "scores": [0.75], "confidence": 0.75,
        "out_of_scope_score": 0.25, "share": 1.0,
    }  # fmt: skip
    return Record(**{**given, **changes})


def rows(*records: Record) -> list[dict[str, Any]]:
    return [each.row() for each in records]


def round_trip(store: Store) -> None:
    written = record(
        subject="Zoë",
        consent=True,
        characters=11,
        features=FEATURES,
        text="mail ada@example.org",
        context="c\x00d\ud800",
    )
    assert store.write(rows(written, record(item=1, key="shop"))) == 2
    first, second = store.read("r1")
    assert (first["text"], first["context"]) == ("mail [e-mail]", "cd?")
    assert np.frombuffer(first["features"], "<f2").tolist() == [0.5, -1.25, 65504.0]
    assert (first["labels"], first["scores"], first["consent"], first["subject"]) == (["greet"], [0.75], True, "Zoë")
    assert abs(first["time"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert (second["item"], second["features"], second["consent"]) == (1, None, None)

    assert store.find("r1", 1, "") is None
    assert store.find("r1", 2, None) is None
    kept = store.find("r1", 0, "")
    assert kept is not None
    assert store.give_feedback(kept, "r1", 0, "", right=False, comment="no") is False
    assert store.give_feedback(kept, "r1", 0, "", labels=["bye"]) is True
    assert store.give_feedback(kept, "r1", 0, "other", helpful=True) is False
    said = [(each["key"], each["right"], each["labels"], each["comment"]) for each in store.read("r1")[0]["feedback"]]
    assert said == [("", None, ["bye"], None), ("other", None, None, None)]

    assert store.forget("Zoë") == stores.Deleted(1, 2)
    assert [row["item"] for row in store.read("r1")] == [1]
    assert store.write(rows(record("r2", subject="Zoë"), record("r2", subject="Ben"))) == 1
    assert store.is_forgotten(["Zoë", "Ben"]) == [True, False]
    assert store.give_feedback(kept, "r1", 0, "", right=True) is None
    assert store.sweep(stores._now() + timedelta(seconds=1)) == 2
    assert store.read("r2") == []


def newest(store: Store) -> None:
    now = time.time()
    store.write(
        rows(*(record(f"n{age}", seconds=now - 60 * age, features=FEATURES, text="secret") for age in range(5)))
    )
    store.write(rows(record("n5", seconds=now, version="2"), record("n6", model="other")))
    assert store.models() == [("m", "1", 5), ("m", "2", 1), ("other", "1", 1)]
    for place, right in ((1, True), (4, False)):
        kept = store.find(f"n{place}", 0, None)
        assert kept is not None
        store.give_feedback(kept, f"n{place}", 0, "", right=right)
    found = store.newest("m", 3, version="1", features=1)
    assert [row["request_id"] for row in found] == ["n0", "n1", "n2"]
    assert [row["features"] is None for row in found] == [False, True, True]
    assert [[each["right"] for each in row["feedback"]] for row in found] == [[], [True], []]
    assert "text" not in found[0]
    since, until = (datetime.fromtimestamp(now - seconds, UTC).replace(tzinfo=None) for seconds in (200, 50))
    assert [row["request_id"] for row in store.newest("m", 9, since=since, until=until)] == ["n1", "n2", "n3"]


def test_the_newest_records_of_a_model_are_read_in_sqlite(open_store: Callable[..., Store], file: Path):
    store = open_store()
    assert (store.is_there(), file.exists()) == (False, False)
    newest(store)
    assert store.is_there()


def test_the_newest_records_of_a_model_are_read_in_postgresql(open_store: Callable[..., Store], postgres: str):
    store = open_store(postgres)
    store.sweep(stores._now() + timedelta(days=1))
    newest(store)
    assert store.is_there()
    store.sweep(stores._now() + timedelta(days=1))


def test_sqlite_round_trip_feedback_deletion_and_retention(open_store: Callable[..., Store]):
    round_trip(open_store())


def test_postgresql_round_trip_feedback_deletion_and_retention(open_store: Callable[..., Store], postgres: str):
    round_trip(open_store(postgres))
    other = open_store(postgres.replace("postgresql://", "postgresql+psycopg://"))
    assert other.is_forgotten(["Zoë"]) == [True]


def test_an_unreachable_postgresql_is_named_without_its_password(open_store: Callable[..., Store]):
    store = open_store("postgresql+psycopg://ada:hunter2@127.0.0.1:1/records")
    with pytest.raises(StoreError) as caught:
        store.write(rows(record()))
    assert caught.value.reason == "unavailable"
    assert "hunter2" not in f"{caught.value} {store.place}"


def test_only_its_owner_may_read_the_file(open_store: Callable[..., Store], file: Path):
    open_store().write(rows(record()))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_file_is_in_wal_mode_and_a_reader_holds_up_no_writer(open_store: Callable[..., Store], file: Path):
    store = open_store()
    store.write(rows(record()))
    with closing(sqlite3.connect(file)) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM percept_records").fetchone()
        assert store.write(rows(record("r2"))) == 1


def test_what_was_deleted_of_a_subject_is_in_none_of_the_files(open_store: Callable[..., Store], file: Path):
    store = open_store()
    store.write(rows(record(subject="zoe-4711", text="a very private remark")))
    store.forget("zoe-4711")
    left = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert b"private remark" not in left
    assert b"zoe-4711" not in left


@pytest.mark.parametrize(
    "nasty", ["'; DROP TABLE percept_records; --", '" OR 1=1 --', "\\'; DELETE", "%_", "\u202e\u200b"]
)
def test_sql_in_every_field_is_a_text(open_store: Callable[..., Store], nasty: str):
    store = open_store()
    changes = dict.fromkeys(("key", "model", "version", "subject", "text", "context", "answer"), nasty)
    store.write(rows(record(nasty, labels=[nasty], **changes), record()))
    kept = store.find(nasty, 0, nasty)
    assert kept is not None
    store.give_feedback(kept, nasty, 0, nasty, labels=[nasty], comment=nasty)
    [found] = store.read(nasty)
    assert {found[name] for name in changes} == {nasty}
    assert found["feedback"][0]["comment"] == nasty
    assert store.forget(nasty) == stores.Deleted(1, 1)
    assert len(store.read("r1")) == 1


def test_a_locked_store_says_so_after_a_while(
    open_store: Callable[..., Store], file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stores, "BUSY_S", 0.05)
    store = open_store()
    store.write(rows(record()))
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError) as caught:
            store.write(rows(record("r2")))
    assert caught.value.reason == "locked"
    assert store.write(rows(record("r3"))) == 1


def test_a_full_store_says_so_and_keeps_what_it_has(open_store: Callable[..., Store]):
    store = open_store()
    store.write(rows(record()))
    store.close()

    @event.listens_for(store.engine, "connect")
    def bound(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count=30")

    with pytest.raises(StoreError) as caught:
        store.write(rows(*(record(text="long " * 4000) for _ in range(20))))
    assert caught.value.reason == "full"
    assert len(store.read("r1")) == 1


def test_a_store_of_a_newer_version_is_refused_and_left_alone(open_store: Callable[..., Store], file: Path):
    open_store().write(rows(record()))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE percept_records_version SET version_num = '99'")
    for store in (open_store(), open_store()):
        for use in (lambda s: s.write(rows(record("r2"))), lambda s: s.read("r1"), lambda s: s.forget("zoe")):
            with pytest.raises(StoreError, match=r"version 99, which this Percept does not know") as caught:
                use(store)
            assert caught.value.reason == "version"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM percept_records").fetchone() == (1,)


def test_a_file_that_is_no_store_is_refused(open_store: Callable[..., Store], file: Path):
    file.write_bytes(b"no database at all, but long enough to be one" * 100)
    with pytest.raises(StoreError) as caught:
        open_store().write(rows(record()))
    assert caught.value.reason == "broken"


def test_a_deleted_file_is_made_anew_and_a_deleted_folder_is_named(open_store: Callable[..., Store], file: Path):
    store = open_store()
    store.write(rows(record()))
    for path in file.parent.iterdir():
        path.unlink()
    assert store.write(rows(record("r2"))) == 1
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT request_id FROM percept_records").fetchall() == [("r2",)]
    shutil.rmtree(file.parent)
    with pytest.raises(StoreError) as caught:
        store.write(rows(record("r3")))
    assert caught.value.reason == "unavailable"


def test_two_processes_start_and_write_one_file_together(file: Path):
    code = (
        "import sys; from tests.shared.records.test_store import record, rows; from shared.records.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for n in range(40): assert store.write(rows(*(record(f'{sys.argv[2]}-{n}', i) for i in range(10)))) == 10\n"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{file}"]
    processes = [subprocess.Popen([*command, name], cwd=PROJECT_ROOT) for name in ("one", "two")]
    assert [process.wait(60) for process in processes] == [0, 0]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM percept_records").fetchone() == (800,)


def test_old_records_go_with_their_feedback_and_others_stay(open_store: Callable[..., Store]):
    store = open_store()
    old = time.time() - 40 * 86_400
    store.write(rows(*(record("old", item, seconds=old) for item in range(1200)), record("new")))
    kept = store.find("old", 7, "")
    assert kept is not None
    store.give_feedback(kept, "old", 7, "", right=True)
    assert store.sweep(stores._now() - timedelta(days=30)) == 1200
    assert store.read("old") == []
    assert len(store.read("new")) == 1
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM percept_feedback").scalar() == 0


def test_the_tables_of_the_newest_version_are_those_that_the_store_uses(open_store: Callable[..., Store]):
    store = open_store()
    store.write(rows(record()))
    script = ScriptDirectory.from_config(migrating._config())
    assert migrating.known_revisions()[0] == script.get_current_head()
    with store.engine.connect() as connection:
        for table in TABLES.sorted_tables:
            there = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
            assert there == set(table.columns.keys()), table.name
