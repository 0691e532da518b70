"""What a break-in would touch: an address that counts who fetches it, a pickle that leaves a file, and open sockets."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LISTEN = "0A"
"""State of a socket in /proc/net/tcp; source: include/net/tcp_states.h of Linux."""


@dataclass
class Canary:
    """An address of this machine."""

    url: str
    hits: list[str] = field(default_factory=list)
    """What was fetched."""


@contextmanager
def canary() -> Iterator[Canary]:
    """Listen for whoever fetches the address."""
    found = Canary("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.hits.append(f"{self.command} {self.path} {self.headers.get('user-agent')}")
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 what the base class looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}/canary.png"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


class _Touch:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def pickled(path: Path) -> bytes:
    """Return a pickle that makes this file when it is loaded."""
    return pickle.dumps(_Touch(path))


def listening(pids: Sequence[int]) -> set[tuple[str, str, int]]:
    """Return protocol, address (in hexadecimal, as the kernel writes it) and port of what these processes listen on.

    A Unix socket that has a name, in the file system or not, stands with the name as its address.
    """
    found: set[tuple[str, str, int]] = set()
    for pid in pids:
        own = {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
        for protocol in ("tcp", "tcp6", "udp", "udp6"):
            table = Path(f"/proc/{pid}/net/{protocol}")
            for line in table.read_text().splitlines()[1:] if table.exists() else ():
                _, local, _, state, *_, inode = line.split()[:10]
                if f"socket:[{inode}]" in own and (state == LISTEN or protocol.startswith("udp")):
                    address, _, port = local.partition(":")
                    found.add((protocol, address, int(port, 16)))
        for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
            fields = line.split()
            if len(fields) > 7 and f"socket:[{fields[6]}]" in own:
                found.add(("unix", fields[7], 0))
    return found
