"""A page that is built later: until it stands its path says so, and whatever becomes of it, the API answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import Message

from shared.serving.page.late import LatePage
from tests.shared.serving.requests import call


class Builder:
    """Builds a page that tells the path it was asked for; waits for `go`, fails with `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = threading.Event()
        self.error = error
        self.happened: list[str] = []

    def __call__(self) -> Starlette:
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.happened.append("started")
            yield
            self.happened.append("stopped")

        async def tell(request: Request) -> JSONResponse:
            return JSONResponse({"path": request.url.path})

        return Starlette(routes=[Route("/{rest:path}", tell)], lifespan=lifespan)


def with_page(use: Callable[[LatePage, Builder], Awaitable[None]], builder: Builder, *, is_wanted: bool = True) -> None:
    async def run() -> None:
        page = LatePage("/ui", is_wanted=is_wanted)
        async with page.open(builder):
            await use(page, builder)

    try:
        asyncio.run(run())
    finally:
        builder.go.set()


async def get(page: LatePage, path: str = "/ui/") -> tuple[int, bytes, dict[str, str]]:
    start, *rest = await call(Starlette(routes=[Mount("/ui", page)]), path)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], b"".join(message.get("body", b"") for message in rest), headers


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0)


def test_until_the_page_stands_its_path_asks_to_come_back():
    async def use(page: LatePage, builder: Builder) -> None:
        status, body, headers = await get(page)
        assert (status, headers["retry-after"], headers["cache-control"]) == (503, "1", "no-store")
        assert b'http-equiv="refresh"' in body
        builder.go.set()

    with_page(use, Builder())


def test_what_a_page_loads_waits_until_it_stands():
    async def use(page: LatePage, builder: Builder) -> None:
        asked = asyncio.create_task(get(page, "/ui/assets/index.js"))
        assert (await get(page))[0] == 503
        assert not asked.done()
        builder.go.set()
        status, body, _ = await asked
        assert (status, json.loads(body)) == (200, {"path": "/ui/assets/index.js"})

    with_page(use, Builder())


def test_what_waits_for_a_page_is_told_when_there_will_be_none():
    async def use(page: LatePage, builder: Builder) -> None:
        asked = asyncio.create_task(get(page, "/ui/assets/index.js"))
        await asyncio.sleep(0)
        builder.go.set()
        assert (await asked)[0] == 404

    with_page(use, Builder(RuntimeError("broken page")))


def test_what_waits_for_a_page_does_not_hold_up_a_shutdown():
    async def use(page: LatePage, builder: Builder) -> None:
        asked = asyncio.create_task(get(page, "/ui/assets/index.js"))
        await asyncio.sleep(0)
        page.hang_up()
        assert (await asked)[0] == 503
        builder.go.set()

    with_page(use, Builder())


def test_what_waits_for_a_page_waits_no_longer_than_it_has_patience(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.serving.page.late._PATIENCE_S", 0.01)

    async def use(page: LatePage, builder: Builder) -> None:
        assert (await get(page, "/ui/assets/index.js"))[0] == 503
        builder.go.set()

    with_page(use, Builder())


def test_only_so_many_wait_for_a_page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.serving.page.late._MAX_WAITING", 2)

    async def use(page: LatePage, builder: Builder) -> None:
        waiting = [asyncio.create_task(get(page, "/ui/assets/index.js")) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await get(page, "/ui/assets/index.js"))[0] == 503
        builder.go.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200, 200]
        assert (await get(page, "/ui/assets/index.js"))[0] == 200

    with_page(use, Builder())


def test_a_page_that_cannot_start_is_404_for_who_waits():
    class Broken(Builder):
        def __call__(self) -> Starlette:
            page = super().__call__()

            @contextlib.asynccontextmanager
            async def lifespan(_: Starlette) -> AsyncIterator[None]:
                raise RuntimeError("broken start")
                yield

            page.router.lifespan_context = lifespan
            return page

    async def use(page: LatePage, builder: Builder) -> None:
        asked = asyncio.create_task(get(page, "/ui/assets/index.js"))
        await asyncio.sleep(0)
        builder.go.set()
        assert (await asked)[0] == 404
        assert (await get(page))[0] == 404

    with_page(use, Broken())


def test_when_the_page_stands_it_sees_whole_paths_and_is_taken_down_at_the_end():
    builder = Builder()
    builder.go.set()

    async def use(page: LatePage, builder: Builder) -> None:
        await until(lambda: page._app is not None)
        status, body, _ = await get(page, "/ui/deep/down")
        assert (status, json.loads(body)) == (200, {"path": "/ui/deep/down"})
        assert builder.happened == ["started"]

    with_page(use, builder)
    assert builder.happened == ["started", "stopped"]


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'gradio'"), RuntimeError("broken page")])
def test_a_page_that_cannot_be_built_is_404_in_json(error: Exception):
    builder = Builder(error)
    builder.go.set()

    async def use(page: LatePage, _: Builder) -> None:
        await until(lambda: not page.is_wanted)
        status, body, _ = await get(page)
        assert status == 404
        assert json.loads(body)["error"]["type"] == "not_found"

    with_page(use, builder)


def test_a_page_that_is_not_wanted_is_404_and_never_built():
    async def use(page: LatePage, builder: Builder) -> None:
        assert (await get(page))[0] == 404
        assert not builder.go.is_set()

    with_page(use, Builder(AssertionError()), is_wanted=False)


def test_a_worker_that_stops_while_the_page_is_built_ends_in_good_order():
    builder = Builder()

    async def use(_: LatePage, builder: Builder) -> None:
        builder.go.set()

    with_page(use, builder)
    assert builder.happened in ([], ["started", "stopped"])


def test_hanging_up_ends_a_stream_that_would_never_end_by_itself():
    async def use(page: LatePage, builder: Builder) -> None:
        received: list[Message] = []

        async def stream(scope: Any, receive: Any, send: Any) -> None:
            received.append(await receive())
            received.append(await receive())

        first: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if first:
                return first.pop()
            page.hang_up()
            await asyncio.Event().wait()
            raise AssertionError

        page._app = stream
        async with asyncio.timeout(30):
            await page({"type": "http", "path": "/ui/heartbeat"}, receive, receive)
        assert [message["type"] for message in received] == ["http.request", "http.disconnect"]

    with_page(use, Builder(), is_wanted=False)
