"""A server as a process group of its own: started, waited for, measured, and stopped with all that it started."""

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
    """A stack ended, or never answered; says what it printed."""


@dataclass
class Server:
    """A server that answers."""

    url: str
    pid: int
    cold_start_s: float = 0.0
    """From starting the process to the first right answer."""
    peak_memory_mib: float = 0.0
    """Most that all its processes held together: proportional set size where the system tells it, else resident."""

    def processes(self) -> list[psutil.Process]:
        """Return those that live, the first one first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        return []

    def memory_mib(self) -> dict[int, float]:
        """Return process id -> memory."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                found[process.pid] = getattr(memory, "pss", memory.rss) / 2**20
        return found

    def cpu_s(self) -> float:
        """Return the processor time that all its processes have used."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def settle(self) -> None:
        """Wait until it does nothing: workers that load beside the first one would slow down what is measured."""
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
    """Yield a server once it answers the request with 200; end it and all that it started, whatever happens.

    Args:
        command: what follows `python`.
        request: something that it answers.
        port: where.
        variables: of its environment, on top of ours without any setting of Percept or BentoML.

    Raises:
        CannotStart: it ended, or did not answer in time.
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
    """Return what `python` with these arguments prints, given a text; ends all that it started, whatever happens.

    Raises:
        RuntimeError: it failed; says what it printed.
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
    """Return a port of the loopback device that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, request: Request, timeout_s: float = START_S) -> tuple[int, bytes]:
    """Return status and body of one answer, over a connection of its own; raises OSError where there is none."""
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
    """Tell the server to stop, then end whatever is left of it, in its group or out of it."""
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
