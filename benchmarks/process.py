"""Runs a server in its own process group: starts it, waits for it, measures it, and stops it with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import Request
from shared.project import PROJECT_ROOT
from shared.serving.settings import PREFIX

START_S = 120
STOP_S = 20
SETTLE_S = 30
_LOG_CHARACTERS = 3000
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CannotStart(RuntimeError):
    """A stack exited or never answered; the message contains what it printed."""


@dataclass
class Server:
    """A running server."""

    url: str
    pid: int
    cold_start_s: float = 0.0
    """From starting the process to the first successful answer."""
    peak_memory_mib: float = 0.0
    """Peak memory of all its processes together: proportional set size if the system reports it, otherwise resident."""

    def processes(self) -> list[psutil.Process]:
        """Return the live processes, the first one first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        return []

    def memory_mib(self) -> dict[int, float]:
        """Return process id -> memory in MiB."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                found[process.pid] = getattr(memory, "pss", memory.rss) / 2**20
        return found

    def cpu_s(self) -> float:
        """Return the CPU time used by all its processes."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def settle(self) -> None:
        """Wait until it is idle: workers that are still loading would slow down the measurement."""
        end = time.monotonic() + SETTLE_S
        before = self.cpu_s()
        while time.monotonic() < end:
            time.sleep(0.5)
            now = self.cpu_s()
            if now - before < 0.05:
                return
            before = now


@contextlib.contextmanager
def running(
    command: Sequence[str], request: Request, *, port: int, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Yield a server once it answers the request with 200; always stop it and everything it started.

    Args:
        command: what follows `python`.
        request: a request it can answer.
        port: the port it listens on.
        variables: added to its environment, which is ours without any Percept or BentoML settings.

    Raises:
        CannotStart: it exited, or did not answer in time.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "BENTOML_"))}
    with tempfile.TemporaryDirectory(prefix="percept-bench-") as home:
        log = Path(home) / "log"
        environment = inherited | {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "BENTOML_HOME": home,
            "BENTOML_DO_NOT_TRACK": "True",
            "PERCEPT_KNOWLEDGE": str(Path(home) / "knowledge.sqlite"),
            **(variables or {}),
        }
        start = time.perf_counter()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *command],
                cwd=PROJECT_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(f"http://127.0.0.1:{port}", process.pid)
        over = threading.Event()
        watcher = threading.Thread(target=_watch_memory, args=(server, over), daemon=True)
        try:
            while not _answers(server.url, request):
                if process.poll() is not None or time.perf_counter() - start > START_S:
                    said = log.read_text(errors="replace")[-_LOG_CHARACTERS:]
                    raise CannotStart(f"{' '.join(command)} did not answer within {START_S} s. It said:\n{said}")
                time.sleep(0.05)
            server.cold_start_s = time.perf_counter() - start
            watcher.start()
            yield server
        finally:
            over.set()
            _stop(process, server)
            if watcher.is_alive():
                watcher.join()


def output_of(command: Sequence[str], text: str = "") -> str:
    """Return what `python` prints with these arguments and this input; always stop everything it started.

    Raises:
        RuntimeError: it failed; the message contains what it printed.
    """
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        cwd=PROJECT_ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(text)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{said[-_LOG_CHARACTERS:]}")
    return printed


def free_port() -> int:
    """Return a free port on the loopback device."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, request: Request, timeout_s: float = START_S) -> tuple[int, bytes]:
    """Return status and body of one answer, over its own connection; raises OSError if there is none."""
    headers = {"content-type": request.content_type}
    posted = urllib.request.Request(url + request.path, request.body, headers, method="POST")
    try:
        with _DIRECT.open(posted, timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _answers(url: str, request: Request) -> bool:
    try:
        return ask(url, request)[0] == 200
    except OSError:
        return False


def _watch_memory(server: Server, over: threading.Event) -> None:
    while not over.wait(1.0):
        server.peak_memory_mib = max(server.peak_memory_mib, sum(server.memory_mib().values()))


def _stop(process: subprocess.Popen[bytes], server: Server) -> None:
    """Tell the server to stop, then kill whatever is left, inside or outside its process group."""
    started = server.processes()
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for each in started:
            with contextlib.suppress(psutil.Error):
                each.kill()
        process.wait()
        psutil.wait_procs(started, timeout=STOP_S)
