"""An ASGI app on a real socket in this process, in the connections that a worker has, so that tests see both sides."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from shared.serving.host.connection import Connection

PATIENCE_S = 20


@contextmanager
def live(
    app: ASGIApp,
    *,
    max_head_bytes: int = 4096,
    head_timeout_s: float = 10.0,
    unread_timeout_s: float = 30.0,
    made: list[type[Connection]] | None = None,
) -> Iterator[int]:
    """Serve an app, with its lifespan, and give the port; `made` gets the class of its connections."""
    limits = {"max_head_bytes": max_head_bytes, "head_timeout_s": head_timeout_s, "unread_timeout_s": unread_timeout_s}
    of_its_own = {"is_ending": False}  # a service of another test may have ended
    protocol: type[Connection] = type("LimitedConnection", (Connection,), {**limits, **of_its_own})
    if made is not None:
        made.append(protocol)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=protocol, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return as soon as it is so."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def connect(port: int, *parts: bytes) -> socket.socket:
    """Return a connection on which these bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    for part in parts:
        connection.sendall(part)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Return all that comes until the other side hangs up, and close the connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def parsed(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and JSON of one answer with a body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return a request as it is sent; `length` for one that says that it is longer than it is."""
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
