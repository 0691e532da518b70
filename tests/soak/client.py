"""A small HTTP client that knows its own port, so that a lost request can be laid to the process that had it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path


class Lost(Exception):
    """The connection ended before the answer did."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, kept for as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.port = 0
        """Of this side of the connection; 0 while there is none."""

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Send a request and return its answer.

        Raises:
            Lost: the connection was refused or ended.
        """
        try:
            reader, writer = await self._connected()
            writer.write(head(method, path, len(body), headers) + body)
            await writer.drain()
            reply = await _read(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Lost(repr(error)) from error
        if reply.headers.get("connection") == "close":
            self.close()
        return reply

    async def hang_up_after(self, method: str, path: str, body: bytes, sent: int, **headers: str) -> None:
        """Send so many bytes of a request and hang up, on a connection of its own."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            try:
                writer.write((head(method, path, len(body), headers) + body)[:sent])
                await writer.drain()
                await asyncio.sleep(0.002)
            finally:
                writer.transport.abort()

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await asyncio.sleep(0)
        if self._streams is not None and self._streams[0].at_eof():  # closed while nothing was asked, as servers may
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._server_port)
            self.port = self._streams[1].get_extra_info("sockname")[1]
        return self._streams


def head(method: str, path: str, length: int, headers: dict[str, str]) -> bytes:
    """Return a request's head."""
    lines = [f"{method} {path} HTTP/1.1", "host: soak", f"content-length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def _read(reader: asyncio.StreamReader) -> Reply:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Reply(int(first.split()[1]), headers, body)


def ports_of(pid: int) -> set[int]:
    """Return the ports of the clients whose connections a process holds; nothing where it is gone."""
    try:
        own = {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return set()
    return {int(line.split()[2].partition(":")[2], 16) for line in lines if f"socket:[{line.split()[9]}]" in own}


def children(pid: int) -> list[int]:
    """Return a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory_mb(pid: int) -> float | None:
    """Return a process's resident memory; None where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(sizes[0]) / 1024 if sizes else None
