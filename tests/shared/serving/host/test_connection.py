"""Heads have a limit and a time, what is no HTTP is told so in JSON, and who hangs up is worked for no more."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient
from uvicorn import Config
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http import httptools_impl

from shared.serving.host.connection import Connection, use_connections
from shared.serving.http.middleware import RequestEdge
from shared.serving.observe.logs import RequestLog
from shared.serving.settings import Settings
from tests.live import connect, live, parsed, post, read_to_end, wait_until

LIMIT = "HIGH_WATER_LIMIT"
GET = b"GET /word HTTP/1.1\r\nhost: x\r\n"


class Work:
    """An app that waits until it is let go, and knows what became of each request."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: list[str] = []
        self.lines = io.StringIO()
        app = FastAPI()

        @app.get("/word")
        async def word() -> str:
            return "yes"

        @app.post("/size")
        async def size(request: Request) -> int:
            return len(await request.body())

        @app.post("/wait")
        async def wait(request: Request) -> str:
            await request.body()
            self.started += 1
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                raise
            return "waited"

        self.app = RequestEdge(app, log=RequestLog(1000, self.lines), model=lambda: None)

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def port(work: Work) -> Iterator[int]:
    with live(work.app) as port:
        yield port


def errors_of_uvicorn(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_requests_are_answered_one_after_the_other_and_several_sent_at_once(port: int):
    request = GET + b"\r\n"
    last = GET + b"connection: close\r\n\r\n"
    with connect(port, request, request + post("/size", b"12345"), last) as connection:
        answers = read_to_end(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 4
    assert answers.count(b'"yes"') == 3
    assert b"\r\n\r\n5" in answers


def test_a_client_that_hangs_up_has_its_request_cancelled_and_is_logged_as_gone(
    work: Work, port: int, caplog: pytest.LogCaptureFixture
):
    with connect(port, post("/wait", b"{}")):
        wait_until(lambda: work.started == 1)
    wait_until(lambda: work.ended == ["cancelled"])
    wait_until(lambda: bool(work.log))
    assert (work.log[0]["route"], work.log[0]["status"]) == ("/wait", 499)
    assert errors_of_uvicorn(caplog) == []


def test_of_several_sent_at_once_the_one_that_runs_is_cancelled_and_the_others_never_begin(work: Work, port: int):
    with connect(port, post("/wait", b"{}") * 3):
        wait_until(lambda: work.started == 1)
    wait_until(lambda: work.ended == ["cancelled"])
    with connect(port, GET + b"connection: close\r\n\r\n") as connection:
        assert b'"yes"' in read_to_end(connection)
    assert work.started == 1


def test_a_client_that_leaves_in_the_middle_of_its_body_is_gone_too(work: Work, port: int):
    with connect(port, post("/size", b"some", length=4000)):
        pass
    wait_until(lambda: bool(work.log))
    assert (work.log[0]["route"], work.log[0]["status"]) == ("/size", 499)


@pytest.mark.parametrize(
    "head",
    [
        GET + b"x-long: " + bytes(5000).replace(b"\0", b"a") + b"\r\n\r\n",
        GET + b"x-many: 1\r\n" * 500 + b"\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /?q=" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=["a long header", "many headers", "a long path", "a long query"],
)
def test_a_head_over_the_limit_is_431_in_json(port: int, head: bytes):
    with connect(port, head) as connection:
        status, headers, body = parsed(read_to_end(connection))
    assert (status, body["error"]["type"], headers["connection"]) == (431, "too_large", "close")
    assert body["error"]["request_id"] == headers["x-request-id"]
    assert "4096 bytes" in body["error"]["message"]


def test_a_head_that_never_ends_is_refused_once_the_limit_is_passed(port: int):
    with connect(port, GET) as connection:
        sent = 0
        answer = b""
        connection.settimeout(0.05)
        while not answer and sent < 64 * 4096:
            connection.sendall(b"x-more: " + b"a" * 1000 + b"\r\n")
            sent += 1010
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
    assert parsed(answer)[0] == 431
    assert sent < 8 * 4096


def test_a_head_below_the_limit_may_come_in_many_parts(port: int):
    with connect(port, *(bytes([byte]) for byte in GET + b"connection: close\r\n\r\n")) as connection:
        assert b'"yes"' in read_to_end(connection)


def test_a_large_body_before_another_request_does_not_count_as_its_head(port: int):
    last = GET + b"connection: close\r\n\r\n"
    with connect(port, post("/size", bytes(50_000)) + last[:20]) as connection:
        time.sleep(0.05)
        connection.sendall(last[20:])
        answers = read_to_end(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET[:9], GET], ids=["nothing", "a blank line", "a word", "no end"])
def test_who_sends_no_whole_head_in_time_is_cut_off(work: Work, sent: bytes):
    with live(work.app, head_timeout_s=0.2) as port, connect(port, sent) as connection:
        answer = read_to_end(connection)
    if len(sent) > 2:
        status, _, body = parsed(answer)
        assert (status, body["error"]["type"]) == (408, "timeout")
    else:
        assert answer == b""


def test_a_trickle_gives_a_head_no_more_time(work: Work):
    with live(work.app, head_timeout_s=0.3) as port, connect(port, GET) as connection:
        connection.settimeout(0.05)
        answer = b""
        for _ in range(100):
            try:
                answer = connection.recv(65536)
                break
            except TimeoutError:
                connection.sendall(b"a: b\r\n")
    assert parsed(answer)[0] == 408


def test_a_later_request_of_a_connection_has_its_time_too(work: Work):
    with live(work.app, head_timeout_s=0.3) as port, connect(port, GET + b"\r\n") as connection:
        assert b'"yes"' in connection.recv(65536)
        connection.sendall(b"GET /wo")
        assert parsed(read_to_end(connection))[0] == 408


def test_a_request_that_takes_long_is_not_cut_off_by_the_time_of_its_head(work: Work):
    with live(work.app, head_timeout_s=0.1) as port, connect(port, post("/wait", b"{}")) as connection:
        wait_until(lambda: work.started == 1)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_the_rest_of_a_body_that_is_answered_unread_is_not_taken_for_ever(work: Work):
    with live(work.app, head_timeout_s=0.2) as port, connect(port, post("/nowhere", b"a", length=10**6)) as connection:
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 404 ")

        def is_cut_off() -> bool:
            try:
                connection.sendall(b"a")
            except ConnectionError:
                return True
            return False

        wait_until(is_cut_off)


def test_what_is_no_http_is_400_in_json(port: int):
    with connect(port, b"\x16\x03\x01 hello\r\n\r\n") as connection:
        status, headers, body = parsed(read_to_end(connection))
    assert (status, body["error"]["type"]) == (400, "invalid_request")
    assert headers["content-type"] == "application/json"


def test_each_server_that_is_set_up_afterwards_takes_these_connections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", "elsewhere")
    for owner, name in ((Connection, "max_head_bytes"), (Connection, "head_timeout_s"), (httptools_impl, LIMIT)):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    use_connections(Settings(max_head_bytes=5000, head_timeout_s=3))
    config = Config(FastAPI())
    config.load()
    assert config.http_protocol_class is Connection
    assert (Connection.max_head_bytes, Connection.head_timeout_s) == (5000, 3)


def test_a_photo_of_a_megapixel_lies_with_its_connection_and_more_waits_outside(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", "elsewhere")
    monkeypatch.setattr(httptools_impl, LIMIT, getattr(httptools_impl, LIMIT))
    use_connections(Settings())
    stops = []
    connection: Any = object.__new__(Connection)
    connection.parser = SimpleNamespace(should_upgrade=lambda: False)
    connection.cycle = SimpleNamespace(body=b"", response_complete=False, message_event=asyncio.Event())
    connection.flow = SimpleNamespace(pause_reading=lambda: stops.append(len(connection.cycle.body)))
    for _ in range(5):
        connection.on_body(bytes(60_000))
    assert stops == [300_000]


def test_without_a_server_of_ours_the_edge_answers_all_the_same(work: Work):
    assert TestClient(work.app).get("/word").json() == "yes"
