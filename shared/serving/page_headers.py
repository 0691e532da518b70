"""Security headers of what browsers show: the demo pages and the documentation.

The policy lets a page load, ask and be framed by its own host alone, so that a script which got into it could send
nothing anywhere. Gradio needs inline scripts and `new Function` for the pages' own code; the documentation needs
neither, and names its one inline script by its hash. Source: W3C Content Security Policy Level 3.
"""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'self'",
}
_FOR_ALL = {
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=(), payment=(), usb=()",
}
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def _headers(scripts: str) -> dict[str, str]:
    policy = _POLICY | {"script-src": f"'self' {scripts}".strip()}
    return {"content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()), **_FOR_ALL}


PAGE_HEADERS = _headers("'unsafe-inline' 'unsafe-eval'")
"""For pages that Gradio draws, and for all that they load."""


def headers_of(html: str) -> dict[str, str]:
    """Return the headers of a page whose inline scripts are those that stand in it, and no others."""
    hashes = [hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(html)]
    return _headers(" ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes))


class PageHeaders:
    """ASGI middleware: the headers of a page on each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_guarded)
