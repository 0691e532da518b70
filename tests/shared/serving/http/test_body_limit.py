"""No body larger than the limit is read, nor more than the memory holds, and who is refused gets to read why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from shared.errors import TooLarge
from shared.serving.app import with_edge
from shared.serving.http import limits
from shared.serving.http.errors import install_error_handlers
from shared.serving.http.limits import RequestLimits
from shared.serving.settings import Settings
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


def test_the_answer_to_a_refused_upload_ends_only_when_the_rest_was_thrown_away():
    order: list[str] = []
    body = [{"type": "http.request", "body": b"x", "more_body": more} for more in (True, True, False)]

    async def receive() -> Message:
        order.append("received")
        return body[order.count("received") - 1]

    async def send(message: Message) -> None:
        order.append("ended" if message["type"] == "http.response.body" and not message.get("more_body") else "sent")

    asyncio.run(refuse_declared(receive, send))
    assert order == ["sent", "sent", "received", "received", "received", "ended"]


def test_a_client_that_is_refused_and_stays_silent_does_not_hold_the_answer_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "_LINGER_S", 0.01)
    sent: list[Message] = []

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(refuse_declared(never, send), 30))
    assert sent[-1] == {"type": "http.response.body", "body": b""}


async def refuse_declared(receive: Receive, send: Send) -> None:
    async def never_called(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"99999")]}
    await RequestLimits(never_called, max_body_bytes=LIMIT, max_buffered_bytes=LIMIT)(scope, receive, send)


def chunks(size: int) -> Iterator[bytes]:
    """Return a body of which no header tells the size."""
    return (bytes(min(100, size - start)) for start in range(0, size, 100))
