"""Lets through what the demo pages need of Gradio and nothing else, with a page's security headers on every answer.

Gradio brings routes that fetch any address (`/gradio_api/file=https://…`, `/proxy=…`), edit code, or wait in a queue
that lives in one process; it keeps something for each name of a session, and fails where an event has another shape
than its page sends. So an event is read here, and Gradio gets one that is sure to be of a page, without a session.
Files and the calls of other programs never reach Gradio: `tabs` answers the routes for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import InputError, NotFound, PerceptError, TooLarge
from shared.serving.http.browser import PAGE_HEADERS
from shared.serving.http.errors import error_response
from shared.serving.http.requests import check_json

MAX_EVENT_BYTES = 1_000_000
"""An event carries a path, kept scores, a message or pasted text: some kilobytes, seldom more."""
_GET = re.compile(
    r"/?|/(config|info|theme\.css|favicon\.ico|manifest\.json|robots\.txt|(assets|static|svelte)/[^\0]{1,200})/?"
    r"|/gradio_api/(info|app_id|startup-events|theme\.css|queue/data|file=[\w.]{1,60})/?|/samples/[\w.-]{1,60}"
)
_OURS = ("/gradio_api/upload", "/gradio_api/queue/join")
"""Routes that `tabs` answers itself."""
_EVENT = re.compile(r"/gradio_api/(?:run/predict|(component_server))/?")


class _Event(BaseModel):
    """What Gradio's browser code sends when something happens to a component."""

    model_config = ConfigDict(strict=True)
    fn_index: int
    data: list[str | int | float | bool | None]
    """No part of a page gives more, and in more Gradio would look for files and addresses to fetch."""
    event_data: dict[str, Any] | None = None


class _Call(BaseModel):
    """What it sends when a page calls a function of the server."""

    model_config = ConfigDict(strict=True)
    component_id: int
    fn_name: str
    data: Any = None


class PageGuard:
    """ASGI middleware: 404 for routes that no page uses, 400 for events that no page sends.

    Args:
        app: the pages.
        path: where they are in the service.
        config: as Gradio describes the pages to a browser.
    """

    def __init__(self, app: ASGIApp, path: str, config: Mapping[str, Any]) -> None:
        self.app = app
        self.path = path.rstrip("/")
        events = [each for each in config["dependencies"] if each["backend_fn"] and each["api_visibility"] == "private"]
        self._inputs: dict[int, int] = {each["id"]: len(each["inputs"]) for each in events}
        parts = config["components"]
        self._functions = {part["id"]: set(part["props"].get("server_fns") or ()) for part in parts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        route = path.removeprefix(self.path)
        try:
            if scope["method"] == "POST" and (kind := _EVENT.fullmatch(route)):
                body = await _body(receive)
                if body is None:
                    return  # the browser left
                receive = _replayed(self._checked(body, is_call=kind[1] is not None), receive)
                headers = [(name, value) for name, value in scope["headers"] if name not in _OF_THE_BODY]
                scope = {**scope, "query_string": b"", "headers": [*headers, (b"content-type", b"application/json")]}
            elif not (route in _OURS if scope["method"] == "POST" else _is_shown(scope["method"], route)):
                raise NotFound("no such page")
        except PerceptError as error:
            await error_response(error, scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _checked(self, body: bytes, *, is_call: bool) -> bytes:
        """Return an event as Gradio is to see it.

        Raises:
            TooLarge: it is too large to be read.
            InputError: no page sends such a thing.
        """
        check_json(body)
        try:
            sent = json.loads(body, parse_constant=_refuse_constant)
            event = _Call.model_validate(sent) if is_call else _Event.model_validate(sent)
        except (ValueError, RecursionError) as error:
            raise InputError("this is no event of a page: " + _reason(error)) from error
        if isinstance(event, _Call):
            if event.fn_name not in self._functions.get(event.component_id, ()):
                raise InputError("this is no event of a page: no part of it has such a function.")
            return json.dumps({**event.model_dump(), "session_hash": "page"}).encode()  # one for all: it must have one
        if self._inputs.get(event.fn_index) != len(event.data):
            raise InputError("this is no event of a page: there is none with that number and as much data.")
        return json.dumps({**event.model_dump(), "event_data": event.event_data or {}}).encode()


_OF_THE_BODY = frozenset({b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})


def _is_shown(method: str, route: str) -> bool:
    return method in ("GET", "HEAD") and _GET.fullmatch(route) is not None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    """Return why, without what was sent."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'][:1]) or 'it'}: {first['msg'].lower()}."
    return "it cannot be read as JSON."


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, or None if the browser left before its end.

    Raises:
        TooLarge: it is longer than any event.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_EVENT_BYTES:
            raise TooLarge(f"the event has more than {MAX_EVENT_BYTES} bytes, which is the limit.")
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives this body first."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


_PREVIEW = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^"]*"\s+content="[^"]*"\s*/>')
"""How Gradio describes a page to whoever is sent a link to it: as Gradio's, with a picture from another host."""


class PageHeaders:
    """ASGI middleware: the headers of a page on every answer, and in the page's head what we say of it.

    Args:
        app: the page's.
        path: where the page is.
        head: HTML, in the place of Gradio's own descriptions. Gradio's `head` is added by a script, which whoever shows
            a preview of a link never runs.
    """

    def __init__(self, app: ASGIApp, path: str = "", head: str = "") -> None:
        self.app = app
        self._path = path.rstrip("/")
        self._head = head.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope.get("path", "").removeprefix(scope.get("root_path", "")).rstrip("/")
        is_page = scope["type"] == "http" and scope["method"] == "GET" and route == self._path
        start: Message | None = None
        page = b""

        async def send_guarded(message: Message) -> None:
            nonlocal start, page
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers[name] = value
                if is_page and headers.get("content-type", "").startswith("text/html"):
                    start = message  # its length is known once the page is
                    return
            elif start is not None:
                page += message.get("body", b"")
                if message.get("more_body"):
                    return
                page = _PREVIEW.sub(b"", page).replace(b"<head>", b"<head>" + self._head, 1)
                MutableHeaders(scope=start)["content-length"] = str(len(page))
                await send(start)
                start, message = None, {"type": "http.response.body", "body": page}
            await send(message)

        if is_page:  # compressed, it could not be read on its way
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
        await self.app(scope, receive, send_guarded)
