"""The soak: a server with two workers under good and hostile traffic, while workers are killed and stopped and bundles
change. What it counts are the promises that it breaks.

It begins calm, with good traffic alone; then come those who send what costs most; then, without them, all the rest at
once. What they take for a moment would hide what stays.

A request may be lost only on a connection to a process that was killed: the ports of the process's clients are read
while it is stopped, just before it is killed, and each request knows its own. One worker, the elder, is never killed,
so that its memory can be watched from the end of the warm-up to the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.server import Server
from tests.soak.client import Client, Lost, Reply, children, memory_mb, ports_of
from tests.soak.traffic import KEY, Request, costly, good, hostile

GOOD_CLIENTS, HOSTILE_CLIENTS, COSTLY_CLIENTS = 6, 3, 2
PHASES = ("calm", "costly", "all")
PHASE = 0.1
"""Of the time, for the calm and again for those who send what costs most."""
MAX_SLOWDOWN = 3.0
"""Of good traffic beside them: its 99th percentile, to that in the calm."""
_JUDGED_FROM_S = 20.0
"""A shorter phase has too few requests for a 99th percentile."""
REFUSALS = (429, 503, 504)
"""What a good request may be answered with by design."""
WARM_UP = 0.25
"""Of the time, before memory is watched."""
MAX_GROWTH_MB = 24.0
"""Of the elder, from the mean of the quarter behind the warm-up to that of the last quarter."""
FAULT_EVERY_S = 6.0
_STOPPED_S = 2.0


@dataclass
class Report:
    """What came of it."""

    seconds: float = 0.0
    good: int = 0
    hostile: int = 0
    hung_up: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    killed: int = 0
    stopped: int = 0
    swapped: int = 0
    swaps_refused: int = 0
    lost_with_their_process: int = 0
    slowest_ms: float = 0.0
    slowest: str = ""
    costly: int = 0
    calm_p99_ms: float | None = None
    """Of good requests."""
    costly_p99_ms: float | None = None
    """Of good requests, beside those that cost most."""
    memory_mb: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Process id -> seconds and megabytes."""
    growth_mb: float | None = None
    """Of the elder; None where the time was too short."""
    errors: list[tuple[float, str]] = field(default_factory=list)
    """Seconds and what broke a promise."""
    notes: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        """Whether every promise was kept."""
        return not self.errors


class Soak:
    """One run against a server that answers."""

    def __init__(self, server: Server, seconds: float, *, seed: int, bundles: list[str]) -> None:
        self.server = server
        self.seconds = seconds
        self.report = Report()
        self._rng = random.Random(seed)
        self._bundles = bundles
        self._statuses: Counter[str] = Counter()
        self._doomed: set[int] = set()
        self._elder = min(children(server.process.pid))
        self._took_ms: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self._start = time.monotonic()

    async def run(self) -> Report:
        """Return the report when the time is over."""
        requests = costly()  # it takes seconds to make them
        self._start = time.monotonic()
        jobs = [
            *(self._ask(good) for _ in range(GOOD_CLIENTS)),
            *(self._ask(lambda rng: rng.choice(requests), ("costly",)) for _ in range(COSTLY_CLIENTS)),
            *(self._ask(hostile, ("all",)) for _ in range(HOSTILE_CLIENTS)),
            *(self._hang_up(), self._watch_memory(), self._make_faults()),
        ]
        await asyncio.gather(*jobs)
        self.report.seconds = round(self._now(), 1)
        await asyncio.sleep(0.1)  # until the connections are closed
        self.report.statuses = dict(sorted(self._statuses.items()))
        self._judge_end()
        return self.report

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _phase(self) -> str:
        passed = self._now() / self.seconds
        return "calm" if passed < PHASE else "costly" if passed < 2 * PHASE else "all"

    async def _until(self, phase: str) -> None:
        while self._phase() not in (phase, "all"):
            await asyncio.sleep(0.05)

    def _living(self) -> list[int]:
        """Return the workers; one that was killed stays in the list of processes until its parent has looked."""
        return [pid for pid in children(self.server.process.pid) if memory_mb(pid) is not None]

    def _is_over(self) -> bool:
        return self._now() >= self.seconds

    def _broken(self, what: str) -> None:
        self.report.errors.append((round(self._now(), 2), what))

    async def _ask(self, make: Callable[[random.Random], Request], phases: Sequence[str] = PHASES) -> None:
        await self._until(phases[0])
        client = Client(self.server.port)
        rng = random.Random(self._rng.random())
        before = "nothing"
        while not self._is_over() and self._phase() in phases:
            request, phase = make(rng), self._phase()
            begun = time.monotonic()
            try:
                reply = await asyncio.wait_for(
                    client.ask(request.method, request.path, request.body, **request.headers), timeout=60
                )
            except Lost as lost:
                await asyncio.sleep(0.05)  # so that who kills has written down whose connections those were
                if client.port in self._doomed:
                    self.report.lost_with_their_process += 1
                else:
                    self._broken(f"lost: {request.method} {request.path} behind {before}: {lost}")
                continue
            except TimeoutError:
                self._broken(f"no answer within 60 s: {request.method} {request.path}")
                client.close()
                continue
            self._judge(request, reply, time.monotonic() - begun, phase)
            before = f"{reply.status} of {request.method} {request.path}, {len(request.body)} bytes"
            if rng.random() < 0.2:
                client.close()
            await asyncio.sleep(rng.uniform(0.0, 0.02))
        client.close()

    def _judge(self, request: Request, reply: Reply, seconds: float, phase: str) -> None:
        self._statuses[str(reply.status)] += 1
        name = f"{request.method} {request.path}"
        if seconds * 1000 > self.report.slowest_ms:
            self.report.slowest_ms, self.report.slowest = round(seconds * 1000, 1), name
        if reply.status >= 500 and reply.status not in REFUSALS:
            self._broken(f"{reply.status}: {name}: {reply.body[:200]!r}")
        if request.is_right is None:
            self.report.costly += request.is_costly
            self.report.hostile += not request.is_costly
            return
        self.report.good += 1
        self._took_ms[phase].append(seconds * 1000)
        if reply.status in REFUSALS:
            return
        try:
            is_right = reply.status == 200 and request.is_right(json.loads(reply.body))
        except (ValueError, KeyError, TypeError, IndexError):
            is_right = False
        if not is_right:
            self._broken(f"wrong: {name}: {reply.status} {reply.body[:200]!r}")

    async def _hang_up(self) -> None:
        await self._until("all")
        client = Client(self.server.port)
        rng = random.Random(self._rng.random())
        while not self._is_over():
            request = rng.choice((good, hostile))(rng)
            sent = rng.choice((rng.randrange(1, 80), 200, 10_000_000))
            await client.hang_up_after(request.method, request.path, request.body, sent, **request.headers)
            self.report.hung_up += 1
            await asyncio.sleep(rng.uniform(0.0, 0.1))

    async def _watch_memory(self) -> None:
        while not self._is_over():
            for pid in self._living():
                size = memory_mb(pid)
                if size is not None:
                    self.report.memory_mb.setdefault(str(pid), []).append((round(self._now(), 1), round(size, 1)))
            await asyncio.sleep(1)

    async def _make_faults(self) -> None:
        can_swap = "put" in (await self._openapi()).get("/v1/model", {})
        if not can_swap:
            self.report.notes.append("bundles were not swapped: there is no PUT /v1/model")
        faults = [self._kill, self._stop, *([self._swap, self._swap] if can_swap and self._bundles else [])]
        number = 0
        await self._until("all")
        while self._now() + 2 * FAULT_EVERY_S < self.seconds or not number:
            await asyncio.sleep(min(FAULT_EVERY_S, self.seconds / 4))
            await faults[number % len(faults)]()
            number += 1
        await self._all_are_back()

    async def _openapi(self) -> dict[str, Any]:
        client = Client(self.server.port)
        reply = await client.ask("GET", "/openapi.json")
        client.close()
        return dict(json.loads(reply.body)["paths"])

    async def _kill(self) -> None:
        """Kill a worker that is not the elder, and learn before whose connections it has."""
        others = [pid for pid in self._living() if pid != self._elder]
        if not others:
            return
        victim = self._rng.choice(others)
        os.kill(victim, signal.SIGSTOP)
        await asyncio.sleep(0.01)
        self._doomed |= ports_of(victim)
        os.kill(victim, signal.SIGKILL)
        self.report.killed += 1

    async def _stop(self) -> None:
        """Hold a worker still for a while: its requests wait, the others are answered."""
        pid = self._rng.choice(self._living())
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(min(_STOPPED_S, self.seconds / 10))
        os.kill(pid, signal.SIGCONT)
        self.report.stopped += 1

    async def _swap(self) -> None:
        bundle = self._bundles[(self.report.swapped + self.report.swaps_refused) % len(self._bundles)]
        body = json.dumps({"bundle": bundle}).encode()
        client = Client(self.server.port)
        try:
            reply = await client.ask("PUT", "/v1/model", body, **{"content-type": "application/json", "x-api-key": KEY})
        except Lost as lost:
            if client.port not in self._doomed:
                self._broken(f"lost: PUT /v1/model: {lost}")
            return
        finally:
            client.close()
        if reply.status == 200:
            self.report.swapped += 1
        elif reply.status in REFUSALS:
            self.report.swaps_refused += 1
        else:
            self._broken(f"PUT /v1/model: {reply.status} {reply.body[:200]!r}")

    async def _all_are_back(self) -> None:
        deadline = time.monotonic() + 60
        while len(self._living()) < 2 and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
        if len(self._living()) < 2:
            self._broken("a worker that was killed did not come back within 60 s")

    def _judge_speed(self) -> None:
        calm, costly = (
            statistics.quantiles(self._took_ms[phase], n=100)[-1] if len(self._took_ms[phase]) > 1 else None
            for phase in ("calm", "costly")
        )
        if calm is None or costly is None:
            return
        self.report.calm_p99_ms, self.report.costly_p99_ms = round(calm, 1), round(costly, 1)
        if self.seconds * PHASE >= _JUDGED_FROM_S and costly > MAX_SLOWDOWN * calm:
            self._broken(f"beside costly requests the p99 of good ones rose from {calm:.0f} to {costly:.0f} ms")

    def _judge_end(self) -> None:
        if self.server.process.poll() is not None:
            self._broken(f"the server ended with {self.server.process.returncode}")
        if self._elder not in self._living():
            self._broken("a worker ended that nobody had killed")
        self._judge_speed()
        samples = self.report.memory_mb.get(str(self._elder), [])
        begin, quarter = self.seconds * WARM_UP, self.seconds / 4
        first = [size for at, size in samples if begin <= at < begin + quarter]
        last = [size for at, size in samples if at >= self.seconds - quarter]
        if first and last:
            self.report.growth_mb = round(sum(last) / len(last) - sum(first) / len(first), 1)
            if self.report.growth_mb > MAX_GROWTH_MB:
                self._broken(f"a worker's memory grew by {self.report.growth_mb} MB behind the warm-up")
