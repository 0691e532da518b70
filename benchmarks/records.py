"""What records cost: `python -m benchmarks --only records` loads services that keep records beside one that keeps none.

All of them run at once, with one worker each, and are loaded in turns, in another order each time. A turn's figures are
divided by those of the service without records in the same turn, so whatever else the machine does falls out of them.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.load import drive, generator
from benchmarks.measure import check, machine
from benchmarks.stacks import PERCEPT, STACKS, Setup
from benchmarks.workloads import WORKLOADS, items

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
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(), "machine": machine(), "load": generator(), "turns": turns,
        "seconds": seconds, "connections": CONNECTIONS, "rows": [],
    }  # fmt: skip
    with tqdm(total=sum(len(each.levels) + 1 for each in SUBJECTS) * turns, desc="records", unit="load") as bar:
        for subject in SUBJECTS:
            result["rows"] += _compared(subject, turns, seconds, bar)
    return result


def render_records(result: dict[str, Any]) -> str:
    """Return a table."""
    lines = [
        "| | answers a second, of those without records | CPU time per answer, of that without | µs more per answer |",
        "|---|---:|---:|---:|",
    ]
    for row in result["rows"]:
        rate, cpu = row["rate"], row["cpu"]
        more = row["cpu_us"] - row["cpu_us_without"]
        lines.append(f"| {row['title']}, `{row['level']}` | {_shown(rate)} | {_shown(cpu)} | {more:.0f} |")
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


def _compared(subject: Subject, turns: int, seconds: float, bar: tqdm[Any]) -> list[dict[str, Any]]:
    workload, setup = WORKLOADS[subject.workload], Setup(workers=1)
    requests = STACKS[PERCEPT].requests(workload.kind, items(workload, setup.bundles))
    levels = (NONE, *subject.levels)
    rates: dict[str, list[float]] = {level: [] for level in levels}
    cpu: dict[str, list[float]] = {level: [] for level in levels}
    with tempfile.TemporaryDirectory(prefix="percept-bench-") as folder, ExitStack() as stack:
        servers = {}
        for level in levels:
            variables = {} if level == NONE else {
                "PERCEPT_RECORDS": f"sqlite:///{folder}/{level}.sqlite", "PERCEPT_RECORDS_LEVEL": level,
            }  # fmt: skip
            own = replace(setup, variables=variables)
            servers[level] = stack.enter_context(STACKS[PERCEPT].started(own, workload.family, requests[0]))
        for server in servers.values():
            server.settle()
            check(server.url, requests)
            drive(server.url, requests, connections=CONNECTIONS, seconds=seconds)
        order = np.random.default_rng(0)
        for _ in range(turns):
            for level in order.permutation(levels).tolist():
                server = servers[level]
                before = server.cpu_s()
                load = drive(server.url, requests, connections=CONNECTIONS, seconds=seconds)
                time.sleep(WRITTEN_S)
                used = server.cpu_s() - before
                if load.requests_per_s is None:
                    raise RuntimeError(f"records at the level {level}: {load.errors}")
                rates[level].append(load.requests_per_s)
                cpu[level].append(used / load.requests)
                bar.update(1)
    without = np.array(cpu[NONE])
    return [
        {
            "workload": subject.workload,
            "title": workload.title,
            "level": level,
            "rate": median_with_interval(np.array(rates[level]) / np.array(rates[NONE])),
            "cpu": median_with_interval(np.array(cpu[level]) / without),
            "cpu_us": 1e6 * float(np.median(cpu[level])),
            "cpu_us_without": 1e6 * float(np.median(without)),
            "rates": rates[level],
            "rates_without": rates[NONE],
        }
        for level in subject.levels
    ]


def _shown(interval: Sequence[float]) -> str:
    middle, low, high = interval
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"
