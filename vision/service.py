"""The vision service: the API and its page in BentoML, one process a core.

`percept serve models/tagger` or `bentoml serve vision.service:Vision` starts it. Nothing is loaded at import: BentoML's
parent process imports this module too, and so do tests and `bentoml build`.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import Annotated, NoReturn

import bentoml
from pydantic import Field
from starlette.applications import Starlette

from shared.bundle.read import read_bundle
from shared.errors import PerceptError
from shared.serving.bento import load_or_exit, tuned_service
from shared.serving.lifecycle import Lifecycle
from shared.serving.page import LatePage, has_gradio
from shared.serving.settings import read_settings
from vision.api import create_app, tag_images
from vision.engine import TaggingEngine
from vision.schemas import TagResponse
from vision.uploads import decode_base64

UI = "/ui"


def _exit(error: PerceptError) -> NoReturn:
    sys.exit(f"percept: {error}")


try:
    SETTINGS = read_settings()
except PerceptError as problem:
    _exit(problem)

PAGE = LatePage(UI, is_wanted=SETTINGS.ui and has_gradio())


def _build_page(engine: TaggingEngine) -> Starlette:
    from vision.demo import mount_page  # takes seconds, and Gradio need not be installed

    return mount_page(engine, UI)


def _open_page(engine: TaggingEngine) -> AbstractAsyncContextManager[None]:
    return PAGE.open(lambda: _build_page(engine))


LIFECYCLE = Lifecycle(load_or_exit(lambda: TaggingEngine.load(SETTINGS)), drain_s=SETTINGS.drain_s)
LIFECYCLE.on_drain(PAGE.hang_up)
APP = create_app(LIFECYCLE, SETTINGS, home=UI if PAGE.is_wanted else "/docs", alongside=_open_page)


@bentoml.asgi_app(APP, path="/")
@bentoml.asgi_app(PAGE, path=UI)
@tuned_service(SETTINGS, name="vision", model=LIFECYCLE.model)
class Vision:
    """Photos to tags; the methods are for `bentoml.SyncHTTPClient`, all other clients use the routes at /docs."""

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """End the server before it starts when there is no bundle that can be served."""
        try:
            read_bundle(SETTINGS.tagger)
        except PerceptError as error:
            _exit(error)

    @bentoml.api(route="/bento/tag")
    async def tag(self, image: bytes, /) -> TagResponse:
        """Return the tags of one image file's bytes."""
        return await tag_images(LIFECYCLE(), [image])

    @bentoml.api(route="/bento/tag_base64")
    async def tag_base64(
        self,
        image: str,
        top_k: Annotated[int | None, Field(ge=1, le=SETTINGS.max_top_k)] = None,
        min_score: Annotated[float | None, Field(ge=0, le=1)] = None,
    ) -> TagResponse:
        """Return the tags of one image file in base64, at most `top_k` and of at least `min_score`."""
        return await tag_images(LIFECYCLE(), [decode_base64(image)], top_k=top_k, min_score=min_score)
