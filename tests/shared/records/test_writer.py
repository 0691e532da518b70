"""The writer never fails and never waits: whatever the store does, what is lost is counted with its reason."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image

from shared.records import writer as writers
from shared.records.store import StoreError
from shared.records.writer import RecordWriter
from tests.live import wait_until
from tests.shared.records.test_store import record


class FakeStore:
    """A store that does as `answer` says with the rows of each call."""

    place = "nowhere"

    def __init__(self, answer: Callable[[Sequence[Any]], int] = len) -> None:
        self.answer = answer
        self.rows: list[Any] = []
        self.swept: list[Any] = []

    def write(self, rows: Sequence[Any]) -> int:
        count = self.answer(rows)
        self.rows += rows
        return count

    def sweep(self, before: Any) -> int:
        self.swept.append(before)
        return 0

    def close(self) -> None:
        pass


class Kept:
    """A writer that runs, with what it counts."""

    def __init__(self, store: FakeStore, **options: Any) -> None:
        self.written = 0
        self.lost: Counter[str] = Counter()
        self.writer = RecordWriter(
            store,  # type: ignore[arg-type]
            days=options.pop("days", 30),
            on_written=self.add,
            on_lost=lambda reason, count: self.lost.update({reason: count}),
        )

    def add(self, count: int) -> None:
        self.written += count


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "FLUSH_S", 0.01)
    monkeypatch.setattr(writers, "RETRY_S", 0.01)


def test_everything_is_written_in_batches_and_at_the_end_what_waits():
    store = FakeStore()
    kept = Kept(store)
    kept.writer.start()
    for place in range(950):
        kept.writer.put(record(f"r{place}"))
    kept.writer.close(10)
    assert (kept.written, kept.lost) == (950, {})
    assert [row["request_id"] for row in store.rows] == [f"r{place}" for place in range(950)]


def test_a_store_that_hangs_costs_records_and_no_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writers, "MAX_WAITING", 50)
    go_on = threading.Event()

    def hang(rows: Sequence[Any]) -> int:
        assert go_on.wait(30)
        return len(rows)

    kept = Kept(FakeStore(hang))
    kept.writer.start()
    for _ in range(500):
        kept.writer.put(record())
    assert kept.lost["queue_full"] >= 300
    kept.writer.close(0.05)
    assert kept.lost["queue_full"] + kept.lost["stopped"] >= 400
    go_on.set()
    wait_until(lambda: kept.written + sum(kept.lost.values()) == 500)


def test_photos_that_wait_have_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writers, "MAX_WAITING_BYTES", 1_000_000)
    kept = Kept(FakeStore())
    for _ in range(10):
        kept.writer.put(record(photo=Image.new("RGB", (300, 300))))
    assert kept.lost == {"queue_full": 7}
    kept.writer.start()
    kept.writer.close(10)
    assert kept.written == 3


@pytest.mark.parametrize(("reason", "tries"), [("locked", 5), ("unavailable", 5), ("full", 1), ("version", 1)])
def test_what_may_pass_is_tried_again_and_what_is_lost_is_counted(
    reason: Any, tries: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []

    def fail(rows: Sequence[Any]) -> int:
        asked.append(len(rows))
        raise StoreError(reason, "told once a minute")

    monkeypatch.setattr(writers._log, "propagate", False)
    writers._log.addHandler(caplog.handler)
    kept = Kept(FakeStore(fail))
    kept.writer.put(record())
    kept.writer.put(record())
    kept.writer.start()
    wait_until(lambda: bool(kept.lost))
    for _ in range(3):
        kept.writer.put(record())
        time.sleep(0.05)
    kept.writer.close(10)
    writers._log.removeHandler(caplog.handler)
    assert kept.lost == {reason: 5}
    assert asked[:tries] == [2] * tries
    assert len(asked) == tries or asked[tries] < 2
    assert [each.levelname for each in caplog.records if "told once a minute" in each.message] == ["ERROR"]


def test_a_lock_that_passes_costs_nothing():
    left = [3]

    def fail_first(rows: Sequence[Any]) -> int:
        if left[0]:
            left[0] -= 1
            raise StoreError("locked", "busy")
        return len(rows)

    kept = Kept(FakeStore(fail_first))
    kept.writer.start()
    kept.writer.put(record())
    wait_until(lambda: kept.written == 1)
    kept.writer.close(10)
    assert kept.lost == {}


def test_a_row_that_the_store_refuses_costs_no_other():
    def pick(rows: Sequence[Any]) -> int:
        if any(row["item"] == 3 for row in rows):
            raise StoreError("refused", "not this one")
        return len(rows)

    kept = Kept(FakeStore(pick))
    kept.writer.start()
    for item in range(6):
        kept.writer.put(record(item=item))
    kept.writer.close(10)
    assert (kept.written, kept.lost) == (5, {"refused": 1})


def test_a_record_that_cannot_be_made_a_row_costs_no_other():
    kept = Kept(FakeStore())
    kept.writer.start()
    kept.writer.put(record(scores=["no number"]))
    kept.writer.put(record())
    kept.writer.close(10)
    assert (kept.written, kept.lost) == (1, {"failed": 1})


def test_a_bug_in_the_store_does_not_end_the_thread():
    def fail(rows: Sequence[Any]) -> int:
        if rows[0]["item"] == 0:
            raise ZeroDivisionError
        return len(rows)

    kept = Kept(FakeStore(fail))
    kept.writer.start()
    kept.writer.put(record(item=0))
    wait_until(lambda: kept.lost == {"failed": 1})
    kept.writer.put(record(item=1))
    wait_until(lambda: kept.written == 1)
    kept.writer.close(10)


def test_old_records_are_deleted_now_and_then_unless_they_are_kept_for_ever():
    for days, count in ((30, 1), (None, 0)):
        store = FakeStore()
        kept = Kept(store, days=days)
        kept.writer.start()
        for _ in range(3):
            kept.writer.put(record())
            time.sleep(0.05)
        kept.writer.close(10)
        assert len(store.swept) == count
