"""The BentoML service that carries our app, and what is changed in BentoML for that.

Documented settings: workers; BentoML's metrics, access log and system routes are off, because ours replace them (its
labels contain raw paths, its log costs 20 % of the requests, its errors have shapes of their own).

Changed by subclassing, guarded by the version below and by tests/shared/serving/host/test_service.py:
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

import logging
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import bentoml
from _bentoml_impl.server.app import ServiceAppFactory
from _bentoml_sdk import Service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.resource import system_resources
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from shared.errors import PerceptError, UnsupportedMedia
from shared.serving.app import ApiFirst, edge_layers
from shared.serving.host.connection import use_connections
from shared.serving.host.server import or_exit
from shared.serving.http.errors import error_response, install_error_handlers
from shared.serving.http.middleware import ModelId
from shared.serving.http.requests import check_depth, invalid_body
from shared.serving.lifecycle.swaps import SharedChoice
from shared.serving.settings import START_REPORT, Settings

KNOWN_VERSIONS = ("1.4.",)
_LEFT_OUT = {"TimeoutMiddleware", "RunnerTrafficMetricsMiddleware", "AccessLogMiddleware"}
_TRACING = "OpenTelemetryMiddleware"
_INDEX_ROUTES = {"index", "openapi-spec", "static_content", "assets"}
_REFUSED_MEDIA = {"multipart/form-data", "application/x-www-form-urlencoded", "application/vnd.bentoml+pickle"}
_GPU = "nvidia.com/gpu"
_STARTUP_FAILURE = 3  # uvicorn's own code

T = TypeVar("T")
_log = logging.getLogger(__name__)


def tuned_service(
    settings: Settings, *, name: str, model: Callable[[], ModelId | None]
) -> Callable[[type[T]], Service[T]]:
    """Return a class decorator: `bentoml.service`, set up for a FastAPI app mounted at "/"."""

    def decorate(cls: type[T]) -> Service[T]:
        is_known = version("bentoml").startswith(KNOWN_VERSIONS)
        if not is_known:
            _log.warning("BentoML %s is not known here: its middleware stays as it is", version("bentoml"))
        close_control_ports()
        keep_memory_flat()
        use_connections(settings)
        service: Service[T] = bentoml.service(
            name=name,
            service_class=TunedService if is_known else Service,
            workers=worker_count(settings),
            metrics={"enabled": False},
            logging={"access": {"enabled": False}},
            traffic={"timeout": settings.deadline_s + settings.shutdown_s},
            tracing=tracing_config(settings),
        )(cls)
        for layer, options in or_exit(lambda: edge_layers(settings, model)):
            service.add_asgi_middleware(layer, **options)
        if is_known:
            service.add_asgi_middleware(ApiFirst)
        return service

    return decorate


def worker_count(settings: Settings) -> int:
    """Return how many processes answer: as set, else one where a GPU computes, else one a core of this container."""
    if settings.workers is not None:
        return settings.workers
    resources = system_resources()
    if settings.device == "cuda" or (settings.device == "auto" and resources[_GPU]):
        return 1
    return max(1, int(resources["cpu"]))


def load_or_exit(load: Callable[[], T]) -> Callable[[], T]:
    """Return `load`, made to end the worker with one line of log where it fails for a reason that we know."""

    def checked() -> T:
        try:
            return load()
        except PerceptError as error:
            _log.critical("the worker cannot start: %s", error)
            report = os.environ.get(START_REPORT)
            with SharedChoice.of_this_server() as shared:
                others_answer = bool(shared.reports())
            if report and not others_answer:
                own = Path(f"{report}.{os.getpid()}")
                own.write_text(str(error), encoding="utf-8")
                own.replace(report)  # so that it is there whole or not at all
            os._exit(_STARTUP_FAILURE)

    return checked


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
        """Those of BentoML that stay, ours among them."""
        left_out = _LEFT_OUT if _is_traced() else {*_LEFT_OUT, _TRACING}
        return [layer for layer in super().middlewares if layer.cls.__name__ not in left_out]

    def get_system_routes(self, path_prefix: str = "") -> list[BaseRoute]:
        """None: the mounted app answers /livez, /readyz and /metrics."""
        return []

    async def api_endpoint_wrapper(self, name: str, request: Request) -> Response:
        """Answer a `@bentoml.api` method; its errors leave in our shape instead of BentoML's three."""
        try:
            _check_media_type(request)
            if "json" in request.headers.get("content-type", "application/json"):  # which BentoML takes none for
                check_depth(await request.body(), request.scope)
            response: Response = await self.api_endpoint(name, request)
        except ValidationError as error:
            response = _answer(invalid_body(error), request)
        except Exception as error:  # noqa: BLE001 what it is decides `_answer`
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
            f"a body of type {media_type} is not accepted here. Send JSON, or the bytes alone to a method of bytes."
        )


def _answer(error: Exception, request: Request) -> Response:
    response = error_response(error, request.scope)
    if response.status_code == 500:
        raise error  # the edge logs it once and answers
    return response


def _is_traced() -> bool:
    return BentoMLContainer.tracing.exporter_type.get() is not None


_MODULE = "bentoml._internal.utils.circus"
CONTROL, EVENTS = "inproc://percept-control", "inproc://percept-events"


def close_control_ports() -> None:
    """Have circus, where this process is the one that runs it, bind no port for commands and none for events.

    Its plugins talk to it over these ports, from processes of their own: with one, which is `bentoml serve --reload`
    for those who develop, they stay.
    """
    circus = sys.modules.get(_MODULE)  # in a worker it is not there, and takes long to import
    if circus is None:
        return
    arbiter: Any = circus.Arbiter
    if getattr(arbiter, "listens_inside", False):
        return
    original = arbiter.__init__

    def init(self: Any, watchers: Any, endpoint: str, pubsub_endpoint: str, **options: Any) -> None:
        if not options.get("plugins"):
            endpoint, pubsub_endpoint = CONTROL, EVENTS
        original(self, watchers, endpoint, pubsub_endpoint, **options)

    arbiter.__init__ = init
    arbiter.listens_inside = True


SETTINGS = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 20),
}
"""glibc's variables (mallopt(3)): arenas; from which size on a piece is given back as it is freed, more than the input
of a network and less than a photo; and how much may lie at the end of an arena."""


def keep_memory_flat() -> None:
    """Set it for the processes that are started from here; what is set already stays. Other C libraries ignore it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


QUIET = "livez,healthz,readyz,metrics,v2/health"
"""Addresses that have no spans, as parts of expressions: machines ask them every few seconds."""


def tracing_config(settings: Settings) -> dict[str, Any]:
    """Return BentoML's settings of tracing; none where no exporter is set, and then nothing is traced.

    With one, its middleware makes a span of each request: `pip install 'percept[tracing]'` brings the exporter.
    """
    if settings.otlp_endpoint is None:
        return {}
    exporter = {"protocol": "http", "endpoint": settings.otlp_endpoint}
    rate = settings.trace_sample_rate
    return {"exporter_type": "otlp", "sample_rate": rate, "excluded_urls": QUIET, "otlp": exporter}
