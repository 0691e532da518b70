"""The page alone, for the browser tests: uvicorn starts `create` in each of its workers."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.bundle.read import read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.serving.settings import Settings
from vision.demo import mount_page
from vision.engine import TaggingEngine

WORKER_HEADER = "x-worker"


class NamesItsWorker:
    """Says in every response which process answered, and hangs up, so that the next request may meet another one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[WORKER_HEADER] = str(os.getpid())
                headers["connection"] = "close"
            await send(message)

        await self.app(scope, receive, send_named)


def create() -> Starlette:
    """Return the page of the bundle that PAGE_BUNDLE names."""
    bundle = read_bundle(Path(os.environ["PAGE_BUNDLE"]))
    app = mount_page(TaggingEngine(bundle, OnnxRuntime(bundle), Settings(max_body_bytes=200_000)))
    app.add_middleware(NamesItsWorker)
    return app
