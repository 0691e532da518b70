"""Lets through what the demo pages need of Gradio and nothing else, with a page's security headers on every answer.

Gradio brings routes that fetch any address (`/gradio_api/file=https://…`, `/proxy=…`), edit code, or wait in a queue
that lives in one process; and its predict route downloads every address given in place of a file's path. The pages
need none of that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import TooLarge
from shared.serving.http.browser import PAGE_HEADERS
from shared.serving.http.requests import check_json, header

MAX_EVENT_BYTES = 1_000_000
"""An event carries a path, kept scores, a message or pasted text: some kilobytes, seldom more."""
_GET = re.compile(
    r"/?|/(config|info|theme\.css|favicon\.ico|manifest\.json|robots\.txt|(assets|static|svelte)/.*)/?"
    r"|/gradio_api/(info|app_id|startup-events|theme\.css|file=(?!\w+:|/?/\w+:).+)/?"
)
_POST = re.compile(r"/gradio_api/(upload|reset|component_server|run/[\w-]+)/?")
_UPLOAD = "/gradio_api/upload"
_EVENT = re.compile(r"/gradio_api/(component_server|run/[\w-]+)/?")


class PageGuard:
    """ASGI middleware: 404 for routes that no page uses, 400 for events that give an address as a file."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        route = path.removeprefix(self.path)
        allowed = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(scope["method"])
        if allowed is None or not allowed.fullmatch(route):
            await _refuse(404, "not_found", "no such page")(scope, receive, send)
        elif scope["method"] == "POST" and _EVENT.fullmatch(route):
            await self._check_event(scope, receive, send)
        elif route.startswith(_UPLOAD):
            # With an upload_id Gradio keeps the progress for ever, for a route that no page uses, and fails if a field
            # is not a file.
            await self.app({**scope, "query_string": b""}, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _check_event(self, scope: Scope, receive: Receive, send: Send) -> None:
        if header(scope, b"content-type").startswith("multipart/"):  # files come through the upload route only
            await _refuse(400, "invalid_request", "an event is JSON")(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if len(body) > MAX_EVENT_BYTES:
                await _refuse(413, "too_large", "the event is too large")(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        try:
            check_json(bytes(body))
        except TooLarge as error:
            await _refuse(413, "too_large", str(error))(scope, receive, send)
            return
        try:
            names_address = any("://" in path or path.startswith("//") for path in _paths(json.loads(body)))
        except (ValueError, RecursionError):
            names_address = True
        if names_address:
            await _refuse(400, "invalid_request", "send a file, not an address")(scope, receive, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self.app(scope, replay, send)


def _paths(value: Any) -> Iterator[str]:
    """Yield the path of each file anywhere in an event."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "path" and isinstance(item, str):
                yield item
            else:
                yield from _paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from _paths(item)


def _refuse(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"type": kind, "message": message}}, status_code=status)


class PageHeaders:
    """ASGI middleware: the headers of a page on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_guarded)
