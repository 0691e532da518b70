"""What a service module is built from: an engine, its app and its page make a BentoML service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import bentoml
from starlette.applications import Starlette

from shared.serving.app import DirectApi
from shared.serving.host.server import before_start
from shared.serving.host.service import load_or_exit, tuned_service
from shared.serving.http.browser import DOCS
from shared.serving.lifecycle.engine import Engine, Lifecycle
from shared.serving.lifecycle.swaps import load_chosen
from shared.serving.page.late import LatePage, has_gradio
from shared.serving.settings import Settings

if TYPE_CHECKING:  # Gradio need not be installed
    from shared.serving.page.tabs import Page

UI = "/ui"


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
        pages: makes the demo pages of an engine; called if there is to be a page and Gradio is installed.
    """

    def __init__(
        self,
        engine: type[EngineT],
        settings: Settings,
        create_app: Callable[..., DirectApi],
        pages: Callable[[EngineT], Sequence[Page]],
    ) -> None:
        self.engine = engine
        self.settings = settings
        self._pages = pages
        self.page = LatePage(UI, is_wanted=settings.ui and has_gradio())
        self.lifecycle: Lifecycle[EngineT] = Lifecycle(
            load_or_exit(lambda: load_chosen(engine.load, settings)), drain_s=settings.drain_s, owns_process=True
        )
        self.lifecycle.on_drain(self.page.hang_up)
        self.app = create_app(
            self.lifecycle,
            settings,
            home=UI if self.page.is_wanted else DOCS,
            alongside=self._open_page if self.page.is_wanted else None,
        )

    def service(self, name: str) -> Callable[[type[Any]], Any]:
        """Return a class decorator: a BentoML service with the app at "/" and the page at "/ui"."""

        def decorate(cls: type[Any]) -> Any:
            service = tuned_service(self.settings, name=name, model=self.lifecycle.model)(cls)
            return bentoml.asgi_app(self.app, path="/")(bentoml.asgi_app(self.page, path=UI)(service))

        return decorate

    def check(self) -> None:
        """End the server before it starts if there is no bundle that can be served."""
        before_start(lambda: self.engine.check(self.settings))

    def _open_page(self, engine: EngineT) -> AbstractAsyncContextManager[None]:
        return self.page.open(lambda: self._build_page(engine))

    def _build_page(self, engine: EngineT) -> Starlette:
        from shared.serving.page.tabs import mount_pages

        return mount_pages(self._pages(engine), UI, root_path=self.settings.root_path, has_docs=self.settings.docs)
