from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from nlp.knowledge import KnowledgeBase, schema
from shared.errors import ConfigError


def test_file_and_its_folder_are_made_in_write_ahead_mode(file: Path):
    KnowledgeBase.open(file).close()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
    connection.close()


def test_newer_file_is_refused_and_left_alone(file: Path):
    KnowledgeBase.open(file).close()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(
        ConfigError, match=r"knowledge\.sqlite is a knowledge base of format 99; .* reads format 1\. Update"
    ):
        KnowledgeBase.open(file)


def test_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, " * 100)
    with pytest.raises(
        ConfigError, match=r"notes\.txt is no knowledge base: it is not an SQLite database\. Name another"
    ):
        KnowledgeBase.open(file)
    assert file.read_text() == "these are notes, " * 100


def test_other_programs_database_is_refused_and_left_alone(tmp_path: Path):
    file = tmp_path / "other.sqlite"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE customers (name)")
    connection.commit()
    with pytest.raises(ConfigError, match="another program's database"):
        KnowledgeBase.open(file)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
    connection.close()


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be opened: unable to open database file"):
        KnowledgeBase.open(tmp_path)


def test_python_without_fts5_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch, file: Path):
    monkeypatch.setattr(schema, "_FTS5", "fts5000")
    with pytest.raises(ConfigError, match="is built without FTS5, which the knowledge base searches with"):
        KnowledgeBase.open(file)


def test_many_open_a_new_file_at_once(tmp_path: Path):
    for turn in range(10):
        file, together, failures = tmp_path / f"{turn}.sqlite", threading.Barrier(4), []

        def work(
            file: Path = file, together: threading.Barrier = together, failures: list[Exception] = failures
        ) -> None:
            together.wait()
            try:
                KnowledgeBase.open(file).close()
            except ConfigError as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
