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
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.serving.http.errors import error_response
from shared.serving.http.requests import CALLER, HEADERS, LEFT, MODEL, REQUEST_ID, TASK, header
from shared.serving.observe import metrics
from shared.serving.observe.logs import RequestLog, trace_id

ModelId = tuple[str, str]
"""Name and version, for the headers X-Model-Name and X-Model-Version."""
OPEN_ROUTES = frozenset({"/livez", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""What orchestrators ask. They need no key, because the answer tells only whether the service answers."""
QUIET_ROUTES = {*OPEN_ROUTES, "/metrics"}
"""What machines ask every few seconds: logged only on failure, and answered however much else is in hand."""
OTHER_ROUTE = "other"
"""Stands for requests that no route answered: a path made up by a client must not be a label of metrics."""
CLIENT_LEFT = 499
"""Status of a request whose client hung up, in log and metrics only; nginx's number for it."""
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
_ids = random.Random()  # for ids, not secrets: the system's source would release the interpreter at each call
_log = logging.getLogger(__name__)


class NamedModel(Protocol):
    """What the headers say of a model."""

    name: str
    version: str


def model_id(*models: NamedModel) -> ModelId:
    """Return name and version of the models, several joined by commas as in any header that lists."""
    return ", ".join(model.name for model in models), ", ".join(model.version for model in models)


def answered_by(request: Request, model: NamedModel) -> None:
    """Have the headers of this answer name only this model, instead of all that the service has."""
    request.scope[MODEL] = model.name, model.version


def add_header(request: Request, name: str, value: str) -> None:
    """Have the answer carry this header too."""
    request.scope.setdefault(HEADERS, []).append((name.lower().encode("latin-1"), value.encode("latin-1")))


@dataclass(eq=False, slots=True)
class Generation:
    """An engine with the number of requests that hold it. Used on the event loop only."""

    engine: Any
    model: ModelId
    in_hand: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.unused.set()


@dataclass(eq=False, slots=True)
class Lease:
    """One request's hold on the engine that it began with, though another may come meanwhile.

    So the answer, the model that its headers name and every step in between are of one engine, which is freed after the
    last such request. `RequestEdge` opens and ends a lease, `Lifecycle` puts the engine into it at the first use.
    """

    held: Generation | None = None
    is_over: bool = False
    """A task that outlives its request holds nothing."""

    def end(self) -> None:
        """Hold nothing any more."""
        self.is_over = True
        generation, self.held = self.held, None
        if generation is not None:
            generation.in_hand -= 1
            if not generation.in_hand:
                generation.unused.set()


LEASE: ContextVar[Lease | None] = ContextVar("lease", default=None)
"""The lease of the request that this task answers; None outside of requests."""


class RequestEdge:
    """Gives each request an id, and writes its log line and metrics; an exception that escapes becomes a 500 here.

    A HEAD is answered as a GET whose body the server then leaves out.

    Args:
        log: where the line of each request goes.
        model: name and version of the model that answers, unless a route called `answered_by`.
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
        lease = Lease()
        LEASE.set(lease)  # not reset: a request has a task of its own, or is followed by one that sets it anew
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                scope.update(inner, method=scope["method"])
                model: ModelId | None = scope.get(MODEL) or self._model()
                own = [(b"x-request-id", request_id.encode()), *_model_headers(model), *scope.get(HEADERS, ())]
                names = {name for name, _ in own}
                others = [each for each in message.get("headers", ()) if each[0].lower() not in names]
                message = {**message, "headers": [*others, *own]}
            await send(message)

        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        metrics.IN_PROGRESS.inc()
        try:
            await self.app(inner, receive, send_with_headers)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except asyncio.CancelledError:
            if LEFT not in scope:
                raise
            status = CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 the last layer: nothing above would answer
            route = getattr(scope.get("route"), "path", "") or OTHER_ROUTE
            metrics.FAULTS.labels(route).inc()
            _log.exception("unexpected exception", extra={"request_id": request_id, "route": route})
            if not status:
                await error_response(error, scope)(scope, receive, send_with_headers)
        finally:
            lease.end()
            metrics.IN_PROGRESS.dec()
            self._record(scope, status or CLIENT_LEFT, time.perf_counter() - start, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "") or OTHER_ROUTE
        method = scope["method"] if scope["method"] in _METHODS else "other"
        count, duration = _counters(method, route, status)
        count.inc()
        duration.observe(seconds)
        if route in QUIET_ROUTES and status < 500:
            return
        milliseconds = round(seconds * 1000, 2)
        fields = {"method": method, "route": route, "status": status, "ms": milliseconds, "request_id": request_id}
        if self._is_traced or header(scope, b"traceparent"):
            trace = trace_id(scope["headers"], is_traced=self._is_traced)
            fields |= {"trace_id": trace} if trace is not None else {}
        caller = scope.get(CALLER)
        if caller is not None:
            fields["key"] = caller.name
        self._log.write(fields, is_error=status >= 400)


@functools.lru_cache(64)
def _model_headers(model: ModelId | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of every answer of a model, except the request id."""
    name, version = model or ("", "")
    named = [(b"x-model-name", name.encode("latin-1")), (b"x-model-version", version.encode("latin-1"))]
    return [(b"x-content-type-options", b"nosniff"), *(named if model else [])]


@functools.lru_cache(1024)
def _counters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return the metrics of one kind of request, of which there are few; finding them takes as long as counting."""
    return metrics.REQUESTS.labels(method, route, status), metrics.REQUEST_SECONDS.labels(route)
