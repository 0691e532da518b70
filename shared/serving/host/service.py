"""What a service module is made of: an engine, its app and its page, hosted by BentoML.

A worker that cannot load its models leaves the reason in a file, unless another worker already answers. The process
that started the workers looks for that file, stops the server and ends with the reason, because BentoML would restart
such workers for ever. A worker whose server was killed ends by itself.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import bentoml
from starlette.applications import Starlette

from shared.errors import PerceptError
from shared.serving.app import DirectApi, edge_layers
from shared.serving.host.carrier import tuned_service
from shared.serving.host.connection import Connection
from shared.serving.http.browser import DOCS
from shared.serving.lifecycle.engine import Engine, Lifecycle, settle_heap
from shared.serving.lifecycle.swaps import SharedChoice, load_chosen
from shared.serving.page.late import LatePage, has_gradio
from shared.serving.settings import PREFIX, Settings

if TYPE_CHECKING:  # Gradio need not be installed
    from shared.serving.page.tabs import Page

UI = "/ui"
_START_REPORT = f"{PREFIX}START_REPORT"
"""Variable that names the file for the reason; the workers inherit it."""
_SERVER_PID = f"{PREFIX}SERVER_PID"
"""Variable with the process that started the workers."""
_LOOK_EVERY_S = 0.2
_WORKER_FAILED = 3  # uvicorn's own code
_SERVER_FAILED = 2

T = TypeVar("T")
_log = logging.getLogger(__name__)


class HostedEngine(Engine, Protocol):
    """An engine that a service can load by its settings."""

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Return an engine whose models gave their golden outputs; blocks."""
        ...

    @staticmethod
    def check(settings: Settings) -> None:
        """Refuse settings without a bundle, or with one that cannot be read."""
        ...


EngineT = TypeVar("EngineT", bound=HostedEngine)


class Hosted(Generic[EngineT]):
    """The life cycle, the app and the page of one service. Nothing is loaded before a worker starts.

    Args:
        engine: class of what answers.
        settings: of this process.
        create_app: makes the app; takes the life cycle and the settings, and `home` and `alongside` as `make_app` does.
        pages: makes the demo pages once the engine is loaded; called if there is to be a page and Gradio is installed.
    """

    def __init__(
        self,
        engine: type[EngineT],
        settings: Settings,
        create_app: Callable[..., DirectApi],
        pages: Callable[[], Sequence[Page]],
    ) -> None:
        self.engine = engine
        self.settings = settings
        self._pages = pages
        self.page = LatePage(UI, is_wanted=settings.ui and has_gradio())
        self.lifecycle: Lifecycle[EngineT] = Lifecycle(
            load_or_exit(lambda: load_chosen(engine.load, settings)), drain_s=settings.drain_s, owns_process=True
        )
        self.lifecycle.on_drain(self.page.hang_up)
        self.lifecycle.on_drain(Connection.end)
        self.app = create_app(
            self.lifecycle,
            settings,
            home=UI if self.page.is_wanted else DOCS,
            alongside=lambda: self.page.open(self._build_page),
        )

    def service(self, name: str) -> Callable[[type[Any]], Any]:
        """Return a class decorator: a BentoML service with the app at "/" and the page at "/ui"."""
        layers = _or_exit(lambda: edge_layers(self.settings, self.lifecycle.model))

        def decorate(cls: type[Any]) -> Any:
            cls.check = bentoml.on_deployment(partial(self.check))  # BentoML calls it before it starts workers
            service = tuned_service(self.settings, layers, name=name)(cls)
            return bentoml.asgi_app(self.app, path="/")(bentoml.asgi_app(self.page, path=UI)(service))

        return decorate

    def check(self) -> None:
        """End the server before it starts if there is no bundle that can be served, and later if no worker can start.

        Called in the process that starts the workers.
        """
        _or_exit(lambda: self.engine.check(self.settings))
        _watch_the_start()

    def _build_page(self) -> Starlette:
        from shared.serving.page.tabs import mount_pages

        page = mount_pages(
            self._pages(),
            UI,
            root_path=self.settings.root_path,
            has_docs=self.settings.docs,
            has_review=self.settings.records is not None,
        )
        settle_heap()  # or every full collection walks over Gradio, too: 190 ms (2026-11)
        return page


def load_or_exit(load: Callable[[], T]) -> Callable[[], T]:
    """Return `load`, made to end the worker with one log line if it fails for a reason that we know."""

    def checked() -> T:
        _end_with_the_server()
        try:
            return load()
        except PerceptError as error:
            _log.critical("the worker cannot start: %s", error)
            report = os.environ.get(_START_REPORT)
            with SharedChoice.of_this_server() as shared:
                others_answer = bool(shared.reports())
            if report and not others_answer:
                own = Path(f"{report}.{os.getpid()}")
                own.write_text(str(error), encoding="utf-8")
                own.replace(report)  # so that it is there whole or not at all
            os._exit(_WORKER_FAILED)

    return checked


def _end_with_the_server() -> None:
    """Have this worker end, as at SIGTERM, once the process that started it is gone without having said so."""
    server = os.environ.get(_SERVER_PID)
    if server is not None and int(server) != os.getpid():
        threading.Thread(target=_watch_the_server, args=(int(server),), name="server-watch", daemon=True).start()


def _watch_the_server(server: int) -> None:
    while os.getppid() == server:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _or_exit(check: Callable[[], T]) -> T:
    """Return what a check gives, or end the process with one line if it fails for a reason that we know."""
    try:
        return check()
    except PerceptError as error:
        sys.exit(f"percept: {error}")


def _watch_the_start() -> None:
    report = Path(tempfile.mkdtemp(prefix="percept-start-")) / "cannot_start"
    os.environ[_START_REPORT] = str(report)
    os.environ[_SERVER_PID] = str(os.getpid())
    atexit.register(_end, report)
    threading.Thread(target=_look, args=(report,), name="start-watch", daemon=True).start()


def _look(report: Path) -> None:
    while not report.exists():
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _end(report: Path) -> None:
    reason = report.read_text(encoding="utf-8") if report.exists() else None
    shutil.rmtree(report.parent, ignore_errors=True)
    if reason is not None:
        sys.stdout.flush()
        print(f"percept: {reason}", file=sys.stderr, flush=True)
        os._exit(_SERVER_FAILED)  # the server believes that it ended normally
