"""The vision API: its routes, their bodies, and how images are read from requests.

Images come as files of a form, as raw bytes or as base64. Nothing is fetched, and nothing touches the disk.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import InputError, InvalidImage, TooLarge, UnsupportedMedia
from shared.serving.app import DirectApi, make_app
from shared.serving.http.answers import FunctionToApply, ItemError, LabelScore, ModelInfo, label_scores
from shared.serving.http.errors import error_responses
from shared.serving.http.middleware import answered_by
from shared.serving.http.requests import Count, examples, inline_schema, read_form, read_json
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings
from vision.engine import Allowance, TaggingEngine, TaggingResult

DEFAULT_TOP_K = 5
"""Hugging Face's own default of image classification."""
FIELD = "image"
_MAX_PREFIX = 256
_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOW = (
    f"Send multipart/form-data with one or more files in the field {FIELD!r}, as `curl -F {FIELD}=@photo.jpg` does, "
    "or the image's bytes with the content type image/* or application/octet-stream."
)
_EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mPcEqXBwMDAxMDAwMDAAAAPPgE6YVAy8QAAAABJRU5ErkJggg=="
)
"""Two by two pixels, so that the documentation's example works when tried."""
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


class TagOut(BaseModel):
    """One label with its calibrated probability."""

    label: str
    score: float = Field(description="Calibrated probability, 0 to 1.")
    parents: list[str] = Field(description="All labels above it, nearest first. Empty if there is no taxonomy.")


class ImageTags(BaseModel):
    """The answer for one image."""

    tags: list[TagOut] = Field(description="The most probable first. Empty is a normal answer.")
    width: int = Field(description="In pixels, after turning the image as its EXIF says.")
    height: int


class TagResponse(BaseModel):
    """The answer of POST /v1/tag: one result per image, in the order they were sent."""

    model_config = examples(
        {
            "model": {"name": "starter-tagger", "version": "2026.11.23-1a2b3c4d"},
            "results": [
                {
                    "tags": [
                        {"label": "tabby", "score": 0.93, "parents": ["cat", "animal"]},
                        {"label": "cat", "score": 0.97, "parents": ["animal"]},
                    ],
                    "width": 640,
                    "height": 480,
                },
                {
                    "error": {
                        "type": "invalid_image",
                        "message": "the image cannot be decoded: it is truncated or broken.",
                    }
                },
            ],
        }
    )

    model: ModelInfo
    results: list[ImageTags | ItemError]


class ClassificationParameters(BaseModel):
    """Hugging Face's parameters of image classification."""

    model_config = ConfigDict(extra="forbid")

    top_k: Count | None = Field(default=None, description="Most labels; 5 if not given.")
    function_to_apply: FunctionToApply | None = Field(
        default=None,
        description="Applied to the raw logits. If not given, scores are calibrated probabilities.",
    )


class ClassificationRequest(BaseModel):
    """Hugging Face's JSON body of image classification."""

    model_config = examples({"inputs": _EXAMPLE_PNG, "parameters": {"top_k": 3}}, extra="forbid")

    inputs: str = Field(description="The image file in base64, with or without the prefix of a data URL. No other URL.")
    parameters: ClassificationParameters | None = None
    options: dict[str, Any] | None = Field(default=None, description="Sent by older clients; has no effect here.")


_CLASSIFICATION_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/json": {"schema": inline_schema(ClassificationRequest)},
        },
    }
}


def create_app(lifecycle: Lifecycle[TaggingEngine], settings: Settings, **options: Any) -> DirectApi:
    """Return the API as an ASGI app that loads its model when it starts; `options` are those of `make_app`."""
    return make_app(
        lifecycle,
        [make_router(lifecycle, settings)],
        settings,
        title="Percept Vision",
        description='Photos to tags with calibrated scores. Errors are `{"error": {…}}`, under /v2 `{"error": "…"}`.',
        **options,
    )


def make_router(engine: Callable[[], TaggingEngine], settings: Settings) -> APIRouter:
    """Return the routes.

    Args:
        engine: returns the engine, at every request; may raise NotReady, or NotFound if there is none.
        settings: limits.
    """
    router = APIRouter()
    errors = error_responses(400, 413, 415, 422, 429, 503, 504)

    @router.post("/v1/tag", tags=["tagging"], summary="Tag images", responses=errors, openapi_extra=_TAG_BODY)
    async def tag(
        request: Request,
        # Defaults, not Annotated: an annotation that is kept as text cannot read a limit from the settings.
        top_k: int | None = Query(None, ge=1, le=settings.max_top_k, description="Most tags per image."),
        min_score: float | None = Query(
            None, ge=0, le=1, description="The lowest score of a tag; by default each label's own threshold."
        ),
    ) -> TagResponse:
        """Send one image as the body, or one or more as files of a form.

        If one of several images cannot be answered, `{"error": {"type", "message"}}` takes its place in `results`, and
        the others are answered. A single one that cannot be answered gets its HTTP error.
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
        logits = (await model.look_at(image)).logits
        return label_scores(
            model.labels,
            logits,
            partial(model.predictor.scores, logits),
            function=parameters.function_to_apply,
            top_k=parameters.top_k or DEFAULT_TOP_K,
        )

    return router


async def tag_images(
    engine: TaggingEngine, images: Sequence[bytes], *, top_k: int | None = None, min_score: float | None = None
) -> TagResponse:
    """Return the answer for one or more images.

    Raises:
        InputError: the only image cannot be answered; with several, the error is in the results.
        ServiceError: the service cannot answer now.
    """

    allowance = Allowance()

    async def answer(item: int, image: bytes) -> TaggingResult | ItemError:
        try:
            return await engine.tag(image, top_k=top_k, min_score=min_score, allowance=allowance, item=item)
        except InputError as error:
            if len(images) == 1:
                raise
            return ItemError.of(error)

    async with engine.admission.admitted(len(images)):  # all or none: one by one the last would be refused for ever
        tasks = [asyncio.ensure_future(answer(item, image)) for item, image in enumerate(images)]
        try:
            results = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
    return TagResponse.model_validate({"model": engine, "results": results}, from_attributes=True)


async def _read_classification(request: Request) -> tuple[bytes, ClassificationParameters]:
    media_type = _media_type(request)
    if media_type != "application/json" and not media_type.endswith("+json"):
        return await request.body(), ClassificationParameters()
    asked = await read_json(request, ClassificationRequest)
    return decode_base64(asked.inputs), asked.parameters or ClassificationParameters()


async def read_images(request: Request, settings: Settings) -> list[bytes]:
    """Return the bytes of each image that a request holds, as files of a form or as its whole body.

    Raises:
        UnsupportedMedia: it is neither a form nor an image.
        InputError: the form is broken, has another field or no file.
        TooLarge: there are more images than the limit.
    """
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        return await _read_form(request, settings)
    if media_type in ("", "application/octet-stream") or media_type.startswith("image/"):
        body = await request.body()
        if not body:
            raise InvalidImage(f"the body is empty (0 bytes). {_HOW}")
        _refuse_url(body)
        return [body]
    raise UnsupportedMedia(f"a body of type {media_type[:80]} is not accepted. {_HOW}")


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64, with or without the prefix of a data URL.

    >>> decode_base64("data:image/png;base64,iVBORw==")
    b'\\x89PNG'

    Raises:
        InputError: it is a URL, or not base64.
    """
    prefix = _DATA_URL.match(text, 0, _MAX_PREFIX)
    if prefix is None:
        _refuse_url(text[:64].encode())
    try:
        return base64.b64decode("".join(text[prefix.end() if prefix else 0 :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(
            "`inputs` must be the image file in base64; what came is not valid base64. "
            "Encode the file's bytes, or send them as they are with the content type image/*."
        ) from error


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refuse_url(start: bytes) -> None:
    if len(start) < 4096 and _URL.match(start[:64].decode("latin-1")):
        raise InputError("a URL came in place of an image. URLs are never fetched: send the image itself.")


async def _read_form(request: Request, settings: Settings) -> list[bytes]:
    too_many = f"the form holds more than {settings.max_images} images, which is the limit. Send fewer at once."
    parts = await read_form(
        request,
        max_files=settings.max_images,
        too_many=too_many,
        how=_HOW,
    )
    strangers = sorted({part.name for part in parts if part.name != FIELD})
    if strangers:
        raise InputError(f"the form has the field {strangers[0][:80]!r}; expected is {FIELD!r}. {_HOW}")
    if not parts:
        raise InputError(f"the form holds no file. {_HOW}")
    if len(parts) > settings.max_images:
        raise TooLarge(too_many)
    for part in parts:
        if part.filename is None:
            _refuse_url(part.content)
            _refuse_text(part.content)
    return [part.content for part in parts]


def _refuse_text(content: bytes) -> None:
    """Refuse what is text, sent where a file is expected: an image has bytes that no text has."""
    try:
        is_text = content != b"" and content.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return
    if is_text:
        raise InputError(f"the field {FIELD!r} holds text; expected is a file. {_HOW}")
