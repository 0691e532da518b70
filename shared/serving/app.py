"""The FastAPI app of a service: its routers, plus what every service has.

`make_app` adds health, metrics, Open Inference, the choice of bundles, documentation and error handling, so a service
with several engines is just a list of routers. `edge_layers` are the ASGI layers around every route.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from inspect import signature
from typing import Any

from fastapi import APIRouter, FastAPI, params
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.serving.access.policy import access_layers
from shared.serving.http.browser import DOCS, add_docs
from shared.serving.http.errors import (
    InferenceErrorBody,
    error_response,
    error_responses,
    install_error_handlers,
    is_expected,
)
from shared.serving.http.limits import RequestLimits
from shared.serving.http.middleware import QUIET_ROUTES, ModelId, RequestEdge
from shared.serving.http.requests import route_path
from shared.serving.lifecycle.engine import EngineT, Lifecycle
from shared.serving.lifecycle.routes import make_health_router, make_model_router
from shared.serving.lifecycle.swaps import ModelSwaps
from shared.serving.observe.logs import RequestLog
from shared.serving.open_inference import make_router
from shared.serving.recording.notes import Recording, check_records, recorder_of
from shared.serving.recording.quality import make_quality_router
from shared.serving.recording.review import PAGE as REVIEW_PAGE
from shared.serving.recording.review import make_review_router
from shared.serving.recording.routes import make_records_router
from shared.serving.settings import Settings

_TELEMETRY = {"tracing": False, "metrics": False, "logs": False}
_UNTRACED: dict[str, Any] = {"telemetry": _TELEMETRY} if "telemetry" in signature(FastAPI).parameters else {}
"""BentoML makes the spans and we the metrics; FastAPI, from 0.165 on, would look for exporters at each request."""
_INFERENCE_STATUSES = (400, 404, 413, 415, 422, 429, 503, 504)


def make_app(
    lifecycle: Lifecycle[EngineT],
    routers: Sequence[APIRouter],
    settings: Settings,
    *,
    title: str,
    description: str,
    home: str = DOCS,
    alongside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> DirectApi:
    """Return the API as an ASGI app that loads its models when it starts.

    Args:
        lifecycle: holds the engine that the routers answer with.
        routers: the routes of each service.
        settings: what is served besides them, and who may replace bundles.
        title: of the documentation.
        description: of the documentation.
        home: where `/` leads, unless it is the documentation and that is switched off.
        alongside: makes a context that needs a loaded engine, such as the demo page's; entered last and left first.
    """
    swaps = ModelSwaps(lifecycle, settings)
    recorder = recorder_of(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        recording = recorder.running() if recorder is not None else nullcontext()
        async with recording, lifecycle.run(), alongside(), swaps.following():
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
    app.include_router(make_records_router(settings))
    app.include_router(make_quality_router(settings))
    app.include_router(make_review_router(settings, lambda: lifecycle().models))
    app.include_router(make_model_router(swaps, settings))
    app.include_router(make_health_router(lifecycle.not_ready_reason, has_metrics=settings.metrics))
    if settings.docs:
        add_docs(app)

    if settings.docs or home != DOCS:

        @app.get("/", include_in_schema=False)
        async def root(request: Request) -> RedirectResponse:
            return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}{home}")

    return app


Layers = list[tuple[type[Any], dict[str, Any]]]
"""ASGI layers with their options, the outermost first."""
_JSON = (b"content-type", b"application/json")


class DirectApi(FastAPI):
    """FastAPI whose busiest routes are found in a dictionary instead of being tried one after the other.

    FastAPI matches a request against route after route and prepares dependencies, exit stacks and telemetry for each; a
    route that takes the raw request needs none of that. It was a third of the time that an answer took outside of the
    model and the socket (FastAPI 0.165, Starlette 1.3, 2026-11). Such routes are answered here, with the same bodies,
    errors and documentation; all others, and requests that are unusual in any way, go FastAPI's way.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._direct: dict[str, _DirectRoute] = {}

    @property
    def direct_paths(self) -> list[str]:
        """The paths that are answered directly."""
        return list(self._direct)

    def take(self, routers: Iterable[APIRouter]) -> None:
        """Answer the routes of these routers directly if possible: `POST` with the raw request and optional queries.

        Call it once all routes are there: if two have the same path, the first answers, as in FastAPI.
        """
        assert not self.router.dependencies, "only FastAPI resolves the dependencies of all routes"
        earlier: list[APIRoute] = []
        for route in (route for router in routers for route in router.routes):
            if isinstance(route, APIRoute) and "POST" in (route.methods or ()):
                is_first = not any(other.path_regex.match(route.path) for other in earlier)
                if is_first and _can_be_direct(route):
                    self._direct[route.path] = _DirectRoute(route)
                earlier.append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and not self.user_middleware and not self.root_path:
            route = self._direct.get(route_path(scope))
            if route is not None and not (scope["query_string"] and route.defaults):
                scope["app"] = self
                await route(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class _DirectRoute:
    def __init__(self, route: APIRoute) -> None:
        self.route = route
        self.endpoint: Callable[..., Awaitable[Any]] = route.endpoint
        self.defaults = _defaults(route.endpoint)
        self._adapter: TypeAdapter[Any] = TypeAdapter(route.response_model)
        self._excludes_none = route.response_model_exclude_none

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self.route
        scope["path_params"] = {}
        try:
            answer = await self.endpoint(Request(scope, receive), **self.defaults)
            body = None
            if not isinstance(answer, Response):
                body = self._adapter.dump_json(answer, by_alias=True, exclude_none=self._excludes_none)
        except ClientDisconnect:
            raise
        except Exception as error:
            await error_response(error, scope)(scope, receive, send)  # here, within the layers that add headers
            if not is_expected(error):
                raise  # `RequestEdge` logs it
            return
        if body is None:
            await answer(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(body)), _JSON]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _can_be_direct(route: APIRoute) -> bool:
    parameters = list(inspect.signature(route.endpoint).parameters.values())
    return (
        route.methods == {"POST"}
        and "{" not in route.path
        and [each.name for each in parameters[:1]] == ["request"]
        and all(isinstance(each.default, params.Query) for each in parameters[1:])
        and not any(each.default.is_required() for each in parameters[1:])
        and inspect.iscoroutinefunction(route.endpoint)
        and not route.dependencies
        and route.status_code in (None, 200)
        and route.response_model is not None
        and isinstance(route.response_class, DefaultPlaceholder)
        and route.response_model_by_alias
        and not (route.response_model_exclude_unset or route.response_model_exclude_defaults)
        and route.response_model_include is None
        and route.response_model_exclude is None
    )


def _defaults(endpoint: Callable[..., Any]) -> dict[str, Any]:
    """Return the values of a route's queries for a request that has none."""
    others = list(inspect.signature(endpoint).parameters.values())[1:]
    return {each.name: each.default.get_default(call_default_factory=True) for each in others}


def edge_layers(settings: Settings, model: Callable[[], ModelId | None]) -> Layers:
    """Return the layers with their options, the outermost first.

    Raises:
        ConfigError: the file of keys cannot be read, or what records need is not installed.
    """
    log = RequestLog(settings.log_lines_per_s)
    limits = {
        "max_in_flight": settings.max_in_flight,
        "always": QUIET_ROUTES,
        "max_body_bytes": settings.max_body_bytes,
        "max_buffered_bytes": settings.max_buffered_bytes,
        "timeout_s": settings.body_timeout_s,
    }
    check_records(settings)
    recorder = recorder_of(settings)
    return [
        (RequestEdge, {"log": log, "model": model, "is_traced": settings.otlp_endpoint is not None}),
        *access_layers(settings),
        (RequestLimits, limits),
        *([(Recording, {"recorder": recorder})] if recorder is not None else []),
    ]


def with_edge(app: ASGIApp, settings: Settings, model: Callable[[], ModelId | None]) -> ASGIApp:
    """Return an app in these layers, as a worker serves it."""
    for layer, options in reversed(edge_layers(settings, model)):
        app = layer(app, **options)
    return app


class ApiFirst:
    """The innermost layer: hands a request straight to the API that is mounted at "/".

    Requests for a `@bentoml.api` method, its schema or another mounted app go through BentoML's six further layers,
    which took 35 us of the 115 that an answer took outside of the model and the socket (Starlette 1.3, BentoML 1.4.39,
    2026-11).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._api: ASGIApp = app
        self._own: frozenset[str] | None = None
        self._mounted: tuple[str, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._own is None:
            self._look_at(scope["app"].router.routes)
        path = route_path(scope)
        is_elsewhere = path in (self._own or ()) or f"{path}/".startswith(self._mounted)
        is_elsewhere = is_elsewhere and not f"{path}/".startswith(f"{REVIEW_PAGE}/")  # below a mounted page, but ours
        await (self.app if is_elsewhere else self._api)(scope, receive, send)

    def _look_at(self, routes: Sequence[BaseRoute]) -> None:
        """Read which paths belong to whom, at the first request: the layers are made before the routes."""
        mounts = [route for route in routes if isinstance(route, Mount)]
        self._api = next((mount.app for mount in mounts if not mount.path), self.app)
        self._mounted = tuple(f"{mount.path}/" for mount in mounts if mount.path)
        self._own = frozenset(route.path for route in routes if isinstance(route, Route))
