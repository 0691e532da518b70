"""A worker answers so many requests at once, and tells the next one at once; a body has its time."""

from __future__ import annotations

import threading
import time

from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from shared.serving.app import with_edge
from shared.serving.http.limits import RequestLimits
from shared.serving.settings import Settings
from tests.live import connect, live, parsed, post, read_to_end, wait_until

LIMIT = 3


def held_app(opened: threading.Event, held: list[str]) -> FastAPI:
    app = FastAPI()

    @app.get("/held")
    def hold() -> str:
        held.append("held")
        assert opened.wait(30)
        return "answered"

    @app.get("/livez")
    @app.get("/metrics")
    async def alive() -> str:
        return "alive"

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    return app


def test_beyond_the_limit_a_request_is_429_at_once_and_health_and_metrics_still_answer():
    opened, held = threading.Event(), []
    app = with_edge(held_app(opened, held), Settings(max_in_flight=LIMIT), lambda: None)
    client = TestClient(app)
    threads = [threading.Thread(target=client.get, args=("/held",)) for _ in range(LIMIT)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(held) == LIMIT)
    try:
        for _ in range(5):
            refused = client.get("/held")  # would wait for ever if it were let in
            assert (refused.status_code, refused.json()["error"]["type"]) == (429, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["x-request-id"]
        assert (client.get("/livez").status_code, client.get("/metrics").status_code) == (200, 200)
        assert len(held) == LIMIT
    finally:
        opened.set()
        for thread in threads:
            thread.join(30)
    assert client.get("/held").status_code == 200


def test_a_body_that_never_comes_is_408_and_is_read_by_nobody():
    app = with_edge(held_app(threading.Event(), []), Settings(body_timeout_s=0.2), lambda: None)
    with live(app) as port, connect(port, post("/size", b"some", length=4000)) as connection:
        status, headers, body = parsed(read_to_end(connection))
    assert (status, body["error"]["type"], headers["connection"]) == (408, "timeout", "close")
    assert "within 0.2 s" in body["error"]["message"]


def test_a_body_that_trickles_has_no_more_time_than_its_bytes_are_worth():
    app = with_edge(held_app(threading.Event(), []), Settings(body_timeout_s=0.3), lambda: None)
    with live(app) as port, connect(port, post("/size", b"", length=4000)) as connection:
        connection.settimeout(0.05)
        answer, sent = b"", 0
        while not answer and sent < 400:
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                connection.sendall(b"a")
                sent += 1
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert sent < 100


def test_a_large_body_on_a_slow_line_is_read_whole_though_it_takes_longer_than_a_small_one_may():
    app = RequestLimits(held_app(threading.Event(), []), max_body_bytes=10**6, max_buffered_bytes=10**6, timeout_s=0.2)
    with live(app) as port, connect(port, post("/size", b"", "connection: close", length=16 * 4096)) as connection:
        for _ in range(16):  # 64 KiB are worth two seconds
            connection.sendall(bytes(4096))
            time.sleep(0.03)
        assert read_to_end(connection).endswith(b"65536")


def test_the_time_of_a_body_does_not_cut_an_answer_off():
    opened, held = threading.Event(), []
    app = with_edge(held_app(opened, held), Settings(body_timeout_s=0.1), lambda: None)
    with live(app) as port, connect(port, b"GET /held HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") as connection:
        wait_until(lambda: len(held) == 1)
        time.sleep(0.3)
        opened.set()
        assert b"answered" in read_to_end(connection)


def test_a_limit_of_one_lets_one_request_in_while_the_app_lives():
    app = with_edge(held_app(threading.Event(), []), Settings(max_in_flight=1), lambda: None)
    with TestClient(app) as client:  # the lifespan goes through the same layers, and is no request
        assert client.post("/size", content=b"1234").json() == 4
        assert client.post("/size", content=b"1234").json() == 4
