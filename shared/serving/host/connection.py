"""One connection of a worker, and how workers share the connections of their port.

uvicorn reads headers of any size for as long as they take, answers bytes that are not HTTP in plain text, and finishes
a request whose client is gone. `Connection` gives all of a request that is not its body a size limit and its head a
time limit, refuses in the one shape of all errors, reads past an `Upgrade` to the body, and cancels the task of a
client that hangs up, so it leaves every queue. This costs a request a few attributes; timers run only while a head is
incomplete.

A socket that is closed over unread bytes loses the answer that was written before, so a connection whose client still
sends is first closed for writing, and what comes is dropped for a moment.

libuv, below uvloop, accepts all waiting connections before it does anything else. Of 32 that a client or a proxy opens
at once and keeps, one of two workers then gets 26 and the other 6, or 30 and 2, and half of the machine is idle (uvloop
0.23, 2026-11). With `FairLoop` a worker accepts one and then gives the others a moment: a sleeping worker needs that
long to wake up. That still allows a thousand connections per second and worker, more than it can answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
import uuid
import weakref
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
import orjson
from uvicorn import config as uvicorn_config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.serving.host.versions import is_known
from shared.serving.http.requests import LEFT, TASK
from shared.serving.settings import Settings

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_UNREAD_BYTES = 256 << 10
"""How much of a body a connection may buffer before reading stops. uvicorn's own 64 KB stop a photo of one
megapixel four times, which takes 0.2 ms more than its bytes do (two cores, uvicorn 0.54, 2026-11)."""
_LINGER_S = 2.0
"""How long what a client still sends is dropped after the last answer, so that it can read it; Apache's value."""
_LINGER_BYTES = 256 << 20
"""How much is dropped at most; it takes about a tenth of a second of the CPU."""
_MAX_AHEAD = 64
"""Requests that a client may send before their answers; it can send the others after those."""
_LAST_CALL_S = 0.5
"""How long an open connection may still bring a request once the server ends: one may be on its way."""
_ENDING = "the service is shutting down. Send the request again: another instance answers it."


class _Part(Enum):
    """The part of a request that comes next."""

    NONE = 0
    HEAD = 1
    BODY = 2


class _Transport:
    """A transport whose `close` lets the client read the last answer; the rest is the given transport's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.at_once = transport
        self.write = transport.write
        self.is_sending = False
        """Whether the client may still be sending a request."""
        self.lingers: asyncio.TimerHandle | None = None
        self._loop = loop

    def close(self) -> None:
        if self.is_closing():
            return
        if not self.is_sending:
            self.at_once.close()
            return
        self.lingers = self._loop.call_later(_LINGER_S, self.at_once.close)
        self.at_once.resume_reading()
        if self.at_once.can_write_eof():  # not with TLS
            self.at_once.write_eof()

    def is_closing(self) -> bool:
        return self.lingers is not None or self.at_once.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.at_once, name)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over httptools, with limits; `use_connections` sets them for the whole process."""

    max_head_bytes = Settings.model_fields["max_head_bytes"].default
    head_timeout_s = Settings.model_fields["head_timeout_s"].default
    unread_timeout_s = Settings.model_fields["body_timeout_s"].default
    is_ending = False
    """Whether clients are told to send their next request over another connection."""

    transport: _Transport  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part = _Part.NONE
        self._timer: asyncio.TimerHandle | None = None
        self._received_bytes = 0
        self._extra_bytes = 0
        self._dropped_bytes = 0
        self._is_deaf = False
        self._earlier: list[RequestResponseCycle] = []
        self._refusal: tuple[int, str, str] | None = None

    @classmethod
    def end(cls) -> None:
        """Have every answer from now on be the last of its connection."""
        cls.is_ending = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        super().connection_made(transport)
        self.transport = _Transport(transport, self.loop)
        sock = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT") and sock.family in (socket.AF_INET, socket.AF_INET6):
            # The system then ends a connection whose client takes nothing of its answer for so long.
            milliseconds = math.ceil(self.unread_timeout_s * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Read on. What is no body is counted; an incomplete head is timed, and so is the rest of an abandoned body."""
        if self._is_deaf or self.transport.is_closing():
            self._drop(len(data))
            return
        self._unset_keepalive_if_required()
        self._received_bytes = len(data)
        self._extra_bytes += len(data)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._parse_anew(data, upgrade)
        except httptools.HttpParserError:
            self.send_400_response("what came is not HTTP.")
            return
        if self._part is _Part.HEAD or self.cycle is None or self.cycle.response_complete:
            self._start_timer()
        if self._extra_bytes > self.max_head_bytes:
            self._answer(*self._too_large())

    def _parse_anew(self, data: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Parse a request that offers an upgrade as if it did not, because the parser took its body for the upgrade."""
        while True:
            data = self._head_without_upgrade() + data[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as another:
                upgrade = another

    def _head_without_upgrade(self) -> bytes:
        """Return the head that was parsed last, without the wish for another protocol (RFC 9110, 7.8)."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refusal = 405, "method_not_allowed", "this is no proxy. Send the request itself."
        elif any(name == b"upgrade" and value.lower() == b"websocket" for name, value in self.headers):
            self._refusal = 400, "invalid_request", "there are no websockets here. Send plain HTTP requests."
        if self._refusal is not None:
            raise httptools.HttpParserError
        head = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        head += [b"%s: %s" % header for header in self.headers if header[0] not in (b"upgrade", b"connection")]
        asked = b",".join(value for name, value in self.headers if name == b"connection").lower().split(b",")
        kept = b",".join(each for each in asked if each.strip() != b"upgrade")
        return b"\r\n".join([*head, b"connection: " + kept, b"", b""])

    def on_message_begin(self) -> None:
        """Start counting what is not body."""
        if len(self.pipeline) >= _MAX_AHEAD:
            raise ValueError("too many requests at once")  # ends the parsing
        self._part = _Part.HEAD
        self.transport.is_sending = True
        self._extra_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request, if its head is within the limit."""
        self._stop_timer()
        is_small = not self._extra_bytes and self._received_bytes <= self.max_head_bytes  # all of it came at once
        if not is_small and self._head_bytes() > self.max_head_bytes:
            self._refusal = self._too_large()
            raise ValueError("the head is too large")  # ends the parsing; then comes `send_400_response`
        if self.parser.should_upgrade():
            return
        before = self.cycle
        super().on_headers_complete()
        self._part = _Part.BODY
        self._dropped_bytes = 0
        self.headers = []  # trailers come here, which are no headers of the request
        if self.pipeline:
            self._earlier.append(before)
        if self.is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body for the app, or drop it if the answer was sent."""
        self._extra_bytes -= len(body) + len(body) // 4  # chunks of 24 bytes or more are never too small
        cycle = self.cycle
        if cycle.response_complete:
            self._drop(len(body))
            return
        cycle.body += body
        if len(cycle.body) > _UNREAD_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Expect the next request."""
        if self.parser.should_upgrade():
            return
        self._part = _Part.NONE
        self.transport.is_sending = False
        self._stop_timer()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        if not self.pipeline:
            self._earlier.clear()
            self.flow.resume_reading()  # or nobody would notice that the client hangs up

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the work for a client that is gone."""
        super().connection_lost(exc)
        self._stop_timer()
        if self.transport.lingers is not None:
            self.transport.lingers.cancel()
        self._abandon()

    def shutdown(self) -> None:
        """End after the request in hand; without one, soon."""
        self.is_ending = True
        if self.transport.lingers is not None:
            self.transport.at_once.close()
        elif self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_LAST_CALL_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return
        if self._part is _Part.HEAD:
            self._answer(503, "not_ready", _ENDING)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not a request, in the shape of all errors, and hang up."""
        self._answer(*(self._refusal or (400, "invalid_request", f"{msg} Send HTTP/1.1.")))

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)  # ": " and CRLF

    def _abandon(self) -> None:
        """Cancel the task of the request in hand, which is one of several if they were sent at once."""
        for cycle in (*self._earlier, self.cycle):
            if cycle is None or cycle.response_complete:
                continue
            cycle.disconnected = True  # uvicorn marks only the newest
            cycle.message_event.set()
            scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
            task = scope.get(TASK)
            if task is not None:
                scope[LEFT] = True
                task.cancel()

    def _drop(self, size: int) -> None:
        self._dropped_bytes += size
        if self._dropped_bytes > _LINGER_BYTES:
            self.transport.at_once.close()

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
        if self._part is _Part.HEAD:
            message = f"the headers were not there within {self.head_timeout_s:g} s. Send the request again."
            self._answer(408, "timeout", message)
        else:
            self.transport.at_once.close()

    def _too_large(self) -> tuple[int, str, str]:
        if self._part is _Part.BODY:
            return 431, "too_large", "the chunks are too small, or the trailers too large. Send larger chunks."
        message = f"request line and headers are larger than the limit of {self.max_head_bytes} bytes. Send fewer."
        return 431, "too_large", message

    def _answer(self, status: int, kind: str, message: str) -> None:
        """Answer the request that comes in and hang up, once the requests before it are answered."""
        cycle = self.cycle
        is_new = self._part is not _Part.BODY
        if is_new and cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            self._is_deaf = True
            return
        self.transport.is_sending = True
        if is_new or not (self.pipeline or cycle.response_started):
            self.transport.write(_error(status, kind, message))
        self.transport.close()
        self._abandon()


def _error(status: int, kind: str, message: str) -> bytes:
    """Return an answer that is the last of its connection, in the shape of all errors."""
    request_id = uuid.uuid4().hex
    body = orjson.dumps({"error": {"type": kind, "message": message, "request_id": request_id}})
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
        "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def use_connections(settings: Settings) -> None:
    """Have every uvicorn server set up from now on in this process use our connections, if we know its version."""
    if not is_known("uvicorn"):
        return
    Connection.max_head_bytes = settings.max_head_bytes
    Connection.head_timeout_s = settings.head_timeout_s
    Connection.unread_timeout_s = settings.body_timeout_s
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
_REFUSE_S = 0.1
"""How long the other workers get to accept a connection that a worker which ends would refuse."""
_REFUSED_AT_ONCE = 100

_log = logging.getLogger(__name__)


class _Refusal(asyncio.Protocol):
    """Answers 503 to what comes, and hangs up."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._is_told = False
        asyncio.get_running_loop().call_later(_LINGER_S, transport.close)

    def data_received(self, data: bytes) -> None:
        if not self._is_told:
            self._is_told = True
            self._transport.write(_error(503, "not_ready", _ENDING))
            self._transport.write_eof()


class FairServer:
    """Accepts connections of a listening socket one at a time; has what uvicorn needs of an asyncio server.

    The process that started the workers listens until the last of them has ended, so a worker that ends answers 503 to
    connections that no other takes, for as long as it lives: nobody waits for a server that is going.
    """

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
        """Accept no more for the app; open connections stay."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._sock.fileno())
            self._sock = self._sock.dup()  # uvicorn closes the other
            weakref.finalize(self, self._sock.close)
            self._factory = _Refusal
            self._loop.call_later(_REFUSE_S, self._refuse)

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
        self._start(connection)

    def _refuse(self) -> None:
        with contextlib.suppress(OSError):  # nobody waits any more
            for _ in range(_REFUSED_AT_ONCE):
                self._start(self._sock.accept()[0])
        self._loop.call_later(_REFUSE_S, self._refuse)

    def _start(self, connection: socket.socket) -> None:
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
