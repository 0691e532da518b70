"""The BentoML service that carries our app, and what is changed in BentoML for that.

Documented settings: workers; BentoML's metrics, access log and system routes are off, because ours replace them (its
labels contain raw paths, its log costs 20 % of the requests, its errors have shapes of their own).

Changed by subclassing, guarded by `host.versions` and by tests/shared/serving/host/test_carrier.py:
- the middleware of `ServiceAppFactory`: without the timeout, whose timers are never cancelled and make the garbage
  collector stall at 1,000 requests per second, and without OpenTelemetry (18 % of the requests) if no exporter is set;
- errors of the `@bentoml.api` methods and of unknown routes leave in our shape;
- its methods take no forms and no pickle: in forms it fetches any URL given in place of a file, and what it cannot
  read in them is a 500;
- its server uses our connections (`host.connection`): heads have limits, and requests of gone clients are cancelled;
- a request for the mounted API skips the layers that only BentoML's own methods need;
- its control socket, which runs any command sent to it, is taken off the network;
- its own OpenAPI document fails on a schema that has `examples`, and with it `bentoml build`: the API's document
  replaces it, and its index page and the files for it are not served.
Once BentoML cancels its timers and lets middleware be left out, `tuned_service` becomes `bentoml.service`.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import bentoml
from _bentoml_impl.server.app import ServiceAppFactory
from bentoml import Service
from circus.arbiter import Arbiter
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from shared.errors import UnsupportedMedia
from shared.runtime.choose import has_gpu
from shared.serving.app import ApiFirst, Layers
from shared.serving.host.connection import use_connections
from shared.serving.host.versions import is_known
from shared.serving.http.errors import error_response, install_error_handlers
from shared.serving.http.requests import check_json, invalid_body
from shared.serving.settings import Settings

_LEFT_OUT = {"TimeoutMiddleware", "RunnerTrafficMetricsMiddleware", "AccessLogMiddleware"}
_TRACING = "OpenTelemetryMiddleware"
_INDEX_ROUTES = {"index", "openapi-spec", "static_content", "assets"}
_REFUSED_MEDIA = {"multipart/form-data", "application/x-www-form-urlencoded", "application/vnd.bentoml+pickle"}

T = TypeVar("T")


def tuned_service(settings: Settings, layers: Layers, *, name: str) -> Callable[[type[T]], Service[T]]:
    """Return a class decorator: `bentoml.service`, set up for a FastAPI app mounted at "/" within these layers."""

    def decorate(cls: type[T]) -> Service[T]:
        is_tuned = is_known("bentoml")
        if is_tuned:
            close_control_ports()
        keep_memory_flat()
        use_connections(settings)
        service: Service[T] = bentoml.service(
            name=name,
            service_class=TunedService if is_tuned else Service,
            workers=worker_count(settings),
            metrics={"enabled": False},
            logging={"access": {"enabled": False}},
            traffic={"timeout": settings.deadline_s + settings.shutdown_s},
            tracing=tracing_config(settings),
        )(cls)
        for layer, options in layers:
            service.add_asgi_middleware(layer, **options)
        if is_tuned:
            service.add_asgi_middleware(ApiFirst)
        return service

    return decorate


def start_server(target: str, folder: Path, *, host: str, port: int, shutdown_s: int) -> None:
    """Serve until a signal comes, as `bentoml serve` does; ends the process.

    Args:
        target: the service, as "package.module:name".
        folder: the working directory of the server, which its workers import from.
        host: an IP address.
        port: not 0.
        shutdown_s: time for requests in flight when the server is told to stop.
    """
    options = {"working-dir": folder, "host": host, "port": port, "timeout-graceful-shutdown": shutdown_s}
    sys.argv = ["bentoml", "serve", target, "--quiet", *(f"--{name}={value}" for name, value in options.items())]
    runpy.run_module("bentoml", run_name="__main__")


def worker_count(settings: Settings) -> int | Literal["cpu_count"]:
    """Return how many processes answer: as set, else one if a GPU computes, else one per core of this container."""
    if settings.workers is not None:
        return settings.workers
    is_on_gpu = settings.device == "cuda" or (settings.device == "auto" and has_gpu())
    return 1 if is_on_gpu else "cpu_count"


class TunedService(Service[T]):
    """BentoML's service with our application factory."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """Return what a worker serves."""
        self.inject_config()
        app = TunedAppFactory(self, is_main=is_main)()
        install_error_handlers(app)
        return app

    @property
    def openapi_spec(self) -> Any:
        """The document of the mounted API, which `bentoml build` puts beside the code; a dict."""
        return next(app.openapi() for app, path, _ in self.mount_apps if path == "/" and isinstance(app, FastAPI))


class TunedAppFactory(ServiceAppFactory):
    """BentoML's application without the layers that we bring ourselves."""

    @property
    def middlewares(self) -> list[Middleware]:
        """BentoML's layers that stay, and ours."""
        left_out = _LEFT_OUT if self.service.config.get("tracing") else {*_LEFT_OUT, _TRACING}
        return [layer for layer in super().middlewares if layer.cls.__name__ not in left_out]

    def get_system_routes(self, path_prefix: str = "") -> list[BaseRoute]:
        """Return none: the mounted app answers /livez, /readyz and /metrics."""
        return []

    async def api_endpoint_wrapper(self, name: str, request: Request) -> Response:
        """Answer a `@bentoml.api` method; its errors leave in our shape instead of BentoML's three."""
        try:
            _check_media_type(request)
            if "json" in request.headers.get("content-type", "application/json"):  # BentoML takes none for JSON
                check_json(await request.body())
            response: Response = await self.api_endpoint(name, request)
        except ValidationError as error:
            response = _answer(invalid_body(error), request)
        except Exception as error:  # noqa: BLE001 `_answer` raises what is unexpected
            response = _answer(error, request)
        background = self.service.context.response.background
        background.add_task(request.close)
        response.background = background
        del self.service.context.response.background  # as BentoML does: it refers back to the request
        return response

    def __call__(self) -> Starlette:
        """Return the application, without BentoML's index page and its files."""
        app: Starlette = super().__call__()
        routes = app.router.routes
        routes[:] = [route for route in routes if getattr(route, "name", "") not in _INDEX_ROUTES]
        return app


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _REFUSED_MEDIA:
        raise UnsupportedMedia(
            f"a body of type {media_type} is not accepted here. Send JSON, or to a method of bytes the bytes."
        )


def _answer(error: Exception, request: Request) -> Response:
    response = error_response(error, request.scope)
    if response.status_code == 500:
        raise error  # `RequestEdge` logs and answers it
    return response


CONTROL, EVENTS = "inproc://percept-control", "inproc://percept-events"


def close_control_ports() -> None:
    """Have circus bind no port for commands and none for events.

    BentoML 1.4.39 runs its workers under circus, which listens for commands on a TCP port of 127.0.0.1 without a
    password: whoever can connect (another user of the machine, another container of the pod) can send `add` with a
    command line, and it runs as this service. We send no commands, so circus listens inside its own process only.
    Needed until BentoML gives it a socket that only its user can open. A plugin, as in `bentoml serve --reload` for
    development, talks to it over these ports from a process of its own: then they stay.
    """
    arbiter: Any = Arbiter
    if getattr(arbiter, "listens_inside", False):
        return
    original = arbiter.__init__

    def init(self: Any, watchers: Any, endpoint: str, pubsub_endpoint: str, **options: Any) -> None:
        if not options.get("plugins"):
            endpoint, pubsub_endpoint = CONTROL, EVENTS
        original(self, watchers, endpoint, pubsub_endpoint, **options)

    arbiter.__init__ = init
    arbiter.listens_inside = True


MALLOC = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 20),
}
"""glibc's variables (mallopt(3)): arenas; the size from which a block is returned as soon as it is freed, more than the
input of a network and less than a photo; and how much free memory may stay at the end of an arena."""


def keep_memory_flat() -> None:
    """Set glibc's variables for the processes started from here, unless set. Other C libraries ignore them.

    glibc gives each thread an arena, up to eight per core, and puts ever larger blocks into them the larger those were
    that came and went: images of some megapixels leave holes that nothing fits. Under the traffic of `make soak` a
    worker grew from 225 to 311 MB in six minutes; with these settings it stays at 195 to 202 (two cores, 2026-11).
    """
    for name, value in MALLOC.items():
        os.environ.setdefault(name, value)


QUIET = "livez,healthz,readyz,metrics,v2/health"
"""Parts of addresses that get no spans: machines ask them every few seconds."""


def tracing_config(settings: Settings) -> dict[str, Any]:
    """Return BentoML's tracing settings; empty without an endpoint, and then nothing is traced.

    Otherwise its middleware makes a span of each request: `pip install 'percept[tracing]'` brings the exporter.
    """
    if settings.otlp_endpoint is None:
        return {}
    exporter = {"protocol": "http", "endpoint": settings.otlp_endpoint}
    rate = settings.trace_sample_rate
    return {"exporter_type": "otlp", "sample_rate": rate, "excluded_urls": QUIET, "otlp": exporter}
