"""One request to an ASGI app, message by message, where a client would hide them."""

from __future__ import annotations

from starlette.types import ASGIApp, Message


async def call(app: ASGIApp, path: str, body: bytes = b"") -> list[Message]:
    """Return what an app sends for one request."""
    sent: list[Message] = []
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return left.pop() if left else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST" if body else "GET", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return sent
