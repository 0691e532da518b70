"""Puts load on a server: several connections, each sending its next request as soon as it has an answer.

Uses wrk if it is installed, because its single thread takes little of the CPU it shares with the server. Otherwise it
uses aiohttp, which takes more.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT_S = 60


@dataclass(frozen=True)
class Request:
    """One POST request."""

    path: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Load:
    """The result of one load."""

    seconds: float
    requests: int
    """Answers of any status."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int] = field(default_factory=dict)
    """Kind, such as "status 429" or "timeout" -> count."""

    @property
    def requests_per_s(self) -> float | None:
        """None if anything failed or nothing was answered: a rate with failures would be misleading."""
        return None if self.errors or not self.requests else self.requests / self.seconds


def generator() -> str:
    """Return the name of the load generator on this machine, for the head of a report."""
    path = shutil.which("wrk")
    if path is None:
        return f"aiohttp {aiohttp.__version__} (wrk is not installed; it would use less CPU)"
    words = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stdout.split()
    return f"wrk {words[1]}" if len(words) > 1 else "wrk"


def drive(url: str, requests: Sequence[Request], *, connections: int, seconds: float) -> Load:
    """Send the requests in turn, over and over, and return the result.

    Args:
        url: of the server, without a path.
        requests: at least one.
        connections: number of open connections.
        seconds: rounded up for wrk, which only takes whole seconds.
    """
    path = shutil.which("wrk")
    if path is None:
        return asyncio.run(drive_aiohttp(url, requests, connections=connections, seconds=seconds))
    return drive_wrk(path, url, requests, connections=connections, seconds=seconds)


def drive_wrk(wrk: str, url: str, requests: Sequence[Request], *, connections: int, seconds: float) -> Load:
    """Send with one wrk thread."""
    with tempfile.TemporaryDirectory(prefix="percept-load-") as folder:
        lines = []
        for place, request in enumerate(requests):
            body = Path(folder) / str(place)
            body.write_bytes(request.body)
            lines.append(f"{request.path}\t{request.content_type}\t{body}\n")
        listed = Path(folder) / "requests"
        listed.write_text("".join(lines))
        options = ["-t1", f"-c{connections}", f"-d{max(1, math.ceil(seconds))}s", f"--timeout={TIMEOUT_S}s"]
        command = [wrk, *options, "-s", str(SCRIPT), url, "--", str(listed)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise RuntimeError(f"wrk measured nothing at {url}: {result.stdout}{result.stderr}")
    return Load(**json.loads(found[0].removeprefix("RESULT ").replace("nan", "0")))


async def drive_aiohttp(url: str, requests: Sequence[Request], *, connections: int, seconds: float) -> Load:
    """Send with aiohttp; waits for requests in flight at the end."""
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        start = time.perf_counter()
        end = start + seconds
        sent = 0

        async def one_connection() -> None:
            nonlocal sent
            while (begin := time.perf_counter()) < end:
                request = requests[sent % len(requests)]
                sent += 1
                headers = {"content-type": request.content_type}
                try:
                    async with session.post(url + request.path, data=request.body, headers=headers) as answer:
                        await answer.read()
                except (aiohttp.ClientError, TimeoutError) as error:
                    errors["timeout" if isinstance(error, TimeoutError) else "connect"] += 1
                    await asyncio.sleep(0.01)
                    continue
                if answer.status != 200:
                    errors[f"status {answer.status}"] += 1
                latencies.append(time.perf_counter() - begin)

        await asyncio.gather(*(one_connection() for _ in range(connections)))
        took = time.perf_counter() - start
    if not latencies:
        return Load(took, 0, 0.0, 0.0, 0.0, dict(errors))
    p50, p99, most = np.percentile(np.array(latencies) * 1000, [50, 99, 100])
    return Load(took, len(latencies), float(p50), float(p99), float(most), dict(errors))
