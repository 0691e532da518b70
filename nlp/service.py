"""The language service: the API and its page in BentoML, one process a core.

`percept serve models/intent models/qa` or `bentoml serve nlp.service:Language` starts it, with either bundle alone too.
Nothing is loaded at import: BentoML's parent process imports this module too, and so do tests and `bentoml build`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import bentoml
from starlette.applications import Starlette

from nlp.api import create_app
from nlp.engine import LanguageEngine
from nlp.methods import LanguageMethods
from shared.serving.host.server import before_start
from shared.serving.host.service import load_or_exit, tuned_service
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.lifecycle.swaps import load_chosen
from shared.serving.page.late import LatePage, has_gradio
from shared.serving.settings import settings_or_exit

UI = "/ui"
SETTINGS = settings_or_exit()
PAGE = LatePage(UI, is_wanted=SETTINGS.ui and has_gradio())


def _build_page(engine: LanguageEngine) -> Starlette:
    from nlp.demo import mount_page  # takes seconds, and Gradio need not be installed

    return mount_page(engine, UI)


def _open_page(engine: LanguageEngine) -> AbstractAsyncContextManager[None]:
    return PAGE.open(lambda: _build_page(engine))


LIFECYCLE = Lifecycle(
    load_or_exit(lambda: load_chosen(LanguageEngine.load, SETTINGS)), drain_s=SETTINGS.drain_s, owns_process=True
)
LIFECYCLE.on_drain(PAGE.hang_up)
APP = create_app(
    LIFECYCLE, SETTINGS, home=UI if PAGE.is_wanted else "/docs", alongside=_open_page if PAGE.is_wanted else None
)


@bentoml.asgi_app(APP, path="/")
@bentoml.asgi_app(PAGE, path=UI)
@tuned_service(SETTINGS, name="nlp", model=LIFECYCLE.model)
class Language(LanguageMethods):
    """Utterances to intents, questions to answers; the methods are for `bentoml.SyncHTTPClient`, the routes for all."""

    language = staticmethod(LIFECYCLE)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """End the server before it starts when there is no bundle that can be served."""
        before_start(lambda: LanguageEngine.check(SETTINGS))
