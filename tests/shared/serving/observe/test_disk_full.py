"""A disk that is full or can only be read stops no worker and no answer, and what could not be written is said."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, values
from prometheus_client.mmap_dict import MmapedDict
from starlette.testclient import TestClient

from shared.project import PROJECT_ROOT
from shared.serving.host.metric_files import SafeDict
from shared.serving.http.errors import install_error_handlers
from shared.serving.http.middleware import RequestEdge
from shared.serving.observe import logs
from shared.serving.observe.logs import RequestLog, configure_logs

COUNT = """
from shared.serving.observe import metrics
from prometheus_client import Counter
counter = Counter("many", "Many.", ["label"])
for i in range(3000):
    counter.labels(f"value-{i}").inc()
text = metrics.exposition().decode()
print("survived", text.count("many_total{"))
"""


def counting(folder: Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a process that makes thousands of metrics; no file of it may grow above the limit."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-c", COUNT],
        cwd=PROJECT_ROOT,
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
    )


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 KB, where one may be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_prometheus_still_maps_its_files_as_these_here_do():
    assert values.MmapedDict is SafeDict
    assert {"_init_value", "read_value", "write_value", "close"} <= set(vars(MmapedDict))


def test_metrics_are_whole_where_there_is_room(tmp_path: Path):
    result = counting(tmp_path)
    assert (result.returncode, result.stdout) == (0, "survived 3000\n"), result.stderr


def test_a_full_disk_does_not_kill_a_worker_by_its_metrics(tiny_disk: Path):
    """Without safe files the process ends with SIGBUS here."""
    (tiny_disk / "other").write_bytes(bytes(40 << 10))
    result = counting(tiny_disk)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("survived ")
    assert "stay in its memory, unseen by the others: No space left on device" in result.stderr


def test_metrics_whose_file_may_not_grow_go_on_in_memory(tmp_path: Path):
    result = counting(tmp_path, limit=100_000)
    assert result.returncode == 0, result.stderr
    shown = int(result.stdout.split()[1])
    assert 0 < shown < 3000  # what the file had room for is still there for the others
    assert result.stderr.count("unseen by the others") >= 1


def test_a_folder_of_metrics_that_is_gone_does_not_stop_a_worker(tmp_path: Path):
    result = counting(tmp_path / "gone")
    assert (result.returncode, result.stdout) == (0, "survived 3000\n"), result.stderr
    assert "unseen by the others: No such file or directory" in result.stderr


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def write(self, _: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def lost() -> float:
    return REGISTRY.get_sample_value("percept_log_lines_lost_total") or 0.0


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_said_lost", logs.threading.Event())


def test_a_log_that_nobody_reads_costs_no_answer(nothing_said: None, capsys: pytest.CaptureFixture[str]):
    app = FastAPI()

    @app.get("/word")
    async def word() -> str:
        return "yes"

    before = lost()
    client = TestClient(RequestEdge(app, log=RequestLog(100, Broken()), model=lambda: None))
    assert [client.get("/word").text for _ in range(3)] == ['"yes"'] * 3
    assert lost() == before + 3
    said = capsys.readouterr().err
    assert said.count("percept: the log cannot be written: Broken pipe.") == 1


def test_a_closed_log_costs_no_answer(nothing_said: None):
    closed = io.StringIO()
    closed.close()
    before = lost()
    RequestLog(100, closed).write({"method": "GET"}, is_error=False)
    assert lost() == before + 1


def test_other_lines_that_cannot_be_written_are_counted_too(nothing_said: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    configure_logs()
    before = lost()
    logging.getLogger("shared.serving").info("something")
    assert lost() == before + 1
    monkeypatch.undo()
    configure_logs()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/secret/path"), 503, "the service's disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "/secret/path"), 503, "is read-only at present"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/secret/path"), 500, "the service failed on this request"),
    ],
)
def test_what_cannot_be_written_is_503_and_other_errors_of_files_are_faults(error: OSError, status: int, said: str):
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/keep")
    async def keep() -> None:
        raise error

    edge = RequestEdge(app, log=RequestLog(0, io.StringIO()), model=lambda: None)
    answer = TestClient(edge, raise_server_exceptions=False).get("/keep")
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert "secret" not in answer.text
    assert json.loads(answer.text)["error"]["type"] == ("unavailable" if status == 503 else "internal")
