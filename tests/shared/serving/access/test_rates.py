"""A key's requests a minute are counted for all workers together, and come back one by one."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
from pathlib import Path

import pytest

from shared.serving.access import keys as rates
from shared.serving.access.keys import Rates

KEY = hashlib.sha256(b"key").digest()
OTHER = hashlib.sha256(b"other").digest()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [5000.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: now[0])
    return now


def taken(bucket: Rates, identity: bytes, per_minute: int, asked: int) -> int:
    return sum(bucket.wait_s(identity, per_minute) == 0 for _ in range(asked))


@pytest.mark.parametrize("per_minute", [1, 7, 60, 10_000])
def test_a_minutes_requests_may_come_at_once_and_then_one_by_one(clock: list[float], tmp_path: Path, per_minute: int):
    bucket = Rates(tmp_path)
    assert taken(bucket, KEY, per_minute, per_minute + 5) == per_minute
    wait_s = bucket.wait_s(KEY, per_minute)
    assert wait_s == pytest.approx(60 / per_minute)
    clock[0] += wait_s
    assert taken(bucket, KEY, per_minute, 3) == 1
    clock[0] += 3600  # no more than a minute's worth is saved up
    assert taken(bucket, KEY, per_minute, 2 * per_minute) == per_minute


def test_each_key_has_a_bucket_of_its_own(clock: list[float], tmp_path: Path):
    bucket = Rates(tmp_path)
    assert taken(bucket, KEY, 5, 9) == 5
    assert taken(bucket, OTHER, 3, 9) == 3


def test_several_workers_count_together(clock: list[float], tmp_path: Path):
    first, second = Rates(tmp_path), Rates(tmp_path)
    assert taken(first, KEY, 10, 6) == 6
    assert taken(second, KEY, 10, 6) == 4
    assert first.wait_s(KEY, 10) > 0


def ask(folder: Path, asked: int, answers) -> None:
    answers.put(taken(Rates(folder), KEY, 300, asked))


def test_workers_that_ask_at_the_same_time_lose_no_count(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    workers = [context.Process(target=ask, args=(tmp_path, 400, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    total = sum(answers.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert 300 <= total <= 300 + 5 * 60  # what a minute has, and what came back while they asked


def test_keys_whose_hashes_begin_alike_do_not_share(clock: list[float], tmp_path: Path):
    bucket = Rates(tmp_path)
    alike = [KEY[:4] + bytes([number]) * 4 for number in range(20)]
    assert [taken(bucket, each, 2, 4) for each in alike] == [2] * 20


def test_the_place_of_an_idle_key_is_given_to_another(clock: list[float], tmp_path: Path):
    bucket = Rates(tmp_path)
    for _ in range(3):
        crowd = [KEY[:4] + number.to_bytes(4, "little") for number in range(rates._PROBES)]
        assert [taken(bucket, each, 1, 2) for each in crowd] == [1] * rates._PROBES
        clock[0] += 61


def test_what_is_left_over_from_before_the_machine_started_locks_nobody_out(clock: list[float], tmp_path: Path):
    clock[0] = 900_000.0
    assert taken(Rates(tmp_path), KEY, 2, 3) == 2
    clock[0] = 10.0
    assert taken(Rates(tmp_path), KEY, 2, 3) == 2


@pytest.mark.parametrize("folder", [None, Path("/nowhere/at/all")])
def test_without_a_common_folder_each_worker_counts_for_itself(
    clock: list[float], folder: Path | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("shared"), "propagate", True)
    first, second = Rates(folder), Rates(folder)
    assert (taken(first, KEY, 3, 5), taken(second, KEY, 3, 5)) == (3, 3)
    assert ("each worker counts" in caplog.text) == (folder is not None)
