"""`make bench` measures what it says, on every stack alike; that one is fast is for the benchmark itself to say."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import load, soak, training
from benchmarks.__main__ import main
from benchmarks.load import Load, Request
from benchmarks.measure import Plan, WrongAnswer, check, head, needed_s
from benchmarks.pages import between_marks, publish
from benchmarks.peers.documents import READ, WORDS, Documents, passages_of
from benchmarks.plot import draw
from benchmarks.process import Server, free_port
from benchmarks.records import median_with_interval, render_records
from benchmarks.report import render
from benchmarks.stacks import STACKS, Setup
from benchmarks.workloads import WORKLOADS, items, make_photo
from nlp.text import TextEncoder
from shared.bundle.read import read_bundle

ROOT = Path(__file__).resolve().parents[1]
EVERY_THIRD_FAILS = 3


def test_made_photo_has_the_size_that_was_asked_for():
    image = Image.open(io.BytesIO(make_photo(0.3)))
    assert image.format == "JPEG"
    assert image.width * image.height == pytest.approx(300_000, rel=0.01)
    assert image.width / image.height == pytest.approx(4 / 3, rel=0.01)


@pytest.mark.parametrize("name", ["intent12", "intent60"])
def test_texts_have_the_tokens_that_were_asked_for(name: str):
    bundles = Setup().bundles
    encoder = TextEncoder.from_bundle(read_bundle(bundles["intent"]))
    texts = items(WORKLOADS[name], bundles)
    assert {len(encoder.encode(text)) for text in texts} == {WORKLOADS[name].size}
    assert len(set(texts)) > 1


def test_contexts_have_the_tokens_and_windows_that_were_asked_for():
    bundles = Setup().bundles
    encoder = TextEncoder.from_bundle(read_bundle(bundles["qa"]))
    short = [encoder.windows(*asked) for asked in items(WORKLOADS["qa300"], bundles)]
    assert all(len(windows) == 1 for windows in short)
    assert all(295 <= len(windows[0]) <= 300 for windows in short)
    assert {len(encoder.windows(*asked)) for asked in items(WORKLOADS["qa10"], bundles)} == {10}


def test_the_peers_read_the_best_passages_of_the_documents_that_percept_has():
    read: list[str] = []

    def reader(question: str, context: str) -> dict[str, Any]:
        read.append(context)
        return {"score": float("PERCEPT_ADMIN_KEY" in context), "answer": context[:9]}

    found = Documents(reader)("Which key may change the knowledge base?")
    assert len(read) == READ
    assert found["score"] == 1.0
    assert all(len(passage.split()) < 2 * WORDS for passage in passages_of(["word " * 90] * 9))
    assert len(items(WORKLOADS["documents"], {})) == 60


class _FailsSometimes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answered = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).answered += 1
        self.send_response(503 if self.answered % EVERY_THIRD_FAILS == 0 and self.path == "/fails" else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers POST /fails with 503 every third time."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _FailsSometimes)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["wrk", "aiohttp"])
def drive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each of the two load generators."""
    if request.param == "aiohttp":
        monkeypatch.setattr(load.shutil, "which", lambda _: None)
    elif shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    assert load.generator().startswith(request.param)
    return load.drive


def test_failures_are_counted_and_make_a_figure_no_figure(url: str, drive: Any):
    found = drive(url, [Request("/fails", "application/json", b"{}")], connections=2, seconds=0.3)
    assert found.errors["status 503"] == pytest.approx(found.requests / EVERY_THIRD_FAILS, abs=3)
    assert found.requests_per_s is None


def test_a_load_without_failures_has_a_rate_and_latencies(url: str, drive: Any):
    sent = [Request("/works", "application/json", b"{}"), Request("/too", "text/plain", b"a longer body")]
    found = drive(url, sent, connections=2, seconds=0.3)
    assert found.errors == {}
    assert found.requests_per_s == pytest.approx(found.requests / found.seconds)
    assert 0 < found.p50_ms <= found.p99_ms <= found.max_ms


def test_a_server_that_is_not_there_gives_no_figure(drive: Any):
    nowhere = f"http://127.0.0.1:{free_port()}"
    if drive is load.drive and shutil.which("wrk") and load.generator().startswith("wrk"):
        with pytest.raises(RuntimeError, match="measured nothing"):
            drive(nowhere, [Request("/", "text/plain", b"x")], connections=1, seconds=0.2)
    else:
        found = drive(nowhere, [Request("/", "text/plain", b"x")], connections=1, seconds=0.2)
        assert found.errors["connect"]
        assert found.requests_per_s is None


def a_result(**changes: Any) -> dict[str, Any]:
    """A result of two stacks and the limit, of two rounds over 1 and 32 connections."""
    rates = {"bare": (1000, 1200), "percept": (900, 700), "fastapi-onnx": (400, 400)}
    loads = [
        {"round": number, "stack": stack, "workload": "intent12", "connections": level, "seconds": 3.0, "requests": 9,
         "p50_ms": 5.0 + level, "p99_ms": 9.0 + level, "max_ms": 9.0, "errors": {}, "requests_per_s": float(rate)}
        for stack, of_rounds in rates.items() for number, rate in enumerate(of_rounds) for level in (1, 32)
    ]  # fmt: skip
    plan = Plan([STACKS["percept"], STACKS["fastapi-onnx"]], [replace(WORKLOADS["intent12"], levels=(1, 32))], 2, 3.0)
    starts = [{"stack": "percept", "family": "language", "cold_start_s": 2.5, "peak_memory_mib": 512.0}]
    parts = {"intent12": {"tokenise": 0.1, "run": 1.2, "decide": 0.1, "serialise": 0.1}}
    return head(Setup(workers=2), plan) | {
        "loads": loads, "starts": starts, "problems": [], "parts": parts, **changes
    }  # fmt: skip


def test_report_has_medians_spread_and_ratios():
    text = render(a_result())
    (ours,) = [line for line in text.splitlines() if line.startswith("| Percept, one service | 800")]
    assert [cell.strip() for cell in ours.split("|")[1:-1]] == [
        "Percept, one service", "800", "800", "700 to 900", "73%", "", "6.00 / 10.0", "37.0 / 41.0"
    ]  # fmt: skip
    assert "| FastAPI + ONNX Runtime | 400 | 400 | 400 to 400 | 36% | 2.0 × |" in text
    assert "| Percept, one service | 2.5 | 512 |" in text
    assert "| rest (HTTP) | 4.50 |" in text


def test_a_round_with_failures_leaves_no_figure_in_table_and_picture():
    result = a_result()
    broken = [row for row in result["loads"] if row["stack"] == "fastapi-onnx" and row["connections"] == 32]
    broken[0] |= {"errors": {"status 503": 7}, "requests_per_s": None}
    text = render(result)
    assert "| FastAPI + ONNX Runtime | 400 | 7 failed (status 503) |  |  |  |" in text
    assert Image.open(io.BytesIO(draw(result))).size != (0, 0)


def test_a_stack_that_cannot_be_measured_is_named_with_its_reason():
    problem = {"stack": "litserve", "family": "vision", "problem": "no such module"}
    assert "**litserve (vision) could not be measured:** no such module" in render(a_result(problems=[problem]))


def test_a_result_is_put_between_the_marks_of_readme_and_page_and_again(tmp_path: Path):
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for name in ("README.md", "docs/benchmark.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    publish(a_result(), tmp_path)
    publish(a_result(), tmp_path)
    for name in ("README.md", "docs/benchmark.md"):
        text = (tmp_path / name).read_text()
        assert text.count("images/benchmark.png)") == 1
        assert text.count("2.0 ×") >= 1
    assert (tmp_path / "docs" / "images" / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "docs" / "benchmark.json").read_text())["workers"] == 2


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match=r"page\.md needs a line"):
        between_marks("no marks", "text", "page.md")


def test_an_answer_that_is_not_200_stops_a_stack_before_it_is_measured(url: str):
    with pytest.raises(WrongAnswer, match="POST /fails was answered with 503"):
        check(url, [Request("/fails", "application/json", b"{}")] * EVERY_THIRD_FAILS)


def test_a_slow_stack_is_given_time_for_some_answers_on_each_connection():
    assert needed_s(Load(1.0, 20, 0, 0, 0), 32) == 7
    assert needed_s(Load(1.0, 2000, 0, 0, 0), 32) == 1


def test_soak_sends_as_many_as_asked_and_stops_at_a_failure(url: str):
    server = Server(url, os.getpid())
    works = [Request("/works", "application/json", b"{}")]
    series = soak.send(server, works, 20, connections=2, seconds=0.2)
    assert series[-1]["requests"] >= 20
    assert series[-1]["rss_mib"][os.getpid()] > soak.WORKER_MIB
    with pytest.raises(RuntimeError, match="status 503"):
        soak.send(server, [Request("/fails", "application/json", b"{}")], 20, connections=2, seconds=0.2)


def test_soak_tells_growth_and_workers_that_were_replaced():
    assert soak.growth({1: 100.0, 2: 200.0}, {1: 106.0, 2: 200.0}) == {1: pytest.approx(1.06), 2: 1.0}
    with pytest.raises(RuntimeError, match="workers"):
        soak.growth({1: 100.0}, {2: 100.0})


def test_soak_sends_every_kind_of_request():
    paths = {request.path for request in soak.mixed_requests(Setup())}
    assert paths == {"/v1/intent", "/v1/answer", "/v1/tag"}


def test_training_overhead_is_told_as_the_median_of_the_rounds():
    rows = [
        {"task": "intent", "unit": "sentences", "lightning": 100.0 / (1 + overhead), "bare": 100.0, "waiting": 0.01,
         "share_of_peak": None}
        for overhead in (0.02, 0.01, 0.05)
    ]  # fmt: skip
    expected = "intent: Lightning 98 sentences/s, bare loop 100, overhead 2.0 % (1.0 to 5.0); waiting for data 1%"
    assert training.line(rows) == expected


@pytest.mark.slow
@pytest.mark.parametrize("task", ["tagging", "intent"])
def test_training_measures_lightning_and_the_bare_loop(task: str):
    brief = ["--task", task, "--rounds=1", "--steps=5", "--batch-size=2", "--image-size-px=32", "--device=cpu"]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.training", *brief, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert row["lightning"] > 0
    assert row["bare"] > 0
    assert 0 <= row["waiting"] < 1


def test_records_are_shown_as_ratios_of_the_same_turns_with_their_interval():
    turns = np.array([0.90, 0.98, 1.00, 1.02, 1.30])
    middle, low, high = median_with_interval(turns)
    assert middle == 1.0
    assert 0.9 <= low < 1.0 < high <= 1.3
    row = {"title": "Intent", "level": "outcomes", "rate": [0.99, 0.97, 1.01], "cpu": [1.02, 1.0, 1.04],
           "cpu_us": 1030.0, "cpu_us_without": 1000.0}  # fmt: skip
    machine = {"cpu": "a processor", "cores": 2, "load_average_before": 0.1}
    shown = render_records(
        {"rows": [row], "turns": 5, "seconds": 3.0, "connections": 8, "date": "x", "machine": machine}
    )
    assert "| Intent, `outcomes` | 0.990 (0.970 to 1.010) | 1.020 (1.000 to 1.040) | 30 |" in shown
    assert "Median of 5 turns of 3 s" in shown


@pytest.mark.parametrize("name", ["records", "entities"])
def test_records_and_entities_are_measured_by_themselves(name: str):
    done = CliRunner().invoke(main, ["--only", f"{name},intent12"])
    assert done.exit_code == 2
    assert f"{name} is measured by itself" in done.output
