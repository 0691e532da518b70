"""The outermost layer of every request: its id, log line, metrics, model headers, and the last-resort 500.

It also opens the request's lease, which keeps the engine that the request began with until the answer is sent.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.serving.http.errors import REQUEST_ID, error_response, header
from shared.serving.observe import metrics
from shared.serving.observe.logs import RequestLog, trace_id

CALLER = "percept.caller"
"""Key in the ASGI scope: the `ApiKey` of who asks, where keys are set and the route needs one."""
TASK = "percept.task"
"""Key in the ASGI scope: the task that answers the request, where the outermost of our layers left it."""
LEFT = "percept.client_left"
"""Key in the ASGI scope: the client hung up, and the task was cancelled for it."""
OPEN_ROUTES = frozenset({"/livez", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""What orchestrators ask; it tells nothing but whether the service answers."""

ModelId = tuple[str, str]
"""Name and version, for the headers X-Model-Name and X-Model-Version."""
MODEL = "percept.model"
"""Key in the ASGI scope under which `answered_by` leaves a `ModelId`."""
CLIENT_LEFT = 499
"""Status of a request whose client hung up, in log and metrics alone; nginx's number for it."""
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_ids = random.Random()  # for ids, no secrets: the system's source hands the interpreter over at each call
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
QUIET_ROUTES = {*OPEN_ROUTES, "/metrics"}
"""Asked every few seconds by machines: logged only when they fail, and answered however much else is in hand."""

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
        is_traced: whether each request has a span.
    """

    def __init__(
        self, app: ASGIApp, *, log: RequestLog, model: Callable[[], ModelId | None], is_traced: bool = False
    ) -> None:
        self.app = app
        self._log = log
        self._model = model
        self._is_traced = is_traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        given = header(scope, b"x-request-id")
        request_id = given if _SANE_ID.fullmatch(given) else f"{_ids.getrandbits(128):032x}"
        scope[REQUEST_ID] = request_id
        scope[TASK] = asyncio.current_task()
        lease = open_lease()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                model: ModelId | None = scope.get(MODEL) or self._model()
                own = [(b"x-request-id", request_id.encode()), *_model_headers(model)]
                names = {name for name, _ in own}
                others = [each for each in message.get("headers", ()) if each[0].lower() not in names]
                message = {**message, "headers": [*others, *own]}
            await send(message)

        metrics.IN_PROGRESS.inc()
        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except asyncio.CancelledError:
            if LEFT not in scope:
                raise
            status = CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 the last layer: nothing above would answer
            route = _route(scope)
            metrics.FAULTS.labels(route).inc()
            _log.exception("unexpected exception", extra={"request_id": request_id, "route": route})
            if not status:
                await error_response(error, scope)(scope, receive, send_with_headers)
        finally:
            lease.end()
            metrics.IN_PROGRESS.dec()
            self._record(scope, status or CLIENT_LEFT, time.perf_counter() - start, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        count, duration = _counters(method, route, status)
        count.inc()
        duration.observe(seconds)
        if route in QUIET_ROUTES and status < 500:
            return
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "request_id": request_id,
        }
        trace = trace_id(scope["headers"], is_traced=self._is_traced)
        if trace is not None:
            fields["trace_id"] = trace
        caller = scope.get(CALLER)
        if caller is not None:
            fields["key"] = caller.name
        self._log.write(fields, is_error=status >= 400)


@functools.lru_cache(64)
def _model_headers(model: ModelId | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of every answer of a model, without the request's id."""
    name, version = model or ("", "")
    named = [(b"x-model-name", name.encode("latin-1")), (b"x-model-version", version.encode("latin-1"))]
    return [(b"x-content-type-options", b"nosniff"), *(named if model else [])]


@functools.lru_cache(1024)
def _counters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return the metrics of one kind of request, of which there are few; to find them takes as long as to count."""
    return metrics.REQUESTS.labels(method, route, status), metrics.REQUEST_SECONDS.labels(route)


def _route(scope: Scope) -> str:
    """Return the template of the route that answered, or "other": a path that a client makes up is no label."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "other"


class Generation:
    """An engine with the number of requests that hold it. Used on the event loop alone."""

    __slots__ = ("engine", "in_hand", "model", "unused")

    def __init__(self, engine: Any, model: tuple[str, str]) -> None:
        self.engine = engine
        self.model = model
        self.in_hand = 0
        self.unused = asyncio.Event()
        self.unused.set()


class Lease:
    """One request's hold on a generation, or on none yet."""

    __slots__ = ("held", "is_over")

    def __init__(self) -> None:
        self.held: Generation | None = None
        self.is_over = False

    def hold(self, generation: Generation) -> None:
        """Hold it until the end of the request."""
        if self.is_over:  # a task that outlives its request holds nothing
            return
        self.held = generation
        generation.in_hand += 1
        if generation.in_hand == 1:
            generation.unused.clear()

    def end(self) -> None:
        """Hold nothing any more."""
        self.is_over = True
        generation = self.held
        if generation is not None:
            self.held = None
            generation.in_hand -= 1
            if not generation.in_hand:
                generation.unused.set()


_CURRENT: ContextVar[Lease | None] = ContextVar("lease", default=None)


def open_lease() -> Lease:
    """Return the lease of a request that begins now, in this task."""
    lease = Lease()
    _CURRENT.set(lease)  # not reset: a request has a task of its own, or is followed by one that sets it anew
    return lease


def current_lease() -> Lease | None:
    """Return that of the request which this task answers, or None outside of requests."""
    return _CURRENT.get()
