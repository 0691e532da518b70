"""The all-in-one service: what `bentoml serve .` starts and the root's `bentofile.yaml` builds.

The vision and the language service on one port, with one page: as much of both as there are bundles for.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp.api import make_routers as language_routers
from nlp.engine import LanguageEngine
from nlp.methods import LanguageMethods
from shared.errors import ConfigError, NotFound
from shared.serving.app import DirectApi, make_app
from shared.serving.host.service import Hosted
from shared.serving.lifecycle.engine import Lifecycle, LoadedModel
from shared.serving.settings import Settings, settings_or_exit
from vision.api import make_router as vision_router
from vision.engine import TaggingEngine
from vision.methods import VisionMethods

if TYPE_CHECKING:
    from shared.serving.page.tabs import Page


class Everything:
    """The engines that this service answers with; one of them may be absent."""

    def __init__(self, tagging: TaggingEngine | None, language: LanguageEngine | None) -> None:
        self.tagging = tagging
        self.language = language
        self.models: list[LoadedModel] = [model for engine in (tagging, language) if engine for model in engine.models]
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ConfigError(f"two of the bundles {', '.join(names)} have the same name. Rename one.")

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
            TaggingEngine.check(settings)
        if has_language:
            LanguageEngine.check(settings)

    def replaced(self, task: str, path: Path) -> Everything:
        """Return the same with another model for that task."""
        if self.tagging and task == self.tagging.bundle.config.task:
            return Everything(self.tagging.replaced(task, path), self.language)
        return Everything(self.tagging, self.language.replaced(task, path) if self.language else None)

    async def close(self) -> None:
        """Answer what waits, then free everything."""
        await asyncio.gather(*(engine.close() for engine in (self.tagging, self.language) if engine))


def _parts(settings: Settings) -> tuple[bool, bool]:
    return settings.bundle("tagger") is not None, any(settings.bundle(name) for name in ("intent", "qa"))


def _tagging() -> TaggingEngine:
    engine = HOSTED.lifecycle().tagging
    if engine is None:
        raise NotFound("this service has no tagger. Start it with a bundle: percept serve BUNDLE…")
    return engine


def _language() -> LanguageEngine:
    engine = HOSTED.lifecycle().language
    if engine is None:
        raise NotFound("this service has no language model. Start it with a bundle: percept serve BUNDLE…")
    return engine


def _create_app(lifecycle: Lifecycle[Everything], settings: Settings, **options: Any) -> DirectApi:
    return make_app(
        lifecycle,
        [vision_router(_tagging, settings), *language_routers(_language, settings)],
        settings,
        title="Percept",
        description="Photos to tags, utterances to intents, questions to answers, with calibrated scores. "
        'Errors are `{"error": {…}}`, under /v2 `{"error": "…"}`.',
        **options,
    )


def _pages() -> list[Page]:
    import nlp.demo
    import vision.demo  # they take seconds, and Gradio need not be installed

    engine = HOSTED.lifecycle()
    pages = [vision.demo.page(_tagging)] if engine.tagging else []
    return [*pages, nlp.demo.page(_language)] if engine.language else pages


HOSTED = Hosted(Everything, settings_or_exit(), _create_app, _pages)
APP = HOSTED.app


@HOSTED.service("percept")
class Percept(VisionMethods, LanguageMethods):
    """Vision and language on one port. `bentoml.SyncHTTPClient` calls the methods, all others the routes at /docs."""

    tagging = staticmethod(_tagging)
    language = staticmethod(_language)
