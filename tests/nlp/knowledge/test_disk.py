from __future__ import annotations

import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nlp.knowledge import KnowledgeBase
from shared.errors import ServiceError
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
        with knowledge._disk.reading() as connection:
            rows = connection.execute(
                "SELECT passages.text FROM passages JOIN documents ON documents.key = document WHERE id = ?", (info.id,)
            ).fetchall()
        assert len(rows) == info.passages > 0
        assert all(versions[0] in text for (text,) in rows)
    with knowledge._disk.reading() as connection:
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
        knowledge = KnowledgeBase.open(file)
        check_documents(knowledge)
        knowledge.close()


def test_two_processes_make_one_file_and_write_to_it_at_once(file: Path):
    processes = [start_writer(file, name, "12") for name in ("a", "b")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    knowledge = KnowledgeBase.open(file)
    assert [info.id for info in knowledge.list()] == ["a.txt", "b.txt", "shared.txt"]
    check_documents(knowledge)
    knowledge.close()


def test_full_disk_is_a_service_error_and_loses_nothing(file: Path):
    knowledge = KnowledgeBase.open(file)
    info, _ = knowledge.put("a.txt", b"the lamp burns oil")
    with knowledge._disk.transaction() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ServiceError, match=r"disk is full\. Nothing was changed"):
        knowledge.put("a.txt", b"gas " * 50_000)
    assert knowledge.list() == [info]
    assert knowledge.search("oil")[0].text == "the lamp burns oil"
    with knowledge._disk.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    knowledge.put("a.txt", b"gas " * 50_000)
    check_index(knowledge)
    knowledge.close()


def test_file_that_can_only_be_read_is_a_service_error_for_writers_alone(file: Path):
    knowledge = KnowledgeBase.open(file)
    knowledge.put("a.txt", b"the lamp burns oil")
    knowledge._disk._writer.execute("PRAGMA query_only = ON")
    with pytest.raises(ServiceError, match="can only be read at present"):
        knowledge.put("a.txt", b"gas")
    with pytest.raises(ServiceError, match="can only be read at present"):
        knowledge.delete("a.txt")
    assert knowledge.search("oil")[0].document == "a.txt"
    knowledge.close()


def test_writer_that_waits_too_long_says_that_the_file_is_busy_while_readers_go_on(file: Path):
    knowledge = KnowledgeBase.open(file)
    knowledge.put("a.txt", b"the lamp burns oil")
    knowledge._disk._writer.execute("PRAGMA busy_timeout = 10")
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
    knowledge = KnowledgeBase.open(file)
    knowledge.put("a.txt", b"the lamp burns oil " * 5000)
    knowledge.close()
    damaged = bytearray(file.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    file.write_bytes(damaged)
    knowledge = KnowledgeBase.open(file)
    with pytest.raises(ServiceError, match="is damaged"):
        knowledge.list()
    knowledge.close()


def test_error_of_the_caller_within_a_transaction_rolls_it_back(knowledge: KnowledgeBase):
    knowledge.put("a.txt", b"the lamp burns oil")

    def fail() -> None:
        with knowledge._disk.transaction() as connection:
            connection.execute("DELETE FROM documents")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(knowledge.list()) == 1
