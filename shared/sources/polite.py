"""Pages and APIs over HTTP: one request at a time per host, not too often, again after what passes, never too much."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import httpx

from percept.retry import Retry, retry_after_s
from shared.errors import DataError

AGAIN = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = 5
_TOTAL_S = 120.0
"""The longest time that one answer may take, so that one that trickles ends."""


def _version() -> str:
    try:
        return version("percept")
    except PackageNotFoundError:
        return "dev"


USER_AGENT = f"percept-collect/{_version()}"
"""What robots.txt calls us by, up to the slash."""


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    url: str
    """After redirects."""
    status: int
    headers: Mapping[str, str]
    """By lower-case names."""
    content: bytes


@dataclass
class Visitor:
    """Asks servers politely.

    Args:
        headers: of every request, to the host of the first address alone.
        pause_s: least time between two requests to a host.
        max_bytes: of a body, unpacked; a larger one is an error.
        timeout_s: without a byte.
        retry: when to ask again.
        sleep: waits.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.2
    max_bytes: int = 64 << 20
    timeout_s: float = 30.0
    retry: Retry = field(default_factory=lambda: Retry(attempts=5, base_s=1.0, max_pause_s=30.0, total_s=300.0))
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._client = httpx.Client(timeout=self.timeout_s, follow_redirects=False)
        self._last: dict[str, float] = {}

    def close(self) -> None:
        self._client.close()

    def get(
        self, url: str, parameters: Mapping[str, Any] | None = None, *, accept: str = "*/*", pause_s: float = 0.0
    ) -> Answer:
        """Return the answer, whatever its status, unless asking again may help.

        Args:
            url: http or https.
            parameters: added to its query.
            accept: the media types.
            pause_s: that the host asks for between two requests, where that is more than our own.

        Raises:
            DataError: there was no answer, it is too large, or it stays one of `AGAIN`; says what to do.
        """
        started, failures = time.monotonic(), 0
        while True:
            try:
                answer = self._once(url, parameters, accept, pause_s)
                said = f"answered {answer.status}"
                wait_s = retry_after_s(answer.headers.get("retry-after"))
                if answer.status not in AGAIN:
                    return answer
            except httpx.HTTPError as error:
                said, wait_s = f"gave no answer ({type(error).__name__}: {error})", None
            failures += 1
            spent = time.monotonic() - started
            pause = self.retry.pause_s(failures, spent, wait_s, random.random())
            if pause is None:
                raise DataError(f"{_place(url)} {said}, {failures} times in {spent:.0f} s. Run the command again "
                                "later: it goes on here.")  # fmt: skip
            self.sleep(pause)

    def _once(self, url: str, parameters: Mapping[str, Any] | None, accept: str, pause_s: float) -> Answer:
        first = urlsplit(url)
        try:
            request = self._client.build_request("GET", url, params=parameters or None)
        except httpx.InvalidURL as error:
            raise DataError(f"{url!r} is no address: {error}.") from error
        for _ in range(_REDIRECTS + 1):
            target = request.url
            if target.scheme not in ("http", "https"):
                raise DataError(f"{_place(url)} leads to {target.scheme}: expected http or https.")
            request.headers.update({"User-Agent": USER_AGENT, "Accept": accept, "Accept-Encoding": "gzip"})
            if keeps_secrets(url, str(target)):
                request.headers.update(dict(self.headers))
            self._wait(target.netloc.decode(), max(self.pause_s, pause_s))
            response = self._client.send(request, stream=True)
            try:
                following = response.next_request
                if following is None:
                    content = self._body(response, first.geturl())
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return Answer(str(response.url), response.status_code, headers, content)
                request = self._client.build_request("GET", following.url)
            finally:
                response.close()
        raise DataError(f"{_place(url)} redirects more than {_REDIRECTS} times.")

    def _body(self, response: httpx.Response, url: str) -> bytes:
        started = time.monotonic()
        parts, size = [], 0
        packing = response.headers.get("content-encoding", "identity").strip().lower()
        if packing not in ("identity", "gzip", "x-gzip", ""):
            raise DataError(f"{_place(url)} answered packed as {packing!r}, which nobody asked for; expected gzip.")
        unpacking = zlib.decompressobj(31) if packing.endswith("gzip") else None
        for raw in response.iter_raw():
            try:  # one byte more than is allowed is enough to refuse it, however much there would be
                part = raw if unpacking is None else unpacking.decompress(raw, self.max_bytes - size + 1)
            except zlib.error as error:
                raise DataError(f"{_place(url)} cannot be unpacked: {error}.") from error
            size += len(part)
            if size > self.max_bytes:
                raise DataError(f"{_place(url)} is larger than {self.max_bytes >> 20} MB.")
            if time.monotonic() - started > _TOTAL_S:
                raise DataError(f"{_place(url)} was not whole after {_TOTAL_S:.0f} s.")
            parts.append(part)
        if unpacking is not None and parts and not unpacking.eof:
            raise DataError(f"{_place(url)} ended before it was whole.")
        return b"".join(parts)

    def _wait(self, host: str, pause_s: float) -> None:
        due = self._last.get(host, 0.0) + pause_s - time.monotonic()
        if due > 0:
            self.sleep(due)
        self._last[host] = time.monotonic()


def keeps_secrets(first: str, url: str) -> bool:
    """Whether what was meant for the first address may be sent to another: the same server, and not less safely.

    >>> keeps_secrets("http://a.example/x", "https://a.example/y"), keeps_secrets("https://a.example", "http://a.example")
    (True, False)
    """
    one, other = httpx.URL(first), httpx.URL(url)
    ports = [each.port or {"http": 80, "https": 443}.get(each.scheme) for each in (one, other)]
    is_safer = (one.scheme, other.scheme, *ports) == ("http", "https", 80, 443)
    return one.host == other.host and ((one.scheme == other.scheme and ports[0] == ports[1]) or is_safer)


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
