from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from nlp.knowledge import KnowledgeBase, database
from shared.errors import ConfigError, ServiceError
from tests.nlp.knowledge.test_store import check_index

ROOT = Path(__file__).resolve().parents[3]


def start_writer(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.nlp.knowledge.writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_documents(knowledge: KnowledgeBase) -> None:
    """Every document is of one version, and its passages are all there."""
    for info in knowledge.list():
        versions = re.findall(r"version\d+", knowledge.text(info.id))
        assert len(set(versions)) == 1
        with knowledge._database.reading() as connection:
            rows = connection.execute(
                "SELECT passages.text FROM passages JOIN documents ON documents.key = document WHERE id = ?", (info.id,)
            ).fetchall()
        assert len(rows) == info.passages > 0
        assert all(versions[0] in text for (text,) in rows)
    with knowledge._database.reading() as connection:
        (strays,) = connection.execute(
            "SELECT count(*) FROM passages WHERE document NOT IN (SELECT key FROM documents)"
        ).fetchone()
        assert strays == 0
    check_index(knowledge)


def test_killed_writer_leaves_whole_documents(file: Path):
    chance = random.Random(7)
    for _ in range(3):
        process = start_writer(file, "a")
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(0.1 + 0.4 * chance.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        knowledge = KnowledgeBase(file)
        check_documents(knowledge)
        knowledge.close()


def test_two_processes_make_one_file_and_write_to_it_at_once(file: Path):
    processes = [start_writer(file, name, "12") for name in ("a", "b")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    knowledge = KnowledgeBase(file)
    assert [info.id for info in knowledge.list()] == ["a.txt", "b.txt", "shared.txt"]
    check_documents(knowledge)
    knowledge.close()


def test_full_disk_is_a_service_error_and_loses_nothing(file: Path):
    knowledge = KnowledgeBase(file)
    info, _ = knowledge.put("a.txt", b"the lamp burns oil")
    with knowledge._database.transaction() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ServiceError, match=r"disk is full\. Nothing was changed"):
        knowledge.put("a.txt", b"gas " * 50_000)
    assert knowledge.list() == [info]
    assert knowledge.search("oil")[0].text == "the lamp burns oil"
    with knowledge._database.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    knowledge.put("a.txt", b"gas " * 50_000)
    check_index(knowledge)
    knowledge.close()


def test_file_that_can_only_be_read_is_a_service_error_for_writers_alone(file: Path):
    knowledge = KnowledgeBase(file)
    knowledge.put("a.txt", b"the lamp burns oil")
    knowledge._database._writer.execute("PRAGMA query_only = ON")
    with pytest.raises(ServiceError, match="is read-only at present"):
        knowledge.put("a.txt", b"gas")
    with pytest.raises(ServiceError, match="is read-only at present"):
        knowledge.delete("a.txt")
    assert knowledge.search("oil")[0].document == "a.txt"
    knowledge.close()


def test_writer_that_waits_too_long_says_that_the_file_is_busy_while_readers_go_on(file: Path):
    knowledge = KnowledgeBase(file)
    knowledge.put("a.txt", b"the lamp burns oil")
    knowledge._database._writer.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceError, match="is busy with other documents"):
        knowledge.put("a.txt", b"gas")
    assert knowledge.search("oil")[0].document == "a.txt"
    other.execute("ROLLBACK")
    assert knowledge.put("a.txt", b"gas")[1] is False
    other.close()
    knowledge.close()


def test_damaged_file_is_a_service_error(file: Path):
    knowledge = KnowledgeBase(file)
    knowledge.put("a.txt", b"the lamp burns oil " * 5000)
    knowledge.close()
    damaged = bytearray(file.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    file.write_bytes(damaged)
    knowledge = KnowledgeBase(file)
    with pytest.raises(ServiceError, match="is damaged"):
        knowledge.list()
    knowledge.close()


def test_error_of_the_caller_within_a_transaction_rolls_it_back(knowledge: KnowledgeBase):
    knowledge.put("a.txt", b"the lamp burns oil")

    def fail() -> None:
        with knowledge._database.transaction() as connection:
            connection.execute("DELETE FROM documents")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(knowledge.list()) == 1


def test_file_and_its_folder_are_made_in_write_ahead_mode(file: Path):
    KnowledgeBase(file).close()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (database.SCHEMA_VERSION,)
    connection.close()


def test_newer_file_is_refused_and_left_alone(file: Path):
    KnowledgeBase(file).close()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(
        ConfigError, match=r"knowledge\.sqlite is a knowledge base of format 99; .* reads format 2\. Update"
    ):
        KnowledgeBase(file)


def test_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, " * 100)
    with pytest.raises(
        ConfigError, match=r"notes\.txt is not a knowledge base: it is not an SQLite database\. Name another"
    ):
        KnowledgeBase(file)
    assert file.read_text() == "these are notes, " * 100


def test_other_programs_database_is_refused_and_left_alone(tmp_path: Path):
    file = tmp_path / "other.sqlite"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE customers (name)")
    connection.commit()
    with pytest.raises(ConfigError, match="another program's database"):
        KnowledgeBase(file)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
    connection.close()


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be opened: unable to open database file"):
        KnowledgeBase(tmp_path)


def test_python_without_fts5_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch, file: Path):
    monkeypatch.setattr(database, "_FTS5", "fts5000")
    with pytest.raises(ConfigError, match="is built without FTS5, which the knowledge base searches with"):
        KnowledgeBase(file)


def test_many_open_a_new_file_at_once(tmp_path: Path):
    for turn in range(10):
        file, together, failures = tmp_path / f"{turn}.sqlite", threading.Barrier(4), []

        def work(
            file: Path = file, together: threading.Barrier = together, failures: list[Exception] = failures
        ) -> None:
            together.wait()
            try:
                KnowledgeBase(file).close()
            except ConfigError as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_the_file_and_its_folder_are_for_their_owner_alone(tmp_path: Path):
    file = tmp_path / "state" / "knowledge.sqlite"
    mask = os.umask(0)
    try:
        knowledge = KnowledgeBase(file)
        knowledge.put("a.txt", b"the lamp burns oil")
    finally:
        os.umask(mask)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (file.parent, *file.parent.iterdir())}
    assert found.pop("state") == 0o700
    assert set(found) >= {file.name, f"{file.name}-wal"}
    assert set(found.values()) == {0o600}
    knowledge.close()


def test_the_mode_of_a_file_that_is_there_stays(file: Path):
    KnowledgeBase(file).close()
    file.chmod(0o640)
    KnowledgeBase(file).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_writers_of_one_process_do_not_wait_for_each_other_without_end(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    knowledge = KnowledgeBase(file)
    with knowledge._database._writing, pytest.raises(ServiceError, match="is busy with other documents"):
        knowledge.put("a.txt", b"the lamp burns oil")
    assert knowledge.put("a.txt", b"the lamp burns oil")[1]
    knowledge.close()


def test_a_file_of_format_1_goes_on_and_its_documents_stay(file: Path):
    knowledge = KnowledgeBase(file)
    knowledge.put("a.md", b"# Lamp\n\nThe lamp is lit at nine.")
    knowledge.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in (
            "DROP TABLE vocabulary",
            "DROP TABLE stems",
            "DROP TABLE forms",
            "DROP TABLE state",
            *(
                f"ALTER TABLE passages DROP COLUMN {name}"
                for name in ("kind", "lead", "pieces", "page", "cells", "embedding")
            ),
            *(
                f"CREATE VIRTUAL TABLE {name} USING fts5 "
                "(title, headings, text, content = 'passages', content_rowid = 'key')"
                for name in ("stems", "forms")
            ),
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
    knowledge = KnowledgeBase(file)
    (found,) = knowledge.search("When is the lamp lit?")
    assert (found.text, found.kind, found.headings) == ("The lamp is lit at nine.", "prose", ())
    knowledge.put("b.md", b"# Prices\n\n| Plan | Price |\n|---|---|\n| Team | 29 EUR |\n")
    assert knowledge.search("price of the team plan")[0].text == "Plan Team: Price 29 EUR"
    knowledge.delete("a.md")
    assert knowledge.search("lamp") == []
    knowledge.close()
