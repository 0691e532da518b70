"""Who may come in: the layers that see a request before any of its body is read.

From the outside: `RootPath` if a proxy shows the service under a path, Starlette's CORS if pages of other origins may
call it, `Access` if keys are set. A key comes as `Authorization: Bearer …`, which Hugging Face's and OpenAI's clients
send, or as `X-API-Key: …`. A browser has neither: for the page, documentation and metrics it asks its user for a name
and a password, and the password is the key (HTTP Basic). `admin_only` guards the routes that change something.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import Forbidden, RateLimited, Unauthorized
from shared.serving.access.keys import ApiKey, KeyRing, Rates, digest_of
from shared.serving.http.errors import error_response
from shared.serving.http.middleware import OPEN_ROUTES
from shared.serving.http.requests import CALLER, route_path
from shared.serving.observe import metrics
from shared.serving.settings import PREFIX, Settings

HEADER = "X-API-Key"
_ADMIN_VARIABLE = f"{PREFIX}ADMIN_KEY"
AREAS = {"ui": ("/ui",), "docs": ("/docs", "/openapi.json"), "metrics": ("/metrics",)}
"""What browsers open, and a setting can make public -> its paths."""
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
CLIENT_HEADERS = (
    "Authorization",
    "Content-Type",
    HEADER,
    "X-Request-ID",
    "Inference-Header-Content-Length",
    "X-Subject",
    "X-Consent",
    "traceparent",
)
ANSWER_HEADERS = (
    "X-Request-ID",
    "X-Model-Name",
    "X-Model-Version",
    "Retry-After",
    "Inference-Header-Content-Length",
    "X-Truncated-Inputs",
)
_BASIC = {"www-authenticate": 'Basic realm="Percept: any name, and a key as the password", charset="UTF-8"'}
_SAME_SITE = {b"same-origin", b"none"}


class RootPath:
    """Tells the inner layers under which path a proxy shows the service, whether or not the proxy strips it."""

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self.app = app
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path: str = scope["path"]
            if path != self._root and not path.startswith(f"{self._root}/"):
                # As in the ASGI specification since version 2.4: the path is complete and begins with the root path.
                scope["path"] = self._root + path
                scope["raw_path"] = self._root.encode() + (scope.get("raw_path") or path.encode())
            scope["root_path"] = self._root
        await self.app(scope, receive, send)


class Access:
    """Lets requests through that carry a key, and leaves the `ApiKey` in the scope.

    Health needs no key, and neither do preflight requests of browsers, which cannot carry one.

    Args:
        ring: the keys.
        public: those of `AREAS` that need none either.
    """

    def __init__(self, app: ASGIApp, *, ring: KeyRing, public: Collection[str] = ()) -> None:
        self.app = app
        self._ring = ring
        self._rates: Rates | None = None
        self._public = _paths(public)
        self._browsed = _paths(AREAS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no route answers any
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        if path in OPEN_ROUTES or _is_in(path, self._public):
            await self.app(scope, receive, send)
            return
        is_browsed = path == "/" or _is_in(path, self._browsed)
        try:
            scope[CALLER] = self._admit(scope, is_browsed=is_browsed)
        except (Unauthorized, RateLimited) as error:
            headers = _BASIC if is_browsed and isinstance(error, Unauthorized) else None
            await error_response(error, scope, headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope, *, is_browsed: bool) -> ApiKey:
        sent = _sent_key(scope, with_basic=is_browsed)
        if sent is None:
            raise Unauthorized(f"this needs a key. Send it as `Authorization: Bearer …` or `{HEADER}: …`.")
        key = self._ring.find(sent)
        if key is None:
            metrics.KEY_REQUESTS.labels("", "unknown").inc()
            raise Unauthorized("this key is unknown here. Ask whoever runs the service for one.")
        if key.is_expired:
            metrics.KEY_REQUESTS.labels(key.name, "expired").inc()
            raise Unauthorized(
                f"the key {key.name!r} expired after {key.expires}. Ask whoever runs the service for another."
            )
        if key.requests_per_minute is not None:
            self._count(key, key.requests_per_minute)
        metrics.KEY_REQUESTS.labels(key.name, "admitted").inc()
        return key

    def _count(self, key: ApiKey, per_minute: int) -> None:
        if self._rates is None:  # only now: BentoML names the folder once the worker has started
            folder = os.environ.get(metrics.DIRECTORY)
            self._rates = Rates(Path(folder) if folder else None)
        wait_s = self._rates.wait_s(bytes.fromhex(key.sha256), per_minute)
        if wait_s > 0:
            metrics.KEY_REQUESTS.labels(key.name, "rate_limited").inc()
            raise RateLimited(
                f"the key {key.name!r} has used up its {per_minute} requests per minute. Send it again later.",
                retry_after_s=math.ceil(wait_s),
            )


def access_layers(settings: Settings) -> list[tuple[type[Any], dict[str, Any]]]:
    """Return the layers that the settings call for with their options, the outermost first.

    Raises:
        ConfigError: the file of keys cannot be read.
    """
    layers: list[tuple[type[Any], dict[str, Any]]] = []
    if settings.root_path:
        layers.append((RootPath, {"root_path": settings.root_path}))
    if settings.cors_origins:
        options = {
            "allow_origins": settings.cors_origins,
            "allow_methods": METHODS,
            "allow_headers": CLIENT_HEADERS,
            "expose_headers": ANSWER_HEADERS,
        }
        layers.append((CORSMiddleware, options))
    if settings.api_keys_file is not None:
        ring = KeyRing(settings.api_keys_file, settings.admin_key)
        layers.append((Access, {"ring": ring, "public": settings.public}))
    return layers


def _sent_key(scope: Scope, *, with_basic: bool) -> str | None:
    """Return the key that a request carries: as Bearer, in its own header or, for browsers, as Basic."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value)
    scheme, _, credentials = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return _text(credentials.strip())
    if b"x-api-key" in headers:
        return _text(headers[b"x-api-key"].decode("latin-1"))
    # A browser also sends its stored password with requests that other sites make it send.
    is_own = scope["method"] in ("GET", "HEAD") or headers.get(b"sec-fetch-site", b"none") in _SAME_SITE
    if with_basic and is_own and scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode("utf-8", "surrogateescape").partition(":")[2]
        except (binascii.Error, ValueError):
            return None
    return None


def _text(header: str) -> str:
    """Return a header as its sender wrote it: the bytes are UTF-8, and HTTP decodes them as Latin-1."""
    return header.encode("latin-1").decode("utf-8", "surrogateescape")


def _paths(areas: Collection[str]) -> tuple[str, ...]:
    return tuple(path for area in areas for path in AREAS[area])


def _is_in(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def admin_only(settings: Settings) -> Callable[..., None]:
    """Return a FastAPI dependency that lets requests through that carry the admin's key, or a key of that role.

    The key itself is never logged and is in no message.

    Raises:
        Forbidden: the service has no such key, so nobody may; or the key is a user's.
        Unauthorized: the request has no key, or a wrong one.
    """
    # Both are optional: one is enough, and our own message says what is missing.
    bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description=f"The key set by {_ADMIN_VARIABLE}.")
    header = APIKeyHeader(
        name=HEADER, auto_error=False, scheme_name="key", description="The same key, in a header of its own."
    )

    def check(
        request: Request,
        authorization: HTTPAuthorizationCredentials | None = Security(bearer),
        key: str | None = Security(header),
    ) -> None:
        caller: ApiKey | None = request.scope.get(CALLER)
        if caller is not None:  # keys are set, and `Access` let this one in
            if caller.role != "admin":
                raise Forbidden(f"the key {caller.name!r} may not change anything. Send an admin's key.")
            return
        if settings.admin_key is None:
            raise Forbidden(f"this service was started without an admin's key. Set {_ADMIN_VARIABLE} and restart it.")
        given = authorization.credentials if authorization else key
        if given is None:
            raise Unauthorized(f"this needs the admin's key. Send it as `Authorization: Bearer …` or `{HEADER}: …`.")
        if not hmac.compare_digest(digest_of(_text(given)), digest_of(settings.admin_key.get_secret_value())):
            raise Unauthorized("the admin's key is wrong.")

    return check
