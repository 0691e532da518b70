"""Workers that share a port share its connections too: each takes one at a time, so that the busier one takes fewer.

libuv, below uvloop, accepts all connections that wait before it does anything else. Of 32 that a client or a proxy
opens at once and keeps, one of two workers then gets 26 and the other 6, or 30 and 2, and half of a machine idles
(uvloop 0.23, 2026-11). Here a worker accepts one and leaves the door to the others for a moment: a worker that slept
needs that long to come. It is a thousand connections a second and worker, more than it can answer.

Neighbours: `connection.use_connections` has uvicorn take this loop; it hands over the socket that all workers inherit.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

try:
    from uvloop import Loop as _Base
except ImportError:  # there is none for Windows
    from asyncio import SelectorEventLoop as _Base  # type: ignore[assignment]

_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_S = 1.0
"""How long nothing is accepted after the system had no room for another connection; asyncio's own value."""

_LEAVE_S = 0.001
"""How long the door is left to the others; the shortest time that libuv knows."""

_log = logging.getLogger(__name__)


class FairServer:
    """Accepts connections of a listening socket one at a time; what uvicorn asks of an asyncio server, and no more."""

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
        """The one that it listens on, as asyncio's servers have it."""
        return (self._sock,) if self._is_open else ()

    def is_serving(self) -> bool:
        """Whether it accepts."""
        return self._is_open

    def close(self) -> None:
        """Accept no more; connections that there are stay."""
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
        except OSError:  # it was gone before it began
            connection.close()

    def _leave(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._sock.fileno(), self._accept)


class FairLoop(_Base):
    """uvloop's event loop, whose servers on a socket that is there already are fair ones; those with TLS are not."""

    async def create_server(self, protocol_factory: Any, *arguments: Any, **options: Any) -> Any:
        """Return a server, as asyncio's loops do."""
        sock = options.get("sock")
        if sock is None or options.get("ssl") is not None:
            return await super().create_server(protocol_factory, *arguments, **options)
        sock.listen(options.get("backlog", 100))
        return FairServer(self, protocol_factory, sock)


def loop_factory(use_subprocess: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:  # noqa: ARG001 uvicorn's
    """Return what makes the loop."""
    return FairLoop
