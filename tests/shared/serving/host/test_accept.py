"""Workers on one port share connections that come at once; what goes wrong at the door is survived."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from shared.serving.host.connection import FairLoop, FairServer, loop_factory

BURST = 40


class Greeter(asyncio.Protocol):
    """Says which process it is, and keeps that process busy for a moment, as an answer would."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        nodelay = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        time.sleep(0.005)
        transport.write(f"{os.getpid()} {nodelay}\n".encode())


def serve(sock: socket.socket, is_up: object) -> None:
    async def run() -> None:
        await asyncio.get_running_loop().create_server(Greeter, sock=sock)
        is_up.set()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=BURST) as sock:
        yield sock


def test_of_a_burst_of_connections_each_worker_takes_its_share(door: socket.socket):
    context = multiprocessing.get_context("fork")
    ups = [context.Event() for _ in range(2)]
    workers = [context.Process(target=serve, args=(door, up), daemon=True) for up in ups]
    for worker in workers:
        worker.start()
    try:
        assert all(up.wait(30) for up in ups)
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(door.getsockname(), timeout=30)) for _ in range(BURST)
            ]
            greetings = [client.recv(100).decode().split() for client in clients]
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    shares = Counter(int(process) for process, _ in greetings)
    assert {worker.pid for worker in workers} == set(shares)
    assert min(shares.values()) >= BURST // 4
    assert {nodelay for _, nodelay in greetings} == {"1"}


class Full:
    """A listening socket for whose connections the system has no room."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self._sock = sock
        self.number = number

    def accept(self) -> tuple[socket.socket, object]:
        raise OSError(self.number, os.strerror(self.number))

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)


def test_without_room_for_another_connection_it_waits_and_goes_on(
    door: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("shared.serving.host.connection._PAUSE_S", 0.05)

    async def run() -> bytes:
        server = await asyncio.get_running_loop().create_server(Greeter, sock=door)
        assert isinstance(server, FairServer)
        server._sock = Full(door, errno.EMFILE)  # type: ignore[assignment]
        reader, writer = await asyncio.open_connection(*door.getsockname())
        await asyncio.sleep(0.02)
        server._sock = door
        greeting = await asyncio.wait_for(reader.readline(), 10)
        server.close()
        server.close()
        await server.wait_closed()
        assert server.sockets == ()
        writer.close()
        return greeting

    with asyncio.Runner(loop_factory=FairLoop) as runner:
        assert runner.run(run()).split()[0] == str(os.getpid()).encode()
    assert "no connection can be accepted" in caplog.text


def test_a_closed_server_answers_503_to_whom_no_other_worker_answers(door: socket.socket):
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(*door.getsockname())
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(1000), 10)
        writer.close()
        return answer

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Greeter, sock=door)
        assert server.is_serving()
        server.close()
        assert not server.is_serving()
        answers = await asyncio.gather(*(ask() for _ in range(20)))
        assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 503 Service Unavailable"}
        assert all(b"connection: close" in answer for answer in answers)
        other = await loop.create_server(Greeter, sock=door)
        assert (await ask()).split()[0] == str(os.getpid()).encode()
        other.close()

    with asyncio.Runner(loop_factory=FairLoop) as runner:
        runner.run(run())
