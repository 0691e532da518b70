"""The vision service's methods for BentoML's own clients; all others use the routes of `vision.api`.

The all-in-one service inherits them too, and says where the engine is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import bentoml
from pydantic import Field

from shared.serving.settings import settings_or_exit
from vision.api import TagResponse, decode_base64, tag_images
from vision.engine import TaggingEngine

_MAX_TOP_K = settings_or_exit().max_top_k


class VisionMethods:
    """Photos to tags."""

    tagging: Callable[[], TaggingEngine]
    """Returns the engine, at every request; a service sets it as a static method."""

    @bentoml.api(route="/bento/tag")
    async def tag(self, image: bytes, /) -> TagResponse:
        """Return the tags of one image file's bytes."""
        return await tag_images(self.tagging(), [image])

    @bentoml.api(route="/bento/tag_base64")
    async def tag_base64(
        self,
        image: str,
        top_k: Annotated[int | None, Field(ge=1, le=_MAX_TOP_K)] = None,
        min_score: Annotated[float | None, Field(ge=0, le=1)] = None,
    ) -> TagResponse:
        """Return the tags of one image file in base64, at most `top_k`, with at least `min_score`."""
        return await tag_images(self.tagging(), [decode_base64(image)], top_k=top_k, min_score=min_score)
