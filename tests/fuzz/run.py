"""Fuzzing in a process of its own: a case that kills it, or never ends, is counted, kept as a file, and passed over.

`fuzz(kind, cases, …)` runs the cases from the number 0 on and returns a report. The process tells its parent which case
it is at through a file that both map, so nothing is lost when it dies in the middle of a decoder.
"""

from __future__ import annotations

import importlib
import json
import math
import mmap
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.project import PROJECT_ROOT
from tests.fuzz.cases import numbered

MAX_CASE_S = 60.0
"""A case that takes longer hangs, for us: its process is killed."""
_STATE = struct.Struct("<qd")
"""Number of the case and when it began, by the clock that does not turn back."""
_MAX_DEATHS = 50


@dataclass
class Report:
    """What came of the cases of one kind. Of a process that died, the outcomes of its last hundred are missing."""

    kind: str
    seed: int
    cases: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    slowest_ms: float = 0.0
    slowest_case: int | None = None
    slowest_file: str | None = None
    peak_mb: float = 0.0
    """Resident memory of the process at its largest, Python and all libraries included."""
    start_mb: float = 0.0
    """The same after the first hundred cases."""
    crashes: list[dict[str, Any]] = field(default_factory=list)
    """Cases that ended their process or never ended: number, how, file."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    """Cases with an exception that is no InputError: number, exception, file."""

    @property
    def is_clean(self) -> bool:
        return not self.crashes and not self.faults


def fuzz(kind: str, cases: int, *, seed: int = 1, kept: Path, module: str = "tests.fuzz.cases") -> Report:
    """Return what came of so many cases.

    Args:
        kind: one of the module's KINDS.
        cases: how many.
        seed: of the files.
        kept: folder for the bytes of the slowest case and of each that failed.
        module: whose cases are run.
    """
    kept.mkdir(parents=True, exist_ok=True)
    report = Report(kind, seed)
    begun = time.perf_counter()
    make = importlib.import_module(module).KINDS[kind]
    outcomes: Counter[str] = Counter()
    number = 0

    def keep(case: int) -> str:
        path = kept / f"{kind}-{seed}-{case}"
        path.write_bytes(make(numbered(kind, seed, case))[0])
        return str(path)

    with tempfile.TemporaryDirectory() as folder:
        while number < cases and len(report.crashes) < _MAX_DEATHS:
            state, results = Path(folder) / "state", Path(folder) / "results"
            state.write_bytes(_STATE.pack(number, math.inf))  # it imports first, which is no case
            results.write_text("")
            how = _watch([module, kind, *map(str, (seed, number, cases)), str(state), str(results)], state)
            reached = _STATE.unpack(state.read_bytes())[0]
            for line in results.read_text().splitlines():
                _add(report, outcomes, json.loads(line))
            if how is None:
                number = cases
                break
            report.crashes.append({"case": reached, "how": how, "file": keep(reached)})
            outcomes["crashed"] += 1
            number = reached + 1
    report.cases = number
    report.outcomes = dict(sorted(outcomes.items()))
    report.seconds = round(time.perf_counter() - begun, 1)
    for fault in report.faults:
        fault["file"] = keep(fault["case"])
    if report.slowest_case is not None:
        report.slowest_file = keep(report.slowest_case)
    return report


def _watch(arguments: list[str], state: Path) -> str | None:
    """Run a process of this module; return how it died, or None where it came to the end."""
    command = [sys.executable, "-m", "tests.fuzz.run", *arguments]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while True:
        try:
            _, errors = process.communicate(timeout=2)
        except subprocess.TimeoutExpired:
            begun = _STATE.unpack(state.read_bytes())[1]
            if time.monotonic() - begun <= MAX_CASE_S:
                continue
            process.kill()
            process.communicate()
            return f"no end within {MAX_CASE_S:g} s"
        if process.returncode == 0:
            return None
        return f"exit status {process.returncode}: {errors.decode(errors='replace')[-400:]}"


def _add(report: Report, outcomes: Counter[str], told: dict[str, Any]) -> None:
    if "fault" in told:
        report.faults.append({"case": told["case"], "exception": told["fault"]})
        outcomes["fault"] += 1
        return
    outcomes.update(told["outcomes"])
    report.peak_mb = max(report.peak_mb, told["peak_mb"])
    report.start_mb = report.start_mb or told["peak_mb"]
    if told["slowest_ms"] > report.slowest_ms:
        report.slowest_ms, report.slowest_case = told["slowest_ms"], told["slowest"]


def work(module: str, kind: str, seed: int, first: int, cases: int, state: Path, results: Path) -> None:
    """Run the cases in this process, and write what came of each hundred."""
    make = importlib.import_module(module).KINDS[kind]
    outcomes: Counter[str] = Counter()
    slowest = (0.0, first)
    with state.open("r+b") as file, mmap.mmap(file.fileno(), _STATE.size) as shared, results.open("a") as out:
        for number in range(first, cases):
            shared[:] = _STATE.pack(number, time.monotonic())
            _, run = make(numbered(kind, seed, number))
            begun = time.perf_counter()
            try:
                outcomes[run()] += 1
            except Exception as error:  # noqa: BLE001 whatever it is, it is a fault
                out.write(json.dumps({"case": number, "fault": repr(error)[:400]}) + "\n")
                out.flush()
            slowest = max(slowest, (time.perf_counter() - begun, number))
            if number % 100 == 99 or number == cases - 1:
                peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                told = {"outcomes": outcomes, "peak_mb": round(peak_mb, 1)}
                out.write(json.dumps({**told, "slowest_ms": round(slowest[0] * 1000, 2), "slowest": slowest[1]}) + "\n")
                out.flush()
                outcomes.clear()


if __name__ == "__main__":
    name, chosen, *numbers, state_file, results_file = sys.argv[1:]
    work(name, chosen, *map(int, numbers), Path(state_file), Path(results_file))
    os._exit(0)
