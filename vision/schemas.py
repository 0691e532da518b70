"""The bodies of the vision API, as OpenAPI shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.serving.http.bodies import Count

_EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mPcEqXBwMDAxMDAwMDAAAAPPgE6YVAy8QAAAABJRU5ErkJggg=="
)
"""Two by two pixels, so that who tries the documentation's example gets an answer."""
FunctionToApply = Literal["softmax", "sigmoid", "none"]


class ModelInfo(BaseModel):
    """Which model answered."""

    name: str
    version: str


class TagOut(BaseModel):
    """One label with its calibrated probability."""

    label: str
    score: float = Field(description="Calibrated probability, 0 to 1.")
    parents: list[str] = Field(description="All labels above it, nearest first. Empty where there is no taxonomy.")


class ImageTags(BaseModel):
    """The answer for one image."""

    tags: list[TagOut] = Field(description="The most probable first. Empty is a normal answer.")
    width: int = Field(description="In pixels, as the image is seen after the turn that its EXIF asks for.")
    height: int


class ItemErrorDetail(BaseModel):
    """Why one image of several has no answer."""

    type: str
    message: str


class ItemError(BaseModel):
    """Stands in `results` in the place of an image that cannot be answered, when several were sent."""

    error: ItemErrorDetail


class TagResponse(BaseModel):
    """The answer of POST /v1/tag: one result an image, in the order in which they were sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
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
            ]
        }
    )

    model: ModelInfo
    results: list[ImageTags | ItemError]


class ClassificationParameters(BaseModel):
    """Hugging Face's parameters of image classification."""

    model_config = ConfigDict(extra="forbid")

    top_k: Count | None = Field(default=None, description="At most so many labels; 5 when it is not given.")
    function_to_apply: FunctionToApply | None = Field(
        default=None,
        description="Applied to the raw logits. When it is not given, scores are calibrated probabilities.",
    )


class ClassificationRequest(BaseModel):
    """Hugging Face's JSON body of image classification."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"inputs": _EXAMPLE_PNG, "parameters": {"top_k": 3}}]},
    )

    inputs: str = Field(description="The image file in base64; a data URL's prefix may stand in front. No other URL.")
    parameters: ClassificationParameters | None = None
    options: dict[str, Any] | None = Field(default=None, description="Sent by older clients; has no effect here.")


class LabelScore(BaseModel):
    """One label of a classification."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "tabby", "score": 0.93}]})

    label: str
    score: float
