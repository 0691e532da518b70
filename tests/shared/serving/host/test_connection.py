"""Heads have a limit and a time, what is no HTTP is told so in JSON, and who hangs up is worked for no more."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse
from starlette.testclient import TestClient
from uvicorn import Config
from uvicorn.config import HTTP_PROTOCOLS

from shared.serving.host import connection as host
from shared.serving.host.connection import Connection, use_connections
from shared.serving.http.middleware import RequestEdge
from shared.serving.observe.logs import RequestLog
from shared.serving.settings import Settings
from tests.live import connect, live, parsed, post, read_to_end, wait_until

LONG = 50 << 20  # more than the system's buffers take
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

        @app.post("/headers")
        async def headers(request: Request) -> list[str]:
            await request.body()
            return list(request.headers)

        @app.get("/long")
        async def long() -> Response:
            return Response(bytes(LONG))

        @app.get("/endless")
        async def endless() -> StreamingResponse:
            async def parts() -> AsyncIterator[bytes]:
                while True:
                    yield bytes(65536)
                    await asyncio.sleep(0)

            return StreamingResponse(parts())

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


H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA")
SMUGGLED = b"GET /word HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("pause_s", [0, 0.1], ids=["at once", "after its head"])
def test_the_body_of_a_request_that_offers_another_protocol_is_read_and_is_no_request(port: int, pause_s: float):
    """curl --http2 and Java's HttpClient offer HTTP/2 with every request of the first connection."""
    request = post("/size", SMUGGLED, *H2C)
    head = request.removesuffix(SMUGGLED)
    with connect(port, head if pause_s else request) as connection:
        if pause_s:
            time.sleep(pause_s)
            connection.sendall(SMUGGLED)
        connection.sendall(post("/headers", b"", *H2C[1:], "connection: close, upgrade"))
        answers = read_to_end(connection)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 ") == 2
    assert f"\r\n\r\n{len(SMUGGLED)}".encode() in answers
    assert b'["host","content-length","http2-settings","connection"]' in answers


def test_a_chunked_body_of_such_a_request_is_read_too(port: int):
    head = "\r\n".join(["POST /size HTTP/1.1", "host: x", "transfer-encoding: chunked", *H2C, "", ""]).encode()
    with connect(port, head, b"3\r\nabc\r\n0\r\n\r\n", GET + b"connection: close\r\n\r\n") as connection:
        answers = read_to_end(connection)
    assert b"\r\n\r\n3HTTP/1.1 200 " in answers
    assert answers.endswith(b'"yes"')


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (
            GET + b"connection: Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            400,
        ),
        (b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere:443\r\n\r\n", 405),
    ],
    ids=["websocket", "proxy"],
)
def test_a_websocket_or_a_tunnel_is_refused_in_json(
    work: Work, port: int, head: bytes, status: int, caplog: pytest.LogCaptureFixture
):
    with connect(port, head, b"\x81\x05hello") as connection:
        found, headers, body = parsed(read_to_end(connection))
    assert (found, headers["connection"]) == (status, "close")
    assert body["error"]["request_id"]
    assert (work.log, errors_of_uvicorn(caplog)) == ([], [])


CHUNKED = b"POST /size HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def test_requests_are_the_same_wherever_their_bytes_are_cut(port: int):
    chunks = b"3;a=b\r\nabc\r\n1d\r\nGET /word HTTP/1.1\r\nhost: x\r\n\r\n0\r\nx-more: b\r\n\r\n"
    upgraded = CHUNKED.replace(b"host: x", b"host: x\r\n" + "\r\n".join(H2C).encode())
    sent = post("/size", SMUGGLED, *H2C) + upgraded + chunks + CHUNKED + chunks + GET + b"connection: close\r\n\r\n"
    for place in range(1, len(sent), 2):
        with connect(port, sent[:place]) as connection:
            time.sleep(0.002)
            connection.sendall(sent[place:])
            answers = read_to_end(connection)
        bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers.split(b"HTTP/1.1 200 ")[1:]]
        assert bodies == [b"%d" % len(SMUGGLED), b"32", b"32", b'"yes"'], place


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (CHUNKED + b"0\r\n", b"x-more: " + b"a" * 1000 + b"\r\n"),
        (CHUNKED + b"0\r\nx-more: ", b"a" * 1000),
        (CHUNKED.replace(b"/size", b"/nowhere") + b"0\r\n", b"x-more: " + b"a" * 1000 + b"\r\n"),
        (CHUNKED + b"1;", b"a" * 1000),
        (CHUNKED, b"1;" + b"a" * 1000 + b"\r\nb\r\n"),
        (CHUNKED, b"1\r\nb\r\n" * 200),
        (b"", b"\r\n" * 500),
        (GET + b"\r\n", b"\r\n" * 500),
    ],
    ids=[
        "trailers",
        "one trailer",
        "trailers of a request that was answered",
        "one extension of a chunk",
        "extensions of chunks",
        "chunks of one byte",
        "blank lines",
        "blank lines after a request",
    ],
)
def test_what_is_neither_head_nor_body_does_not_go_on_for_ever(port: int, start: bytes, more: bytes):
    sent = 0
    with connect(port, start) as connection:
        connection.settimeout(0.02)
        answer = b""
        while b"HTTP/1.1 431" not in answer and sent < 64 * 4096:
            connection.sendall(more)
            sent += len(more)
            try:
                part = connection.recv(65536)
            except TimeoutError:
                continue
            answer += part
            if not part:
                break
    assert sent < 8 * 4096
    if b"404" not in answer:  # otherwise that was the answer
        _, headers, body = parsed(answer[answer.index(b"HTTP/1.1 431") :])
        assert (body["error"]["type"], headers["connection"]) == ("too_large", "close")


def test_trailers_are_no_headers(port: int):
    request = CHUNKED.replace(b"/size", b"/headers") + b"1\r\na\r\n0\r\nx-api-key: secret\r\n\r\n"
    with connect(port, request + GET + b"connection: close\r\n\r\n") as connection:
        answers = read_to_end(connection)
    assert b'["host","transfer-encoding"]' in answers
    assert answers.endswith(b'"yes"')


@pytest.mark.parametrize(("size", "chunk"), [(500, 1), (1_000_000, 24), (1_000_000, 65536)])
def test_a_body_may_come_in_small_chunks(port: int, size: int, chunk: int):
    body = b"".join(b"%x\r\n%s\r\n" % (chunk, b"a" * chunk) for _ in range(size // chunk))
    with connect(
        port, CHUNKED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), body, b"0\r\n\r\n"
    ) as connection:
        assert read_to_end(connection).endswith(b"\r\n\r\n%d" % (size // chunk * chunk))


def test_of_thousands_sent_at_once_the_first_are_answered_and_the_connection_ends(work: Work, port: int):
    with connect(port, (GET + b"\r\n") * 5000) as connection:
        answers = read_to_end(connection)
    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b'"yes"') == len(work.log) == host._MAX_AHEAD + 1
    assert answers.count(b"connection: close") == 1


def test_garbage_after_a_request_does_not_take_its_answer(port: int):
    with connect(port, GET + b"\r\n" + b"\x16\x03\x01 hello\r\n\r\n") as connection:
        answers = read_to_end(connection)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("kilobytes", [200, 400, 520, 600, 3000])
def test_a_client_that_hangs_up_is_noticed_whatever_the_size_of_its_body(work: Work, port: int, kilobytes: int):
    with connect(port, post("/wait", bytes(kilobytes << 10))):
        wait_until(lambda: work.started == 1)
    wait_until(lambda: work.ended == ["cancelled"])


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such time limit")
@pytest.mark.parametrize("path", [b"/long", b"/endless"])
def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(work: Work, path: bytes):
    request = GET.replace(b"/word", path) + b"\r\n"
    with live(work.app, head_timeout_s=60, unread_timeout_s=0.5) as port, connect(port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request)

        def is_cut_off() -> bool:
            time.sleep(0.1)
            try:
                connection.send(b"\r\n")  # or it would not hear of it
            except ConnectionError:
                return True
            return False

        wait_until(is_cut_off)
        wait_until(lambda: len(work.log) == 1)


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(work: Work):
    request = GET.replace(b"/word", b"/long") + b"connection: close\r\n\r\n"
    with live(work.app, unread_timeout_s=0.5) as port, connect(port, request) as connection:
        for _ in range(6):
            time.sleep(0.25)
            start = sum(len(connection.recv(1 << 20)) for _ in range(4))
            assert start
        assert len(read_to_end(connection)) > LONG // 2


@pytest.mark.parametrize("closes", [True, False], ids=["the last request", "not the last"])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (post("/nowhere", b"", length=30 << 20), 404),
        (post("/word", b"", length=30 << 20), 405),
        (CHUNKED.replace(b"/size", b"/nowhere"), 404),
    ],
    ids=["nowhere", "another method", "chunked"],
)
def test_who_still_sends_can_read_an_early_answer(port: int, head: bytes, status: int, *, closes: bool):
    if closes:
        head = head.replace(b"host: x", b"host: x\r\nconnection: close")
    is_chunked = b"chunked" in head
    with connect(port, head) as connection:
        for _ in range(30):
            connection.sendall(b"100000\r\n" * is_chunked + bytes(1 << 20) + b"\r\n" * is_chunked)
            time.sleep(0.002)
        connection.sendall(b"0\r\n\r\n" * is_chunked)
        if not closes:
            connection.sendall(GET + b"connection: close\r\n\r\n")
        answers = read_to_end(connection)
    assert answers.startswith(b"HTTP/1.1 %d " % status)
    assert answers.endswith(b'"yes"') is not closes


@pytest.mark.parametrize("limit", ["_LINGER_S", "_LINGER_BYTES"])
@pytest.mark.parametrize("closes", [True, False], ids=["the last request", "not the last"])
def test_the_rest_of_a_refused_upload_is_dropped_for_a_time_and_up_to_a_size(
    work: Work, monkeypatch: pytest.MonkeyPatch, limit: str, *, closes: bool
):
    monkeypatch.setattr(host, limit, 0.2 if limit == "_LINGER_S" else 1 << 20)
    head = post("/nowhere", b"", *["connection: close"] * closes, length=10**10)
    with live(work.app, head_timeout_s=0.2 if limit == "_LINGER_S" else 60) as port, connect(port, head) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")

        def is_cut_off() -> bool:
            try:
                connection.sendall(bytes(65536) if limit == "_LINGER_BYTES" else b"a")
            except ConnectionError:
                return True
            return False

        wait_until(is_cut_off)


def test_once_the_service_is_to_end_each_answer_is_the_last_of_its_connection(work: Work):
    made: list[type[Connection]] = []
    with live(work.app, made=made) as port, connect(port, GET + b"\r\n") as connection:
        assert b"connection: close" not in connection.recv(65536)
        made[0].end()
        connection.sendall(GET + b"\r\n")
        answer = read_to_end(connection)
    assert b"connection: close" in answer
    assert answer.endswith(b'"yes"')


def test_what_was_on_its_way_when_the_server_ended_is_answered(work: Work, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "_LAST_CALL_S", 0.8)
    server = live(work.app)
    port = server.__enter__()
    kept, fresh, begun, silent = connect(port, GET + b"\r\n"), connect(port), connect(port, GET), connect(port)
    assert kept.recv(65536).endswith(b'"yes"')
    ending = threading.Thread(target=server.__exit__, args=(None, None, None))
    ending.start()
    time.sleep(0.3)
    for connection in (kept, fresh):
        connection.sendall(GET + b"\r\n")
        answer = read_to_end(connection)
        assert b"connection: close" in answer
        assert answer.endswith(b'"yes"')
    status, headers, body = parsed(read_to_end(begun))
    assert (status, body["error"]["type"], headers["connection"]) == (503, "not_ready", "close")
    assert read_to_end(silent) == b""
    ending.join(30)


def test_each_server_that_is_set_up_afterwards_takes_these_connections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", "elsewhere")
    limits = ("max_head_bytes", "head_timeout_s", "unread_timeout_s")
    for name in limits:
        monkeypatch.setattr(Connection, name, getattr(Connection, name))
    use_connections(Settings(max_head_bytes=5000, head_timeout_s=3, body_timeout_s=4))
    config = Config(FastAPI())
    config.load()
    assert config.http_protocol_class is Connection
    assert [getattr(Connection, name) for name in limits] == [5000, 3, 4]


def test_a_photo_of_a_megapixel_lies_with_its_connection_and_more_waits_outside():
    stops = []
    connection: Any = object.__new__(Connection)
    connection._extra_bytes = 0
    connection.cycle = SimpleNamespace(body=b"", response_complete=False, message_event=asyncio.Event())
    connection.flow = SimpleNamespace(pause_reading=lambda: stops.append(len(connection.cycle.body)))
    for _ in range(5):
        connection.on_body(bytes(60_000))
    assert stops == [300_000]


def test_without_a_server_of_ours_the_edge_answers_all_the_same(work: Work):
    assert TestClient(work.app).get("/word").json() == "yes"
