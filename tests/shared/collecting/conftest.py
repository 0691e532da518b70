"""A server on the loopback whose pages a test writes, and which counts what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

Page = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """Answers GET requests; 404 where there is no page."""

    url: str = ""
    pages: dict[str, Page | Callable[[dict[str, str], dict[str, str]], Page]] = field(default_factory=dict)
    """Path -> status, headers and body, or what makes these of the query and the headers."""
    asked: list[str] = field(default_factory=list)
    """Paths with queries, in their order."""

    def html(self, path: str, body: str, **headers: str) -> None:
        self.pages[path] = 200, {"Content-Type": "text/html; charset=utf-8", **headers}, body.encode()

    def text(self, path: str, body: str, status: int = 200) -> None:
        self.pages[path] = status, {"Content-Type": "text/plain"}, body.encode()


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found.asked.append(self.path)
            page = found.pages.get(parts.path, (404, {}, b"not here"))
            if callable(page):
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                page = page(query, {name.lower(): value for name, value in self.headers.items()})
            status, headers, body = page
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
