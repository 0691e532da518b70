"""What records cost: `python -m benchmarks --only records` loads services that keep records beside one that keeps none.

All of them run at once, with one worker each, and are loaded in turns, in another order each time. A turn's figures are
divided by those of the service without records in the same turn, so whatever else the machine does falls out of them.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.load import Request, drive, generator
from benchmarks.measure import check, machine
from benchmarks.stacks import PERCEPT, STACKS, Setup
from benchmarks.workloads import WORKLOADS, Family, items

CONNECTIONS = 8
TURNS, SECONDS = 20, 3.0
WRITTEN_S = 0.7
"""After a load, until what waits is written; its CPU time counts."""
NONE = "none"
_DRAWS = 2000


@dataclass(frozen=True)
class Subject:
    """A workload with the levels of records to compare."""

    workload: str
    levels: tuple[str, ...]


SUBJECTS = (Subject("intent12", ("outcomes", "features")), Subject("photo1", ("outcomes", "inputs")))


def measure_records(turns: int = TURNS, seconds: float = SECONDS) -> dict[str, Any]:
    """Return the figures, ready for JSON: each turn's rates and CPU times, and the medians of their ratios.

    Args:
        turns: of each service.
        seconds: of one load.
    """
    result = begun(turns, seconds)
    with tqdm(total=sum(len(each.levels) + 1 for each in SUBJECTS) * turns, desc="records", unit="load") as bar:
        for subject in SUBJECTS:
            result["rows"] += _compared(subject, turns, seconds, bar)
    return result


def render_records(result: dict[str, Any]) -> str:
    """Return a table."""
    return table_of(result, "without records", lambda row: f"`{row['level']}`")


def begun(turns: int, seconds: float) -> dict[str, Any]:
    """Return a result without rows yet: when, where and how it is measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(), "machine": machine(), "load": generator(), "turns": turns,
        "seconds": seconds, "connections": CONNECTIONS, "rows": [],
    }  # fmt: skip


def beside(rates: Mapping[str, list[float]], cpu: Mapping[str, list[float]], name: str, other: str) -> dict[str, Any]:
    """Return the figures of one service, as `in_turns` gives them, beside those of another in the same turns."""
    return {
        "rate": median_with_interval(np.array(rates[name]) / np.array(rates[other])),
        "cpu": median_with_interval(np.array(cpu[name]) / np.array(cpu[other])),
        "cpu_us": 1e6 * float(np.median(cpu[name])),
        "cpu_us_without": 1e6 * float(np.median(cpu[other])),
        "rates": rates[name],
        "rates_without": rates[other],
    }


def table_of(result: dict[str, Any], other: str, named: Callable[[dict[str, Any]], str]) -> str:
    """Return a table of figures.

    Args:
        result: as `begun`, with rows as `beside`.
        other: what all rows are beside, such as "without records".
        named: returns what a row is called behind its workload's title.
    """
    lines = [
        f"| | answers a second, of those {other} | CPU time per answer, of that {other} | µs more per answer |",
        "|---|---:|---:|---:|",
    ]
    for row in result["rows"]:
        rate, cpu = shown(row["rate"]), shown(row["cpu"])
        more = row["cpu_us"] - row["cpu_us_without"]
        lines.append(f"| {row['title']}, {named(row)} | {rate} | {cpu} | {more:.0f} |")
    lines.append("")
    lines.append(
        f"Median of {result['turns']} turns of {result['seconds']:g} s, with the 95 % interval of the median; one "
        f"worker, {result['connections']} connections; {result['date']}, {result['machine']['cpu']}, "
        f"{result['machine']['cores']} cores, load average before {result['machine']['load_average_before']}."
    )
    return "\n".join(lines)


def write_records(result: dict[str, Any], path: Path) -> None:
    """Write the result to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def median_with_interval(ratios: np.ndarray) -> list[float]:
    """Return a median with the ends of its 95 % interval, by the bootstrap over turns."""
    rng = np.random.default_rng(0)
    drawn = np.median(ratios[rng.integers(len(ratios), size=(_DRAWS, len(ratios)))], axis=1)
    return [float(np.median(ratios)), *map(float, np.quantile(drawn, [0.025, 0.975]))]


def in_turns(
    setups: Mapping[str, Setup], family: Family, requests: Sequence[Request], turns: int, seconds: float, bar: tqdm[Any]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return name -> requests per second of each turn, and name -> seconds of CPU time per request.

    Args:
        setups: name -> what a service is started with; all run at once.
        family: of the services.
        requests: sent in turn.
        turns: of each service.
        seconds: of one load.
        bar: goes on with each load.
    """
    rates: dict[str, list[float]] = {name: [] for name in setups}
    cpu: dict[str, list[float]] = {name: [] for name in setups}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(STACKS[PERCEPT].started(setup, family, requests[0]))
            for name, setup in setups.items()
        }
        for server in servers.values():
            server.settle()
            check(server.url, requests)
            drive(server.url, requests, connections=CONNECTIONS, seconds=seconds)
        order = np.random.default_rng(0)
        for _ in range(turns):
            for name in order.permutation(list(setups)).tolist():
                server = servers[name]
                before = server.cpu_s()
                load = drive(server.url, requests, connections=CONNECTIONS, seconds=seconds)
                time.sleep(WRITTEN_S)
                used = server.cpu_s() - before
                if load.requests_per_s is None:
                    raise RuntimeError(f"{name}: {load.errors}")
                rates[name].append(load.requests_per_s)
                cpu[name].append(used / load.requests)
                bar.update(1)
    return rates, cpu


def _compared(subject: Subject, turns: int, seconds: float, bar: tqdm[Any]) -> list[dict[str, Any]]:
    workload, setup = WORKLOADS[subject.workload], Setup(workers=1)
    requests = STACKS[PERCEPT].requests(workload.kind, items(workload, setup.bundles))
    with tempfile.TemporaryDirectory(prefix="percept-bench-") as folder:
        setups = {NONE: setup} | {
            level: replace(setup, variables={
                "PERCEPT_RECORDS": f"sqlite:///{folder}/{level}.sqlite", "PERCEPT_RECORDS_LEVEL": level,
            })
            for level in subject.levels
        }  # fmt: skip
        rates, cpu = in_turns(setups, workload.family, requests, turns, seconds, bar)
    return [
        {
            "workload": subject.workload,
            "title": workload.title,
            "level": level,
            **beside(rates, cpu, level, NONE),
        }
        for level in subject.levels
    ]


def shown(interval: Sequence[float]) -> str:
    """Return a median with its interval as text."""
    middle, low, high = interval
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"
