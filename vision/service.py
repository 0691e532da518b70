"""The vision service: the API and its page in BentoML, one process per core.

Start it with `percept serve models/tagger` or `bentoml serve vision.service:Vision`. Nothing is loaded at import:
BentoML's parent process, tests and `bentoml build` import this module too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.serving.host.service import Hosted
from shared.serving.settings import settings_or_exit
from vision.api import create_app
from vision.engine import TaggingEngine
from vision.methods import VisionMethods

if TYPE_CHECKING:
    from shared.serving.page.tabs import Page


def _pages() -> list[Page]:
    from vision.demo import page  # takes seconds, and Gradio need not be installed

    return [page(HOSTED.lifecycle)]


HOSTED = Hosted(TaggingEngine, settings_or_exit(), create_app, _pages)


@HOSTED.service("vision")
class Vision(VisionMethods):
    """Photos to tags. `bentoml.SyncHTTPClient` calls the methods, all others the routes at /docs."""

    tagging = staticmethod(HOSTED.lifecycle)
