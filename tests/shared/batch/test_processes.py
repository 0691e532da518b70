"""Processes that answer shards: all have work until the end, few shards are held, and what goes wrong is heard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.tasks import find_task
from shared.batch.inputs import ROOT, photo_inputs
from shared.batch.processes import Pool
from shared.batch.shards import Job, Shard
from shared.bundle.read import Bundle
from shared.errors import DataError
from tests.pictures import RED, plain

SHARDS = 24


@pytest.fixture
def job(tagger_bundle: Bundle, tmp_path: Path) -> Job:
    (tmp_path / "out").mkdir()
    return Job(find_task("tagging"), tagger_bundle.path, "cpu", tmp_path / "out", {"top_k": None, "min_score": None})


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    file = tmp_path / "photo.png"
    file.write_bytes(plain(RED, (48, 48)))
    rows = list(photo_inputs(tmp_path, [file]).rows())
    return [(number, number * 20, rows * 20) for number in range(SHARDS)]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_shard_is_answered_once_and_few_are_held(processes: int, job: Job, shards: list[Shard]):
    read = done = ahead = 0

    def stream() -> Iterator[Shard]:
        nonlocal read
        for shard in shards:
            read += 1
            yield shard

    numbers = []
    with Pool(processes) as pool:
        for found in pool.answer(job, stream(), SHARDS):
            ahead = max(ahead, read - done)
            done += 1
            numbers.append(found.shard)
    assert sorted(numbers) == list(range(SHARDS))
    assert len(list(job.output.glob("part-*.parquet"))) == SHARDS
    # Each has the one that it is at, the others one more that waits, and what they did meanwhile is told a shard later.
    assert ahead <= 1 if processes == 1 else ahead < SHARDS / 2


@pytest.mark.parametrize("at", [0, 1, SHARDS // 2, SHARDS - 1])
def test_inputs_that_end_in_an_error_end_the_run_with_it(at: int, job: Job, shards: list[Shard]):
    def stream() -> Iterator[Shard]:
        yield from shards[:at]
        raise DataError("the disk is gone")

    with Pool(2) as pool, pytest.raises(DataError, match="the disk is gone"):
        list(pool.answer(job, stream(), SHARDS))


def test_an_error_in_another_process_is_raised_here(job: Job, shards: list[Shard]):
    bad: Shard = (5, 100, [{ROOT: 7}])  # no row that a tagger reads
    with Pool(2) as pool, pytest.raises((KeyError, TypeError, AttributeError)):
        list(pool.answer(job, [*shards[:5], bad, *shards[6:]], SHARDS))
