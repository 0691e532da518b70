"""Measures every stack: starts it alone, loads it, stops it. Several rounds spread a slow minute over all of them."""

from __future__ import annotations

import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from benchmarks.bare import bare
from benchmarks.load import Load, Request, drive, generator
from benchmarks.process import CannotStart, Server, ask
from benchmarks.stacks import Setup, Stack
from benchmarks.workloads import Family, Workload, items

BARE = "bare"
WARM_S = 1.0
WARM_CONNECTIONS = 8
MOST_S = 30
ANSWERS_PER_CONNECTION = 4
"""A load lasts until each connection has had this many answers, but at most `MOST_S`."""
VERSIONED = ("percept", "bentoml", "fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "tokenizers", "pillow",
             "torch", "torchvision", "transformers", "litserve", "numpy")  # fmt: skip
FAMILIES: tuple[Family, ...] = ("language", "vision")


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    stacks: Sequence[Stack]
    workloads: Sequence[Workload]
    rounds: int
    seconds: float
    """Length of one load, before a workload's own stretch."""

    def of(self, family: Family) -> list[Workload]:
        """Return the workloads of a family."""
        return [each for each in self.workloads if each.family == family]

    def steps(self) -> int:
        """Return the number of loads, including the bare loops."""
        one = sum(
            sum(each.kind in stack.kinds for stack in self.stacks) * len(each.levels) + len(bare_levels(each))
            for each in self.workloads
        )
        return one * self.rounds


def bare_levels(workload: Workload) -> list[bool]:
    """Return, for each bare measurement, whether all cores compute: one process for one connection, all for more.

    Answers from documents have none: how much is read is the stack's own business.
    """
    if workload.kind == "documents":
        return []
    return sorted({level > 1 for level in workload.levels})


def measure(setup: Setup, plan: Plan, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the measurements, ready for JSON.

    Args:
        setup: models and workers.
        plan: what to measure.
        keep: called with the result after each round, so that finished rounds are not lost.
    """
    result: dict[str, Any] = head(setup, plan)
    result |= {"loads": [], "starts": [], "problems": []}
    with tempfile.TemporaryDirectory(prefix="percept-bench-") as folder, _bar(plan.steps()) as bar:
        if any(stack.is_eager for stack in plan.stacks) and plan.of("language") and setup.eager is None:
            setup = replace(setup)
            setup.make_eager(Path(folder))
        for number in range(plan.rounds):
            for family in FAMILIES:
                for row in _round(setup, plan, family, number, bar):
                    result[row.pop("table")].append({"round": number, **row})
            keep(result)
    return result


def head(setup: Setup, plan: Plan) -> dict[str, Any]:
    """Return the head of a result: date, machine, versions and plan."""
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions,
        "load": generator(),
        "workers": setup.workers,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "workloads": {each.name: {**asdict(each), "levels": list(each.levels)} for each in plan.workloads},
        "stacks": {each.name: each.title for each in plan.stacks},
    }


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, and the load average just before."""
    names: list[str] = []
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        pass
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": round(psutil.getloadavg()[0], 2),
    }


def _bar(steps: int) -> tqdm[Any]:
    return tqdm(total=steps, desc="measuring", unit="load", smoothing=0.05)


def _round(setup: Setup, plan: Plan, family: Family, number: int, bar: tqdm[Any]) -> Iterator[dict[str, Any]]:
    workloads = plan.of(family)
    for workload in workloads:
        for is_all in bare_levels(workload):
            bar.set_postfix_str(f"{BARE}, {workload.name}")
            processes = setup.workers if is_all else 1
            load = bare(workload, setup.bundles, processes=processes, seconds=plan.seconds * workload.stretch)
            for level in workload.levels:
                if (level > 1) == is_all:
                    yield _row(BARE, workload, level, load)
            bar.update(1)
    shift = number % len(plan.stacks)  # each round begins with a different stack
    for stack in [*plan.stacks[shift:], *plan.stacks[:shift]]:
        own = [workload for workload in workloads if workload.kind in stack.kinds]
        if not own:
            continue
        before = bar.n
        bar.set_postfix_str(stack.name)
        try:
            first = stack.requests(own[0].kind, items(own[0], setup.bundles)[:1])[0]
            with stack.started(setup, family, first) as server:
                server.settle()
                for workload in own:
                    yield from _drive(stack, workload, setup, plan, server, bar)
            yield {"table": "starts", "stack": stack.name, "family": family, "cold_start_s": server.cold_start_s,
                   "peak_memory_mib": server.peak_memory_mib}  # fmt: skip
        except (CannotStart, WrongAnswer, RuntimeError) as problem:
            yield {"table": "problems", "stack": stack.name, "family": family, "problem": str(problem)}
        bar.update(before + sum(len(each.levels) for each in own) - bar.n)


class WrongAnswer(RuntimeError):
    """A stack started, but does not answer with 200."""


def _drive(
    stack: Stack, workload: Workload, setup: Setup, plan: Plan, server: Server, bar: tqdm[Any]
) -> Iterator[dict[str, Any]]:
    requests = stack.requests(workload.kind, items(workload, setup.bundles))
    bar.set_postfix_str(f"{stack.name}, {workload.name}")
    check(server.url, requests)
    warm = drive(server.url, requests, connections=WARM_CONNECTIONS, seconds=min(WARM_S, plan.seconds))
    for level in workload.levels:
        seconds = plan.seconds * workload.stretch
        if plan.seconds >= 1:
            seconds = max(seconds, min(MOST_S, needed_s(warm, level)))
        yield _row(stack.name, workload, level, drive(server.url, requests, connections=level, seconds=seconds))
        bar.update(1)


def check(url: str, requests: Sequence[Request]) -> None:
    """Send each request once; raises WrongAnswer if the status is not 200."""
    for request in requests:
        status, body = ask(url, request)
        if status != 200:
            raise WrongAnswer(f"POST {request.path} was answered with {status}: {body[:500]!r}")


def needed_s(warm: Load, connections: int) -> float:
    """Return the seconds in which each connection gets some answers; wrk drops requests in flight at the end."""
    rate = max(warm.requests, 1) / warm.seconds
    return math.ceil(ANSWERS_PER_CONNECTION * connections / rate)


def _row(stack: str, workload: Workload, level: int, load: Load) -> dict[str, Any]:
    row = {"table": "loads", "stack": stack, "workload": workload.name, "connections": level}
    return {**row, **asdict(load), "requests_per_s": load.requests_per_s, "time": round(time.time())}
