"""The language service: the API and its page in BentoML, one process per core.

Start it with `percept serve models/intent models/qa` or `bentoml serve nlp.service:Language`, or with either bundle
alone. Nothing is loaded at import: BentoML's parent process, tests and `bentoml build` import this module too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlp.api import create_app
from nlp.engine import LanguageEngine
from nlp.methods import LanguageMethods
from shared.serving.host.service import Hosted
from shared.serving.settings import settings_or_exit

if TYPE_CHECKING:
    from shared.serving.page.tabs import Page


def _pages() -> list[Page]:
    from nlp.demo import page  # takes seconds, and Gradio need not be installed

    return [page(HOSTED.lifecycle)]


HOSTED = Hosted(LanguageEngine, settings_or_exit(), create_app, _pages)


@HOSTED.service("nlp")
class Language(LanguageMethods):
    """Utterances to intents, questions to answers. `bentoml.SyncHTTPClient` calls the methods, others the routes."""

    language = staticmethod(HOSTED.lifecycle)
