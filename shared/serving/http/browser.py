"""What browsers get: security headers, and the documentation page at /docs.

The policy lets a page load from, call and be framed by its own host only, so a script that got into it could send
nothing anywhere. Gradio needs inline scripts and `new Function` for the pages' own code; the documentation needs
neither and names its one inline script by its hash. Source: W3C Content Security Policy Level 3.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi_swagger import resources
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

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
"""For pages that Gradio draws, and everything they load."""


def headers_of(html: str) -> dict[str, str]:
    """Return the headers of a page that may run exactly the inline scripts it has now."""
    hashes = [hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(html)]
    return _headers(" ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes))


DOCS = "/docs"
ASSETS = f"{DOCS}/assets"


def add_docs(app: FastAPI) -> None:
    """Add /docs to an app made with `docs_url=None`, with Swagger's files from fastapi-swagger, not a CDN."""
    folder = str(files(resources))

    @app.get(DOCS, include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon-32x32.png",
        )
        page.headers.update(headers_of(bytes(page.body).decode()))
        return page

    app.mount(ASSETS, StaticFiles(directory=folder))
