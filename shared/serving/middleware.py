"""The layers around every route, plain ASGI: request id, log line, metrics, last-resort errors, and the body limits.

Order from the outside: `RequestEdge`, `BodyLimit`, then BentoML's or FastAPI's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import Overloaded, TooLarge
from shared.serving import metrics
from shared.serving.edge import REQUEST_ID, error_response
from shared.serving.logs import RequestLog
from shared.serving.settings import Settings

ModelId = tuple[str, str]
"""Name and version, for the headers X-Model-Name and X-Model-Version."""
MODEL = "percept.model"
"""Key in the ASGI scope under which `answered_by` leaves a `ModelId`."""
CLIENT_LEFT = 499
"""Status of a request whose client hung up, in log and metrics alone; nginx's number for it."""
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
_QUIET_ROUTES = {"/livez", "/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
"""Asked every few seconds by machines: logged only when they fail."""
_LINGER_S = 2.0
"""How long the rest of a refused upload is thrown away, so that the client gets to read why; nginx's lingering_time."""

_log = logging.getLogger(__name__)


class NamedModel(Protocol):
    """A model as far as headers name it."""

    name: str
    version: str


def model_id(*models: NamedModel) -> ModelId:
    """Return name and version of the models, several joined by commas as in any header that lists."""
    return ", ".join(model.name for model in models), ", ".join(model.version for model in models)


def answered_by(request: Request, *models: NamedModel) -> None:
    """Let the headers of this answer name these models alone; without it they name all that the service has."""
    request.scope[MODEL] = model_id(*models)


class RequestEdge:
    """Gives each request an id, and writes its log line and metrics; an exception that escapes becomes a 500 here.

    Args:
        log: where the line of each request goes.
        model: name and version of the model that answers, unless a route left another under `MODEL` in the scope.
    """

    def __init__(self, app: ASGIApp, *, log: RequestLog, model: Callable[[], ModelId | None]) -> None:
        self.app = app
        self._log = log
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        scope[REQUEST_ID] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                model: ModelId | None = scope.get(MODEL) or self._model()
                if model is not None:
                    headers["x-model-name"], headers["x-model-version"] = model
            await send(message)

        metrics.IN_PROGRESS.inc()
        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 the last layer: nothing above would answer
            route = _route(scope)
            metrics.FAULTS.labels(route).inc()
            _log.exception("unexpected exception", extra={"request_id": request_id, "route": route})
            if not status:
                await error_response(error, scope)(scope, receive, send_with_headers)
        finally:
            metrics.IN_PROGRESS.dec()
            self._record(scope, status or CLIENT_LEFT, time.perf_counter() - start, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.REQUESTS.labels(method, route, status).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
        if route in _QUIET_ROUTES and status < 500:
            return
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "request_id": request_id,
        }
        self._log.write(fields, is_error=status >= 400)


def _route(scope: Scope) -> str:
    """Return the template of the route that answered, or "other": a path that a client makes up is no label."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "other"


class BodyLimit:
    """Refuses a body that is too large as soon as that is known, and any while all together fill the memory.

    A body whose Content-Length says too much is refused unread; one that is sent in chunks, once the limit is passed.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_buffered_bytes: int) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            await self._refuse(self._too_large(), scope, receive, send, is_read=False)
            return
        body_bytes = 0
        is_read = False
        refusal: TooLarge | Overloaded | None = None
        has_started = False

        async def receive_counted() -> Message:
            nonlocal body_bytes, is_read, refusal
            message = await receive()
            if message["type"] == "http.request":
                is_read = not message.get("more_body", False)
                size = len(message.get("body", b""))
                body_bytes += size
                self._buffered_bytes += size
                if body_bytes > self._max_body_bytes:
                    refusal = self._too_large()
                elif self._buffered_bytes > self._max_buffered_bytes:
                    refusal = Overloaded("the service has as many bytes in hand as it may hold. Send it again later.")
                if refusal is not None:
                    raise refusal
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal has_started
            if refusal is None or has_started:
                has_started = True
                await send(message)

        try:
            await self.app(scope, receive_counted, send_unless_refused)
        except (TooLarge, Overloaded):
            if refusal is None:
                raise
        except Exception:
            if refusal is None or has_started:
                raise
        finally:
            self._buffered_bytes -= body_bytes
        # Whatever a layer in between made of the refusal (FastAPI turns it into a 400), this is the answer.
        if refusal is not None and not has_started:
            await self._refuse(refusal, scope, receive, send, is_read=is_read)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than the limit of {self._max_body_bytes} bytes. Send less at once.")

    async def _refuse(
        self, error: TooLarge | Overloaded, scope: Scope, receive: Receive, send: Send, *, is_read: bool
    ) -> None:
        """Answer, then throw away for a moment what still comes: a socket closed over unread bytes loses the answer."""

        async def send_and_linger(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_read or not is_last:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _discard(receive)
            await send({"type": "http.response.body", "body": b""})

        response = error_response(error, scope, {"connection": "close"})
        await response(scope, receive, send_and_linger)


def edge_layers(settings: Settings, model: Callable[[], ModelId | None]) -> list[tuple[type[Any], dict[str, Any]]]:
    """Return the layers with their options, the outermost first."""
    return [
        (RequestEdge, {"log": RequestLog(settings.log_lines_per_s), "model": model}),
        (BodyLimit, {"max_body_bytes": settings.max_body_bytes, "max_buffered_bytes": settings.max_buffered_bytes}),
    ]


def with_edge(app: ASGIApp, settings: Settings, model: Callable[[], ModelId | None]) -> ASGIApp:
    """Return an app in these layers, as a worker serves it."""
    for layer, options in reversed(edge_layers(settings, model)):
        app = layer(app, **options)
    return app


async def _discard(receive: Receive) -> None:
    # The time bounds the waiting too: a client that sends no more and stays would hold a shutdown up.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body", False):
                pass
