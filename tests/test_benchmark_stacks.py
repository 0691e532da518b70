"""Each stack of `make bench` starts, answers as ours does with the same weights, and ends with all that it started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient

from benchmarks.load import Request
from benchmarks.process import CannotStart, ask, free_port, running
from benchmarks.stacks import PERCEPT, STACKS, Setup
from benchmarks.workloads import Family, Item, Kind
from shared.bundle.read import read_bundle

ROOT = Path(__file__).resolve().parents[1]
UTTERANCE = "transfer 20 dollars to my savings"
QUESTION = ("Who keeps the light?", "The light on the rock is kept by Ada Brandt.")
PHOTO = (ROOT / "vision" / "page" / "samples" / "dahlia.jpg").read_bytes()


@pytest.mark.slow
def test_eager_peer_serves_a_pipeline_and_answers_with_weights_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from benchmarks.peers import EAGER, FOLDERS, eager_weights, fastapi_eager

    bundles = Setup().bundles
    for kind in ("intent", "qa"):
        eager_weights.make(kind, bundles[kind], tmp_path / kind)
        monkeypatch.setenv(FOLDERS[kind], str(bundles[kind]))
    monkeypatch.setenv(EAGER, str(tmp_path))
    with TestClient(fastapi_eager.create()) as client:
        intents = client.post("/intent", json={"text": UTTERANCE}).json()
        answer = client.post("/answer", json={"question": QUESTION[0], "context": QUESTION[1]}).json()
    assert len(intents) == 5
    assert intents[0]["label"] in read_bundle(bundles["intent"]).labels
    assert QUESTION[1][answer["start"] : answer["end"]] == answer["answer"] != ""


FAMILY_CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
SERVER = FAMILY_CHILD + (
    "\nfrom http.server import *\n"
    "class H(BaseHTTPRequestHandler):\n"
    "    def do_POST(self):\n"
    "        self.send_response(200); self.send_header('content-length', '0'); self.end_headers()\n"
    "HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n"
)


def test_a_server_and_all_that_it_started_end_when_the_measurement_is_interrupted():
    started: list[psutil.Process] = []

    def measure() -> None:
        port = free_port()
        with running(["-c", SERVER, str(port)], Request("/", "text/plain", b""), port=port) as server:
            started.extend(server.processes())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert len(started) == 2
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in started)


def test_a_server_that_ends_at_once_says_why():
    command = ["-c", "raise SystemExit('no model here')"]
    with (
        pytest.raises(CannotStart, match="no model here"),
        running(command, Request("/", "text/plain", b""), port=free_port()),
    ):
        pass


def best(body: bytes, kind: Kind) -> str:
    """Return the first label, or the answer, whatever stack it comes from."""
    found: Any = json.loads(body)
    if kind == "qa":
        answer = found["answer"]
        return str(answer["text"] if isinstance(answer, dict) else answer)
    if isinstance(found, dict):
        (result,) = found["results"]
        return str(result["ranking"][0]["name"] if kind == "intent" else result["tags"][0]["label"])
    return str((found[0][0] if isinstance(found[0], list) else found[0])["label"])


@pytest.fixture(scope="module")
def ours() -> dict[Kind, str]:
    """What Percept's own service answers."""
    return _answers(PERCEPT, "language") | _answers("percept-all", "vision")


def _answers(name: str, family: Family) -> dict[Kind, str]:
    stack = STACKS[name]
    asked: dict[Kind, Item] = {"intent": UTTERANCE, "qa": QUESTION} if family == "language" else {"photo": PHOTO}
    requests = {kind: stack.form(kind, item) for kind, item in asked.items() if kind in stack.kinds}
    with stack.started(Setup(workers=1), family, next(iter(requests.values()))) as server:
        assert server.cold_start_s > 0
        assert sum(server.memory_mib().values()) > 50
        return {kind: best(ask(server.url, request)[1], kind) for kind, request in requests.items()}


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("fastapi-onnx", "language"),
        ("litserve", "language"),
        ("bentoml-batch", "language"),
        ("bentoml", "vision"),
        ("fastapi-eager", "vision"),
    ],
)
def test_a_stack_with_the_same_weights_answers_the_same(name: str, family: Family, ours: dict[Kind, str]):
    found = _answers(name, family)
    assert found
    assert found == {kind: ours[kind] for kind in found}


@pytest.mark.slow
@pytest.mark.server
def test_benchmark_measures_every_figure_and_keeps_it(tmp_path: Path):
    brief = ["--only=intent12", "--stacks=percept", "--connections=1,4", "--seconds=0.3", "--rounds=1", "--workers=1"]
    path = tmp_path / "result.json"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", *brief, "--output", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(path.read_text())
    assert {(row["stack"], row["connections"]) for row in found["loads"]} == {
        (stack, level) for stack in ("bare", "percept") for level in (1, 4)
    }
    assert all(row["requests_per_s"] > 0 for row in found["loads"])
    (start,) = found["starts"]
    assert start["cold_start_s"] > 0
    assert set(found["parts"]["intent12"]) == {"tokenise", "run", "decide", "serialise"}
    assert "Percept, one service" in result.stdout
