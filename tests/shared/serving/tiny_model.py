"""A model of the Open Inference Protocol that is computed in the head, and what to ask it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from shared.bundle.layout import TensorSignature
from shared.errors import InputError, NotFound, NotReady, PerceptError, TooLarge, UnsupportedMedia
from shared.serving.open_inference import make_router

STATUS = {InputError: 400, NotFound: 404, TooLarge: 413, UnsupportedMedia: 415, NotReady: 503}
INFER = "/v2/models/tiny/infer"


@dataclass
class TinyModel:
    """Doubles numbers, counts tokens, turns flags round; keeps what it was given."""

    name: str = "tiny"
    version: str = "1.0"
    is_ready: bool = True
    inputs: tuple[TensorSignature, ...] = (
        TensorSignature(name="numbers", dtype="float32", shape=("batch", 3)),
        TensorSignature(name="tokens", dtype="int64", shape=("batch", "tokens")),
        TensorSignature(name="flags", dtype="bool", shape=("batch",)),
    )
    outputs: tuple[TensorSignature, ...] = (
        TensorSignature(name="doubled", dtype="float32", shape=("batch", 3)),
        TensorSignature(name="counts", dtype="int64", shape=("batch",)),
        TensorSignature(name="turned", dtype="bool", shape=("batch",)),
    )
    seen: list[dict[str, np.ndarray]] = field(default_factory=list)

    async def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.seen.append(inputs)
        tokens = inputs["tokens"]
        counts = np.full(len(tokens), tokens.shape[1])
        return {"turned": ~inputs["flags"], "doubled": inputs["numbers"] * 2, "counts": counts}


@contextmanager
def serving(model: TinyModel) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(make_router(lambda: [model], max_elements=100))

    @app.exception_handler(PerceptError)
    async def answer(_: Request, error: PerceptError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, STATUS[type(error)])

    with TestClient(app) as client:
        yield client


def request(**changes: Any) -> dict[str, Any]:
    inputs = [
        {"name": "numbers", "shape": [2, 3], "datatype": "FP32", "data": [1, 2.5, 3, 4, 5, -6]},
        {"name": "tokens", "shape": [2, 2], "datatype": "INT64", "data": [101, 102, 101, 102]},
        {"name": "flags", "shape": [2], "datatype": "BOOL", "data": [True, False]},
    ]
    return {"inputs": inputs} | changes


def changed(index: int, **changes: Any) -> dict[str, Any]:
    """A request whose input number `index` is different; a field that is ... is left out."""
    body = request()
    body["inputs"][index] |= changes
    body["inputs"][index] = {key: value for key, value in body["inputs"][index].items() if value is not ...}
    return body


def refusal(client: TestClient, body: Any, status: int = 400, **options: Any) -> str:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    response = client.post(INFER, **sent, **options)
    assert response.status_code == status, response.text
    return response.json()["error"]
