"""The stacks that are compared: each is started alone, driven, and stopped with everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peer import BUNDLE

ROOT = Path(__file__).resolve().parents[1]
START_S = 120


@contextlib.contextmanager
def percept(bundle: Path, workers: int) -> Iterator[tuple[str, float]]:
    """Yield the URL that takes photos, and the seconds until the service was ready."""
    port = _free_port()
    command = ["-m", "scripts.main", "serve", str(bundle), "--port", str(port), "--workers", str(workers), "--no-ui"]
    with _running(command, f"http://127.0.0.1:{port}/readyz", {}) as seconds:
        yield f"http://127.0.0.1:{port}/v1/tag", seconds


@contextlib.contextmanager
def fastapi_torchvision(bundle: Path, workers: int) -> Iterator[tuple[str, float]]:
    """Yield the same of the peer."""
    port = _free_port()
    command = ["-m", "uvicorn", "--factory", "benchmarks.peer:create", "--port", str(port), "--workers", str(workers)]
    with _running([*command, "--log-level", "warning"], f"http://127.0.0.1:{port}/ready", {BUNDLE: str(bundle)}) as s:
        yield f"http://127.0.0.1:{port}/tag", s


@contextlib.contextmanager
def _running(command: list[str], ready_url: str, variables: dict[str, str]) -> Iterator[float]:
    environment = os.environ | variables | {"OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while True:
            if process.poll() is not None or time.perf_counter() - start > START_S:
                raise SystemExit(f"{' '.join(command)} did not start; see above.")
            with contextlib.suppress(OSError), urllib.request.urlopen(ready_url, timeout=START_S):
                break
            time.sleep(0.05)
        yield time.perf_counter() - start
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
