"""The all-in-one service: what `bentoml serve .` starts and the root's `bentofile.yaml` builds.

The vision and the language service on one port, with one page: whatever of them there are bundles for.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import bentoml
from starlette.applications import Starlette

from nlp.api import make_routers as language_routers
from nlp.engine import LanguageEngine
from nlp.methods import LanguageMethods
from shared.bundle.read import read_bundle
from shared.errors import ConfigError, NotFound
from shared.serving.app import make_app
from shared.serving.host.server import before_start
from shared.serving.host.service import load_or_exit, tuned_service
from shared.serving.lifecycle.engine import Lifecycle, LoadedModel
from shared.serving.lifecycle.swaps import load_chosen
from shared.serving.page.late import LatePage, has_gradio
from shared.serving.settings import Settings, settings_or_exit
from vision.api import make_router as vision_router
from vision.engine import TaggingEngine
from vision.methods import VisionMethods

UI = "/ui"
SETTINGS = settings_or_exit()
PAGE = LatePage(UI, is_wanted=SETTINGS.ui and has_gradio())


class Everything:
    """The engines that this service answers with; one of them may be absent."""

    def __init__(self, tagging: TaggingEngine | None, language: LanguageEngine | None) -> None:
        self.tagging = tagging
        self.language = language
        self.models: list[LoadedModel] = [model for engine in (tagging, language) if engine for model in engine.models]
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ConfigError(f"two of the bundles {', '.join(names)} have one name; models are asked for by name.")

    @classmethod
    def load(cls, settings: Settings) -> Everything:
        """Return what there are bundles for; blocks until all gave their golden outputs."""
        cls.check(settings)
        has_tagging, has_language = _parts(settings)
        return cls(
            TaggingEngine.load(settings) if has_tagging else None,
            LanguageEngine.load(settings) if has_language else None,
        )

    @staticmethod
    def check(settings: Settings) -> None:
        """Refuse settings without a bundle, or with one that cannot be read.

        Raises:
            ConfigError: there is none.
            BundleError: one is broken.
        """
        has_tagging, has_language = _parts(settings)
        if not has_tagging and not has_language:
            raise ConfigError("there is no bundle to serve. Name one: percept serve BUNDLE…")
        if has_tagging:
            read_bundle(settings.tagger)
        if has_language:
            LanguageEngine.check(settings)

    def replaced(self, task: str, path: Path) -> Everything:
        """Return the same with another model for that task."""
        if self.tagging and task == self.tagging.bundle.config.task:
            return Everything(self.tagging.replaced(task, path), self.language)
        return Everything(self.tagging, self.language.replaced(task, path) if self.language else None)

    async def close(self) -> None:
        """Answer what waits, then free all."""
        await asyncio.gather(*(engine.close() for engine in (self.tagging, self.language) if engine))


def _parts(settings: Settings) -> tuple[bool, bool]:
    return settings.bundle("tagger") is not None, any(settings.bundle(name) for name in ("intent", "qa"))


def _tagging() -> TaggingEngine:
    engine = LIFECYCLE().tagging
    if engine is None:
        raise NotFound("this service has no tagger. Start it with a bundle: percept serve BUNDLE…")
    return engine


def _language() -> LanguageEngine:
    engine = LIFECYCLE().language
    if engine is None:
        raise NotFound("this service has no language model. Start it with a bundle: percept serve BUNDLE…")
    return engine


def _build_page(engine: Everything) -> Starlette:
    import nlp.demo
    import vision.demo  # they take seconds, and Gradio need not be installed
    from shared.serving.page.tabs import mount_pages

    pages = [vision.demo.page(engine.tagging)] if engine.tagging else []
    pages += [nlp.demo.page(engine.language)] if engine.language else []
    return mount_pages(pages, UI, root_path=SETTINGS.root_path, has_docs=SETTINGS.docs)


def _open_page(engine: Everything) -> AbstractAsyncContextManager[None]:
    return PAGE.open(lambda: _build_page(engine))


LIFECYCLE = Lifecycle(
    load_or_exit(lambda: load_chosen(Everything.load, SETTINGS)), drain_s=SETTINGS.drain_s, owns_process=True
)
LIFECYCLE.on_drain(PAGE.hang_up)
APP = make_app(
    LIFECYCLE,
    [vision_router(_tagging, SETTINGS), *language_routers(_language, SETTINGS)],
    SETTINGS,
    title="Percept",
    description="Photos to tags, utterances to intents, questions to answers, with calibrated scores. "
    'Errors are `{"error": {…}}`, under /v2 `{"error": "…"}`.',
    home=UI if PAGE.is_wanted else "/docs",
    alongside=_open_page if PAGE.is_wanted else None,
)


@bentoml.asgi_app(APP, path="/")
@bentoml.asgi_app(PAGE, path=UI)
@tuned_service(SETTINGS, name="percept", model=LIFECYCLE.model)
class Percept(VisionMethods, LanguageMethods):
    """Vision and language on one port; the methods are for `bentoml.SyncHTTPClient`, the routes at /docs for all."""

    tagging = staticmethod(_tagging)
    language = staticmethod(_language)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """End the server before it starts when there is no bundle that can be served."""
        before_start(lambda: Everything.check(SETTINGS))
