"""`percept serve` as a process of its own, on a free port, for the tests of the server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.project import PROJECT_ROOT
from shared.serving.settings import PREFIX

START_S = 120
STOP_S = 60


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[int]:
        """Their process ids."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(line) for line in found.stdout.split()]

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: bytes, content_type: str = "image/png", **headers: str) -> Answer:
        return self.request("POST", path, body, **{"content-type": content_type}, **headers)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Ask over a connection of its own, so that any worker may answer; no proxy stands in between."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def metric(self, name: str, *labels: str) -> float:
        """Return the sum of all samples of a metric that have these labels, as one worker adds it up for all."""
        lines = self.get("/metrics").body.decode().splitlines()
        samples = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        samples = [line for line in samples if all(label in line for label in labels)]
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    def wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        """Ask until it is so; a server that does not answer just now is asked again."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                if is_so():
                    return
            except (OSError, http.client.HTTPException):
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"not {what} within {START_S} s:\n{self.log.read_text()[-4000:]}")


PERCEPT = (sys.executable, "-m", "scripts.main")


def command(bundles: Path | Sequence[Path], *options: str, program: Sequence[str] = PERCEPT) -> list[str]:
    named = [bundles] if isinstance(bundles, Path) else bundles
    return [*program, "serve", *map(str, named), *options]


def environment(**changes: str) -> dict[str, str]:
    """Return an environment without settings of who runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "BENTOML_"))}
    return inherited | {"OMP_NUM_THREADS": "1"} | changes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    bundles: Path | Sequence[Path],
    log: Path,
    *options: str,
    workers: int = 2,
    models: int = 1,
    program: Sequence[str] = PERCEPT,
    folder: Path = PROJECT_ROOT,
    **settings: str,
) -> Iterator[Server]:
    """Start a server, wait until all models of all its workers answer, and stop it at the end, whatever happened."""
    port = free_port()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command(
                bundles, "--port", str(port), "--workers", str(workers), "--device", "cpu", *options, program=program
            ),
            cwd=folder,
            env=environment(**settings),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, port, log)
    try:
        server.wait_for("ready", lambda: server.metric("percept_model_ready") == workers * models)
        yield server
    finally:
        workers = server.workers
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *workers]:
                os.kill(pid, signal.SIGKILL)
            raise
