"""The place of a demo page that is built after the API answers: importing Gradio takes seconds.

Until the page is up, its path says so and tells the browser to come back, and requests below it wait: another worker's
page may be up already, and what it loads must not fail here. Without Gradio there is no page (404).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec

from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import NotFound
from shared.serving.http.browser import PAGE_HEADERS
from shared.serving.http.errors import error_response

_WAIT_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<title>Percept</title><body style="font-family:system-ui;display:grid;place-items:center;height:90vh">
<p>The page opens in a moment …</p></body></html>"""
_WAIT_HEADERS = {"retry-after": "1", "cache-control": "no-store"}
_PATIENCE_S = 20.0
"""How long requests below the page wait for it; building takes two seconds, on a busy machine ten."""
_MAX_WAITING = 64
"""A waiting request holds its place and up to half a megabyte of its body; any beyond these are told to come back."""

_log = logging.getLogger(__name__)


def has_gradio() -> bool:
    """Return whether Gradio is installed, without importing it."""
    return find_spec("gradio") is not None


class LatePage:
    """An ASGI app whose content comes later. Mounted at `path`, it passes on whole paths, as if mounted at the root.

    Args:
        path: where it is mounted, such as "/ui".
        is_wanted: False for no page at all.
    """

    def __init__(self, path: str, *, is_wanted: bool) -> None:
        self.path = path
        self.is_wanted = is_wanted
        self._app: ASGIApp | None = None
        self._closing = asyncio.Event()
        self._settled = asyncio.Event()
        """Set once a page is up, none will be, or the server stops: nothing waits any longer."""
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def open(self, build: Callable[[], Starlette]) -> AsyncIterator[None]:
        """Build the page in a thread while the context is open, and take it down at its end."""
        task = asyncio.create_task(self._build(build)) if self.is_wanted else None
        try:
            yield
        finally:
            self._closing.set()
            if task is not None:
                await asyncio.gather(task, return_exceptions=True)
            self._app = None

    async def _build(self, build: Callable[[], Starlette]) -> None:
        try:
            app = await asyncio.to_thread(build)
        except ImportError as error:
            self._give_up()
            _log.warning("there is no demo page: %s", error)
            return
        except Exception:  # noqa: BLE001 a broken page must not take the API down
            self._give_up()
            _log.exception("there is no demo page: it could not be built")
            return
        if self._closing.is_set():  # the server stops before the page was up
            return
        try:
            async with app.router.lifespan_context(app):  # entered and left in one task, as anyio's scopes require
                self._app = app
                self._settled.set()
                _log.info("the demo page is open", extra={"path": self.path})
                await self._closing.wait()
        except Exception:  # noqa: BLE001 likewise
            _log.exception("the demo page failed")
            if self._app is None:
                self._give_up()

    async def _wait(self) -> None:
        """Return when a page is up, none will be, or patience ends."""
        self._waiting += 1
        try:
            await asyncio.wait_for(self._settled.wait(), _PATIENCE_S)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    def _give_up(self) -> None:
        self.is_wanted = False
        self._settled.set()

    def hang_up(self) -> None:
        """Tell every open stream of the page that its browser left: heartbeats would hold up a shutdown for ever."""
        self._settled.set()
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            return
        is_below = not scope["path"].rstrip("/").endswith(self.path)
        if scope["type"] == "http" and self.is_wanted and is_below and self._waiting < _MAX_WAITING:
            await self._wait()
        if self._app is not None:
            # A copy, so that the route in the log stays this mount; a mount shortens the path that its content sees.
            inner = {**scope, "root_path": scope.get("app_root_path", "")}
            await self._app(inner, _until_hung_up(receive, self._closing), send)
        elif scope["type"] == "http" and self.is_wanted:
            response = HTMLResponse(_WAIT_PAGE, 503, {**_WAIT_HEADERS, **PAGE_HEADERS})
            await response(scope, receive, send)
        elif scope["type"] == "http":
            missing = NotFound("there is no demo page here: Gradio is not installed, or the page is switched off.")
            await error_response(missing, scope)(scope, receive, send)


def _until_hung_up(receive: Receive, closing: asyncio.Event) -> Receive:
    async def receive_or_disconnect() -> Message:
        message = asyncio.ensure_future(receive())
        hung_up = asyncio.ensure_future(closing.wait())
        try:
            await asyncio.wait({message, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            hung_up.cancel()

    return receive_or_disconnect
