"""Checks that memory does not grow: `python -m benchmarks.soak` sends 100,000 good requests to the all-in-one service.

It compares each worker's resident memory after a warm-up with that at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import click
import psutil
from tqdm import tqdm

from benchmarks.load import Request, drive
from benchmarks.process import Server
from benchmarks.stacks import STACKS, Setup
from benchmarks.workloads import WORKLOADS, items, make_photo

STACK = STACKS["percept-all"]
QUESTION = ("Who keeps the light?", "The light on the rock is kept by Ada Brandt. " * 3)
PHOTOS = 4
WORKER_MIB = 64
"""A smaller process is not a worker: it starts the workers, or watches what they share."""
MOST_GROWTH = 1.05


def mixed_requests(setup: Setup) -> list[Request]:
    """Return a mix of utterances of 12 and 60 tokens, questions and small photos; most are utterances."""
    texts = [*items(WORKLOADS["intent12"], setup.bundles), *items(WORKLOADS["intent60"], setup.bundles)]
    found = STACK.requests("intent", texts)
    found[::8] = STACK.requests("qa", [QUESTION] * len(found[::8]))
    found[4::8] = STACK.requests("photo", [make_photo(0.05 * (1 + seed), seed) for seed in range(PHOTOS)])
    return found


def rss_mib(server: Server) -> dict[int, float]:
    """Return process id -> resident memory of each worker."""
    found = {}
    for process in server.processes():
        with contextlib.suppress(psutil.Error):
            found[process.pid] = process.memory_info().rss / 2**20
    return {pid: memory for pid, memory in found.items() if memory >= WORKER_MIB}


def send(
    server: Server,
    requests: list[Request],
    count: int,
    *,
    connections: int,
    seconds: float,
    progress: Callable[[int], object] = lambda _: None,
) -> list[dict[str, object]]:
    """Send at least this many requests, in one load after another, and return each worker's memory after each load.

    Raises:
        RuntimeError: a request failed.
    """
    sent, series = 0, []
    while sent < count:
        load = drive(server.url, requests, connections=connections, seconds=seconds)
        if load.errors or not load.requests:
            raise RuntimeError(f"after {sent} good requests, some failed: {load.errors or 'no answer at all'}")
        sent += load.requests
        progress(load.requests)
        series.append({"requests": sent, "rss_mib": rss_mib(server)})
    return series


def growth(before: dict[int, float], after: dict[int, float]) -> dict[int, float]:
    """Return each worker's memory at the end divided by that before.

    Raises:
        RuntimeError: a worker died on the way and was replaced.
    """
    if before.keys() != after.keys():
        raise RuntimeError(f"the workers changed: {sorted(before)} before, {sorted(after)} at the end.")
    return {pid: after[pid] / before[pid] for pid in before}


@click.command()
@click.option("--requests", "count", default=100_000, show_default=True)
@click.option("--warm-up", default=5_000, show_default=True, help="Requests before memory is first measured.")
@click.option("--connections", default=16, show_default=True)
@click.option("--workers", default=os.cpu_count() or 1, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Length of one load; memory is measured after each.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the memory over time.")
def main(count: int, warm_up: int, connections: int, workers: int, seconds: float, output: Path | None) -> None:
    """Send many good requests and report whether the workers' memory grew; exits with 1 if by more than 5 %."""
    setup = Setup(workers=workers)
    requests = mixed_requests(setup)
    with (
        STACK.started(setup, "language", requests[1]) as server,
        tqdm(total=warm_up + count, desc="sending", unit="request") as bar,
    ):
        server.settle()
        options = {"connections": connections, "seconds": seconds, "progress": bar.update}
        before = rss_mib(server)
        if warm_up:
            before = send(server, requests, warm_up, **options)[-1]["rss_mib"]
        series = send(server, requests, count, **options)
    after = series[-1]["rss_mib"]
    found = growth(before, after)
    if output:
        output.write_text(json.dumps({"after_warm_up": before, "series": series}, indent=1) + "\n", encoding="utf-8")
    for pid, ratio in found.items():
        click.echo(
            f"process {pid}: {before[pid]:.0f} MiB after the warm-up, {after[pid]:.0f} at the end, × {ratio:.3f}"
        )
    click.echo(f"{series[-1]['requests']:,} requests, none failed; the largest growth is × {max(found.values()):.3f}")
    if max(found.values()) > MOST_GROWTH:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
