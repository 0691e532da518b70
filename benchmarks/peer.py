"""The peer: what most people write, FastAPI with torchvision eager. uvicorn starts `create`."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch
from fastapi import FastAPI, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from torchvision.transforms import v2

from shared.bundle.read import read_bundle
from shared.task import resolve
from vision.tagging import TASK

BUNDLE = "PEER_BUNDLE"


def create() -> FastAPI:
    """Return an app that answers POST /tag with the five best labels of the photo in the body."""
    torch.set_num_threads(1)
    bundle = read_bundle(Path(os.environ[BUNDLE]))
    network = resolve(TASK.network)(bundle).eval()
    size = bundle.preprocessor["size"]
    transform = v2.Compose(
        [
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(bundle.preprocessor["mean"], bundle.preprocessor["std"]),
        ]
    )
    app = FastAPI()

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    def classify(body: bytes) -> list[dict[str, object]]:
        pixels = transform(Image.open(io.BytesIO(body)).convert("RGB"))
        with torch.inference_mode():
            scores = network(pixels[None]).sigmoid()[0]
        best = scores.topk(min(5, len(scores)))
        return [{"label": bundle.labels[i], "score": s} for s, i in zip(*(v.tolist() for v in best), strict=True)]

    @app.post("/tag")
    async def tag(request: Request) -> list[dict[str, object]]:
        body = await request.body()
        return await run_in_threadpool(classify, body)

    return app
