"""FastAPI with a transformers pipeline and eager torchvision: what most people write first. uvicorn calls `create`.

transformers 5 no longer has a question-answering pipeline, so this uses its model and tokenizer as its documentation
shows.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from torchvision.transforms import v2
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from benchmarks.peers import EAGER, FOLDERS
from benchmarks.peers.documents import Documents
from benchmarks.peers.fastapi_onnx import Asked, Question, Text
from benchmarks.peers.onnx_models import best_span
from shared.bundle.read import read_bundle
from shared.task import resolve
from vision.tagging import TASK


def create() -> FastAPI:
    """Return an app for the models whose folders are set."""
    torch.set_num_threads(1)
    app = FastAPI()
    folder = Path(os.environ[EAGER])
    if FOLDERS["intent"] in os.environ:
        classifier = pipeline("text-classification", model=str(folder / "intent"), device="cpu", top_k=5)

        @app.post("/intent")
        def intent(body: Text) -> list[dict[str, Any]]:
            return classifier([body.text])[0]

    if FOLDERS["qa"] in os.environ:
        answers = Answers(folder / "qa")

        @app.post("/answer")
        def answer(body: Question) -> dict[str, Any]:
            return answers(body.question, body.context)

        documents = Documents(answers)

        @app.post("/documents")
        def from_documents(body: Asked) -> dict[str, Any]:
            return documents(body.question)

    if FOLDERS["photo"] in os.environ:
        tags = Tags(Path(os.environ[FOLDERS["photo"]]))

        @app.post("/tag")
        async def tag(request: Request) -> list[dict[str, Any]]:
            body = await request.body()
            return await run_in_threadpool(tags, body)

    return app


class Answers:
    """Maps a question and context to the best span over all windows, which run as one batch."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()

    def __call__(self, question: str, context: str) -> dict[str, Any]:
        options = {"truncation": "only_second", "max_length": self.tokenizer.model_max_length, "stride": 128}
        found = self.tokenizer(
            question, context, return_overflowing_tokens=True, padding=True, return_tensors="pt", **options
        )
        found.pop("overflow_to_sample_mapping")
        with torch.inference_mode():
            logits = self.model(**found)
        return best_span(context, found.encodings, logits.start_logits.numpy(), logits.end_logits.numpy())


class Tags:
    """Maps a photo to its five most probable labels."""

    def __init__(self, folder: Path) -> None:
        bundle = read_bundle(folder)
        self.labels = bundle.labels
        self.network = resolve(TASK.network)(bundle).eval()
        size = bundle.preprocessor["size"]
        self.transform = v2.Compose(
            [
                v2.Resize(size, antialias=True),
                v2.CenterCrop(size),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(bundle.preprocessor["mean"], bundle.preprocessor["std"]),
            ]
        )

    def __call__(self, body: bytes) -> list[dict[str, Any]]:
        pixels = self.transform(Image.open(io.BytesIO(body)).convert("RGB"))
        with torch.inference_mode():
            logits, _ = self.network(pixels[None])
            scores = logits.sigmoid()[0]
        best = scores.topk(min(5, len(scores)))
        return [{"label": self.labels[i], "score": s} for s, i in zip(*(v.tolist() for v in best), strict=True)]
