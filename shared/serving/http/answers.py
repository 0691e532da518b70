"""What the answers of all services share: which model answered, why one item of several failed, labels with scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel

from shared.errors import InputError
from shared.serving.http.errors import classify
from shared.serving.http.requests import examples

FunctionToApply = Literal["softmax", "sigmoid", "none"]
"""Hugging Face's parameter of classification."""


class ModelInfo(BaseModel):
    """Which model answered."""

    name: str
    version: str


class ItemErrorDetail(BaseModel):
    """Why one item of several has no answer."""

    type: str
    message: str


class ItemError(BaseModel):
    """Takes the place in `results` of an item that cannot be answered, when several were sent."""

    error: ItemErrorDetail

    @classmethod
    def of(cls, error: InputError) -> ItemError:
        """Return the item's error as it would read in a response of its own."""
        _, kind, message, _ = classify(error)
        return cls(error=ItemErrorDetail(type=kind, message=message))


class LabelScore(BaseModel):
    """One label of a classification, as Hugging Face's inference API returns it."""

    model_config = examples({"label": "tabby", "score": 0.93})

    label: str
    score: float


def label_scores(
    labels: Sequence[str],
    logits: np.ndarray,
    calibrated: Callable[[], np.ndarray],
    *,
    function: FunctionToApply | None,
    top_k: int | None,
) -> list[LabelScore]:
    """Return the best labels, the most probable first.

    Args:
        labels: in the order of the logits.
        logits: float32 [C].
        calibrated: returns the calibrated probabilities, for clients that ask for no function.
        function: what is applied to the logits.
        top_k: at most this many; None for all.
    """
    raw = logits.astype(np.float64)
    if function == "softmax":
        scores = np.exp(raw - raw.max())
        scores /= scores.sum()
    elif function == "sigmoid":
        scores = 1 / (1 + np.exp(-raw))
    else:
        scores = raw if function == "none" else calibrated()
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [LabelScore(label=labels[place], score=float(scores[place])) for place in best]
