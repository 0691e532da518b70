"""One FastAPI app out of the routes of one or several services: what is the same for all stands here.

A service's API is an `APIRouter` over an engine. The app adds health, metrics, Open Inference and the choice of bundles
for every model of the life cycle, documentation and errors, so that two services side by side on one port are a list of
two routers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from inspect import signature
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse

from shared.serving.direct import DirectApi
from shared.serving.docs import DOCS, add_docs
from shared.serving.edge import InferenceErrorBody, error_responses, install_error_handlers
from shared.serving.health import make_health_router
from shared.serving.inference_protocol import make_router
from shared.serving.lifecycle import Alongside, EngineT, Lifecycle
from shared.serving.model_api import make_model_router
from shared.serving.settings import Settings
from shared.serving.swaps import ModelSwaps

_TELEMETRY = {"tracing": False, "metrics": False, "logs": False}
_UNTRACED: dict[str, Any] = {"telemetry": _TELEMETRY} if "telemetry" in signature(FastAPI).parameters else {}
"""Spans are BentoML's affair and metrics ours; FastAPI, from 0.165 on, would look for exporters at each request."""
_INFERENCE_STATUSES = (400, 404, 413, 415, 422, 429, 503, 504)


def make_app(
    lifecycle: Lifecycle[EngineT],
    routers: Sequence[APIRouter],
    settings: Settings,
    *,
    title: str,
    description: str,
    home: str = DOCS,
    alongside: Alongside[EngineT] | None = None,
) -> DirectApi:
    """Return the API as an ASGI app that loads its models when it starts.

    Args:
        lifecycle: holds the engine that the routers answer with.
        routers: the routes of each service.
        settings: which bundles may take the place of those that serve, and whose key it takes; what is closed.
        title: of the documentation.
        description: likewise.
        home: where `/` leads, unless that is the documentation and it is closed.
        alongside: as in `Lifecycle.run`.
    """
    swaps = ModelSwaps(lifecycle, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with lifecycle.run(alongside), swaps.following():
            yield

    app = DirectApi(
        title=title,
        description=description,
        version="1",
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        **_UNTRACED,
    )
    install_error_handlers(app)
    for router in routers:
        app.include_router(router)
    app.take(routers)
    app.include_router(
        make_router(lambda: lifecycle().models),
        responses=error_responses(*_INFERENCE_STATUSES, body=InferenceErrorBody),
    )
    app.include_router(make_model_router(swaps, settings))
    app.include_router(make_health_router(lifecycle.not_ready_reason, has_metrics=settings.metrics))
    if settings.docs:
        add_docs(app)

    if settings.docs or home != DOCS:

        @app.get("/", include_in_schema=False)
        async def root(request: Request) -> RedirectResponse:
            return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}{home}")

    return app
