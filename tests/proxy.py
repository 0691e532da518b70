"""A reverse proxy that shows a service under a path, as nginx does: with the path taken off, or left on."""

from __future__ import annotations

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
OF_ONE_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


def make_proxy(service: str, prefix: str, *, takes_off: bool) -> Starlette:
    """Return the proxy. It knows nothing outside of the prefix, so that an address without it is seen to be wrong."""

    async def forward(request: Request) -> Response:
        path = request.scope["raw_path"].decode()
        headers = [(name, value) for name, value in request.headers.items() if name not in OF_ONE_HOP]
        async with httpx.AsyncClient(base_url=service, trust_env=False, timeout=60) as client:
            answer = await client.request(
                request.method,
                path.removeprefix(prefix) if takes_off else path,
                params=request.url.query.encode() or None,
                headers=headers,
                content=await request.body(),
            )
        passed = {
            name: value for name, value in answer.headers.items() if name not in {*OF_ONE_HOP, "content-encoding"}
        }
        return Response(answer.content, answer.status_code, passed)

    return Starlette(routes=[Route(f"{prefix}/{{path:path}}", forward, methods=METHODS)])
