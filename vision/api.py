"""The vision API: its routes, and what they take and give. Schemas stand in `schemas`, bodies are read in `uploads`.

Neighbours: `service` mounts the app, `engine` answers, `shared.serving.app` adds errors, health and Open Inference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import ValidationError

from shared.errors import InputError
from shared.serving.app import DirectApi, make_app
from shared.serving.http.bodies import check_depth, inline_schema
from shared.serving.http.errors import classify, error_responses, invalid_body
from shared.serving.http.middleware import answered_by
from shared.serving.lifecycle.engine import Alongside, Lifecycle
from shared.serving.settings import Settings
from vision.engine import TaggingEngine
from vision.schemas import (
    ClassificationParameters,
    ClassificationRequest,
    ImageTags,
    ItemError,
    ItemErrorDetail,
    LabelScore,
    ModelInfo,
    TagOut,
    TagResponse,
)
from vision.uploads import FIELD, decode_base64, is_json, read_images

DEFAULT_TOP_K = 5
"""Hugging Face's own default of image classification."""
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TAG_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "One or more files: JPEG, PNG, WebP, GIF or BMP; the first frame counts.",
                        }
                    },
                }
            },
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}
_CLASSIFICATION_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/json": {"schema": inline_schema(ClassificationRequest)},
        },
    }
}


def create_app(
    lifecycle: Lifecycle[TaggingEngine],
    settings: Settings,
    *,
    home: str = "/docs",
    alongside: Alongside[TaggingEngine] | None = None,
) -> DirectApi:
    """Return the API as an ASGI app that loads its model when it starts.

    Args:
        lifecycle: holds the engine.
        settings: limits.
        home: where `/` leads.
        alongside: as in `Lifecycle.run`.
    """

    return make_app(
        lifecycle,
        [make_router(lifecycle, settings)],
        settings,
        title="Percept Vision",
        description='Photos to tags with calibrated scores. Errors are `{"error": {…}}`, under /v2 `{"error": "…"}`.',
        home=home,
        alongside=alongside,
    )


def make_router(engine: Callable[[], TaggingEngine], settings: Settings) -> APIRouter:
    """Return the routes.

    Args:
        engine: gives the engine at every request; may raise NotReady, or NotFound where there is none.
        settings: limits.
    """
    router = APIRouter()
    errors = error_responses(400, 413, 415, 422, 429, 503, 504)

    @router.post("/v1/tag", tags=["tagging"], summary="Tag images", responses=errors, openapi_extra=_TAG_BODY)
    async def tag(
        request: Request,
        # Defaults, not Annotated: a limit from the settings cannot be read from an annotation that is kept as text.
        top_k: int | None = Query(None, ge=1, le=settings.max_top_k, description="At most so many tags an image."),
        min_score: float | None = Query(
            None, ge=0, le=1, description="The least score of a tag; by default each label's own threshold."
        ),
    ) -> TagResponse:
        """Send one image as the body, or one or more as files of a form.

        Of several images, one that cannot be answered has `{"error": {"type", "message"}}` in its place in `results`
        and disturbs no other. A single one is answered with its HTTP error.
        """
        model = engine()
        answered_by(request, model)
        return await tag_images(model, await read_images(request, settings), top_k=top_k, min_score=min_score)

    @router.post(
        "/hf/image-classification",
        tags=["Hugging Face"],
        summary="Classify an image as Hugging Face's inference API does",
        responses=errors,
        openapi_extra=_CLASSIFICATION_BODY,
    )
    async def classify_image(request: Request) -> list[LabelScore]:
        """For `huggingface_hub.InferenceClient(model=".../hf/image-classification").image_classification(…)`."""
        model = engine()
        answered_by(request, model)
        image, parameters = await _read_classification(request)
        seen = await model.logits(image)
        scores = _apply(parameters.function_to_apply, seen.logits, model)
        best = np.argsort(-scores, kind="stable")[: parameters.top_k or DEFAULT_TOP_K]
        return [LabelScore(label=model.labels[i], score=float(scores[i])) for i in best]

    return router


async def tag_images(
    engine: TaggingEngine, images: Sequence[bytes], *, top_k: int | None = None, min_score: float | None = None
) -> TagResponse:
    """Return the answer for one or more images.

    Raises:
        InputError: the only image cannot be answered; of several, it stands in the results.
        ServiceError: the service cannot answer now.
    """

    async def answer(image: bytes) -> ImageTags | ItemError:
        try:
            return await _tag_one(engine, image, top_k, min_score)
        except InputError as error:
            if len(images) == 1:
                raise
            _, kind, message, _ = classify(error)
            return ItemError(error=ItemErrorDetail(type=kind, message=message))

    if len(images) == 1:
        results = [await answer(images[0])]
    else:
        tasks = [asyncio.ensure_future(answer(image)) for image in images]
        try:
            results = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
    return TagResponse(model=ModelInfo(name=engine.name, version=engine.version), results=list(results))


async def _tag_one(engine: TaggingEngine, image: bytes, top_k: int | None, min_score: float | None) -> ImageTags:
    result = await engine.tag(image, top_k=top_k, min_score=min_score)
    tags = [TagOut(label=tag.label, score=tag.score, parents=list(tag.parents)) for tag in result.tags]
    return ImageTags(tags=tags, width=result.width, height=result.height)


async def _read_classification(request: Request) -> tuple[bytes, ClassificationParameters]:
    body = await request.body()
    if not is_json(request):
        return body, ClassificationParameters()
    check_depth(body, request.scope)
    try:
        asked = ClassificationRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid_body(error) from None
    return decode_base64(asked.inputs), asked.parameters or ClassificationParameters()


def _apply(function: str | None, logits: np.ndarray, engine: TaggingEngine) -> Any:
    """Return scores, float64 [num_labels], as `function_to_apply` asks; calibrated where it asks for nothing."""
    raw = logits.astype(np.float64)
    if function == "softmax":
        exponentials = np.exp(raw - raw.max())
        return exponentials / exponentials.sum()
    if function == "sigmoid":
        return 1 / (1 + np.exp(-raw))
    if function == "none":
        return raw
    return engine.predictor.scores(logits)
