"""No body larger than the limit is read, nor more than the memory holds, and who is refused gets to read why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from shared.errors import TooLarge
from shared.serving.access.keys import add_key
from shared.serving.app import with_edge
from shared.serving.http.errors import install_error_handlers
from shared.serving.http.limits import RequestLimits
from shared.serving.settings import Settings
from tests.live import connect, live, parsed, read_to_end
from tests.shared.serving.requests import call

LIMIT = 1024


def make_app() -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.post("/swallow")
    async def swallow(request: Request) -> Response:
        try:
            await request.body()
        except Exception:  # noqa: BLE001 as a form parser may do
            return PlainTextResponse("I know better", 400)
        return PlainTextResponse("read")

    return app


@pytest.fixture
def client() -> TestClient:
    return TestClient(RequestLimits(make_app(), max_body_bytes=LIMIT, max_buffered_bytes=4 * LIMIT))


def test_all_layers_together_answer_in_the_one_shape():
    client = TestClient(with_edge(make_app(), Settings(max_body_bytes=LIMIT), lambda: ("first", "1")))
    response = client.post("/size", content=bytes(LIMIT + 1))
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-model-name"] == "first"


@pytest.mark.parametrize("path", ["/size", "/swallow", "/nowhere"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "Deflate, gzip"])
def test_a_compressed_body_is_415_on_every_route_and_unread(client: TestClient, path: str, encoding: str):
    response = client.post(path, content=b"\x1f\x8b", headers={"content-encoding": encoding})
    assert response.status_code == 415
    assert response.json()["error"]["message"] == f"the body is encoded as {encoding!r}. Send it uncompressed."
    assert client.post("/size", content=b"ab", headers={"content-encoding": "Identity"}).json() == 2


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_body_up_to_the_limit_is_read_whole(client: TestClient, size: int):
    assert client.post("/size", content=bytes(size)).json() == size
    assert client.post("/size", content=chunks(size)).json() == size


@pytest.mark.parametrize("path", ["/size", "/swallow", "/nowhere-that-reads"])
def test_a_declared_body_over_the_limit_is_413_before_any_of_it_is_read(client: TestClient, path: str):
    response = client.post(path, content=bytes(LIMIT + 1))
    assert response.status_code == 413
    message = f"the body is larger than the limit of {LIMIT} bytes. Send less at once."
    assert response.json()["error"]["message"] == message
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/size", "/swallow"])
def test_a_chunked_body_over_the_limit_is_413_whatever_the_app_makes_of_it(client: TestClient, path: str):
    response = client.post(path, content=chunks(2 * LIMIT))
    assert (response.status_code, response.json()["error"]["type"]) == (413, "too_large")


def test_a_refused_body_takes_no_room(client: TestClient):
    for _ in range(10):
        assert client.post("/size", content=chunks(2 * LIMIT)).status_code == 413
    assert client.post("/size", content=chunks(LIMIT)).json() == LIMIT


def test_bodies_that_together_fill_the_memory_are_429_until_there_is_room_again():
    async def run() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def hold(scope: Scope, receive: Receive, send: Send) -> None:
            await Request(scope, receive).body()
            entered.set()
            await leave.wait()
            await PlainTextResponse("read")(scope, receive, send)

        limited = RequestLimits(hold, max_body_bytes=LIMIT, max_buffered_bytes=LIMIT)
        first = asyncio.ensure_future(call(limited, "/", bytes(LIMIT)))
        await entered.wait()
        refused = await call(limited, "/", b"x")
        assert refused[0]["status"] == 429
        assert (b"retry-after", b"1") in refused[0]["headers"]
        leave.set()
        assert (await first)[0]["status"] == 200
        assert (await call(limited, "/", bytes(LIMIT)))[0]["status"] == 200

    asyncio.run(run())


def test_too_large_that_an_app_raises_itself_is_its_own_affair():
    async def strict(scope: Scope, receive: Receive, send: Send) -> None:
        raise TooLarge("too many pixels.")

    with pytest.raises(TooLarge, match="pixels"):
        asyncio.run(call(RequestLimits(strict, max_body_bytes=LIMIT, max_buffered_bytes=LIMIT), "/"))


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/size", "content-length: 1048576", 413),
        ("/size", "transfer-encoding: chunked", 413),
        ("/size", "content-length: 1048576\r\ncontent-encoding: gzip", 415),
        ("/nowhere", "content-length: 1000\r\ntransfer-encoding: chunked", 400),
        ("/guarded", "content-length: 1048576", 401),
    ],
    ids=["declared", "chunked", "compressed", "both", "without a key"],
)
def test_who_is_refused_gets_to_read_why_although_it_still_sends(path: str, header: str, status: int, tmp_path: Path):
    size = 1 << 20
    is_chunked = "chunked" in header
    sent = b"%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n" if is_chunked else bytes(size)
    settings: dict[str, Any] = {"max_body_bytes": LIMIT if status == 413 else 2 * size}
    if status == 401:
        add_key(tmp_path / "keys.json", "shop")
        settings["api_keys_file"] = tmp_path / "keys.json"
    app = with_edge(make_app(), Settings(**settings), lambda: None)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n\r\n".encode()
    with live(app) as port, connect(port, head) as connection:
        for start in range(0, len(sent), 65536):
            connection.sendall(sent[start : start + 65536])
            time.sleep(0.002)
        found, headers, body = parsed(read_to_end(connection))
    assert (found, headers["connection"]) == (status, "close")
    assert body["error"]["message"]


def chunks(size: int) -> Iterator[bytes]:
    """Return a body of which no header tells the size."""
    return (bytes(min(100, size - start)) for start in range(0, size, 100))
