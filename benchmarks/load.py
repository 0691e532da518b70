"""Load on one URL: so many connections, each sending the next photo as soon as it has its answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
import numpy as np


@dataclass(frozen=True)
class Load:
    """What one round of load measured."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failures: int
    """Answers other than 200; a figure with failures is no figure."""


async def drive(url: str, photo: bytes, *, connections: int, seconds: float) -> Load:
    """Send the photo over and over and return what came of it."""
    latencies: list[float] = []
    failures = 0
    headers = {"content-type": "image/jpeg"}
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        start = time.perf_counter()
        end = start + seconds

        async def one_connection() -> None:
            nonlocal failures
            while (sent := time.perf_counter()) < end:
                async with session.post(url, data=photo, headers=headers) as answer:
                    await answer.read()
                    failures += answer.status != 200
                latencies.append(time.perf_counter() - sent)

        await asyncio.gather(*(one_connection() for _ in range(connections)))
        took = time.perf_counter() - start
    p50, p99 = np.percentile(np.array(latencies) * 1000, [50, 99])
    return Load(len(latencies) / took, float(p50), float(p99), failures)
