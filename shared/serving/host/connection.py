"""One connection of a worker, and how workers share the connections of their port.

uvicorn reads headers of any size for as long as they take, answers bytes that are not HTTP in plain text, and finishes
a request whose client is gone. `Connection` gives the head of a request a size limit and a time limit, refuses in the
one shape of all errors, and cancels the task of a client that hangs up, so it leaves every queue. This costs a request
a few attributes; timers run only while a head is incomplete.

libuv, below uvloop, accepts all waiting connections before it does anything else. Of 32 that a client or a proxy opens
at once and keeps, one of two workers then gets 26 and the other 6, or 30 and 2, and half of the machine is idle (uvloop
0.23, 2026-11). With `FairLoop` a worker accepts one and then gives the others a moment: a sleeping worker needs that
long to wake up. That still allows a thousand connections per second and worker, more than it can answer.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import uuid
from collections.abc import Callable
from enum import Enum
from typing import Any

import orjson
from uvicorn import config as uvicorn_config
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from shared.serving.host.versions import is_known
from shared.serving.http.requests import LEFT, TASK
from shared.serving.settings import Settings

_UNREAD_BYTES = 256 << 10
"""How much of a body a connection may buffer before reading stops. uvicorn's own 64 KB stop a photo of one
megapixel four times, which takes 0.2 ms more than its bytes do (two cores, uvicorn 0.54, 2026-11)."""


class _Part(Enum):
    """The part of a request that comes next."""

    NONE = 0
    HEAD = 1
    BODY = 2


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over httptools, with limits; `use_connections` sets them for the whole process."""

    max_head_bytes = Settings.model_fields["max_head_bytes"].default
    head_timeout_s = Settings.model_fields["head_timeout_s"].default

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part = _Part.NONE
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._running: RequestResponseCycle | None = None
        self._refusal: tuple[int, str, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Read on. An incomplete head is then counted and timed, and so is the rest of an abandoned body."""
        is_later_part = self._part is _Part.HEAD
        super().data_received(data)
        if self._part is _Part.HEAD:
            self._start_timer()
            if is_later_part:  # what came with the end of another request is counted once the head is complete
                self._head_bytes += len(data)
                if self._head_bytes > self.max_head_bytes and not self.transport.is_closing():
                    self._answer(*self._head_too_large())
        elif self.cycle is None or self.cycle.response_complete:
            self._start_timer()

    def on_message_begin(self) -> None:
        """Start counting the head."""
        self._part = _Part.HEAD
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request, if its head is within the limit."""
        self._part = _Part.BODY
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)  # ": " and CRLF
        if size > self.max_head_bytes:
            self._refusal = self._head_too_large()
            raise ValueError("the head is too large")  # ends the parsing; uvicorn then calls `send_400_response`
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next request."""
        self._part = _Part.NONE
        self._stop_timer()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the work for a client that is gone."""
        super().connection_lost(exc)
        self._stop_timer()
        cycle, self._running = self._running, None
        if cycle is None or cycle.response_complete:
            return
        cycle.disconnected = True  # uvicorn marks only the newest of several sent at once
        cycle.message_event.set()
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        task = scope.get(TASK)
        if task is not None:
            scope[LEFT] = True
            task.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not a request, in the shape of all errors, and hang up."""
        status, kind, message = self._refusal or (400, "invalid_request", f"{msg} Send HTTP/1.1.")
        self._answer(status, kind, message)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _start_timer(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.head_timeout_s, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._part is _Part.HEAD and (self.cycle is None or self.cycle.response_complete):
            message = f"the headers were not there within {self.head_timeout_s:g} s. Send the request again."
            self._answer(408, "timeout", message)
        else:
            self.transport.close()

    def _head_too_large(self) -> tuple[int, str, str]:
        message = f"request line and headers are larger than the limit of {self.max_head_bytes} bytes. Send fewer."
        return 431, "too_large", message

    def _answer(self, status: int, kind: str, message: str) -> None:
        request_id = uuid.uuid4().hex
        body = orjson.dumps({"error": {"type": kind, "message": message, "request_id": request_id}})
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()


def use_connections(settings: Settings) -> None:
    """Have every uvicorn server set up from now on in this process use our connections, if we know its version."""
    if not is_known("uvicorn"):
        return
    httptools_impl.HIGH_WATER_LIMIT = _UNREAD_BYTES  # type: ignore[attr-defined]
    Connection.max_head_bytes = settings.max_head_bytes
    Connection.head_timeout_s = settings.head_timeout_s
    # BentoML leaves the protocol to uvicorn, whose "auto" would be the one over httptools, as ours is.
    uvicorn_config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
    uvicorn_config.LOOP_FACTORIES["auto"] = f"{loop_factory.__module__}:{loop_factory.__name__}"


try:
    from uvloop import Loop as _Base
except ImportError:  # not available for Windows
    from asyncio import SelectorEventLoop as _Base  # type: ignore[assignment]

_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_S = 1.0
"""How long nothing is accepted after the system had no room for a connection; asyncio's own value."""

_LEAVE_S = 0.001
"""How long the other workers get to accept; the shortest time that libuv knows."""

_log = logging.getLogger(__name__)


class FairServer:
    """Accepts connections of a listening socket one at a time; has what uvicorn needs of an asyncio server."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol_factory: Callable[[], asyncio.BaseProtocol], sock: socket.socket
    ) -> None:
        self._loop = loop
        self._factory = protocol_factory
        self._sock = sock
        self._opening: set[asyncio.Task[Any]] = set()
        self._is_open = True
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._accept)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket, as asyncio's servers have it."""
        return (self._sock,) if self._is_open else ()

    def is_serving(self) -> bool:
        """Whether it accepts."""
        return self._is_open

    def close(self) -> None:
        """Accept no more; open connections stay."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._sock.fileno())

    async def wait_closed(self) -> None:
        """Return once every accepted connection has its protocol."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # another worker was faster, or it is gone
            return
        except OSError as error:
            if error.errno not in _FULL:
                raise
            _log.error("no connection can be accepted: %s", error.strerror)
            self._leave(_PAUSE_S)
            return
        self._leave(_LEAVE_S)
        connection.setblocking(False)
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:  # gone before it began
            connection.close()

    def _leave(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._sock.fileno(), self._accept)


class FairLoop(_Base):
    """uvloop's event loop with fair servers on sockets that already exist; servers with TLS stay as they are."""

    async def create_server(self, protocol_factory: Any, *arguments: Any, **options: Any) -> Any:
        """Return a server, as asyncio's loops do."""
        sock = options.get("sock")
        if sock is None or options.get("ssl") is not None:
            return await super().create_server(protocol_factory, *arguments, **options)
        sock.listen(options.get("backlog", 100))
        return FairServer(self, protocol_factory, sock)


def loop_factory(use_subprocess: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:  # noqa: ARG001 uvicorn's
    """Return the class of the loop."""
    return FairLoop
