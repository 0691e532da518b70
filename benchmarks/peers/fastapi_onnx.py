"""FastAPI with ONNX Runtime: plain `def` routes, which FastAPI runs in threads. uvicorn calls `create`."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from benchmarks.peers import FOLDERS
from benchmarks.peers.documents import Documents
from benchmarks.peers.onnx_models import Answers, Intents, Tags, opened


class Text(BaseModel):
    """The body of POST /intent."""

    text: str


class Asked(BaseModel):
    """The body of POST /documents."""

    question: str


class Question(BaseModel):
    """The body of POST /answer."""

    question: str
    context: str


def create() -> FastAPI:
    """Return an app for the models whose folders are set."""
    app = FastAPI()
    if FOLDERS["intent"] in os.environ:
        intents = Intents()

        @app.post("/intent")
        def intent(body: Text) -> list[dict[str, Any]]:
            return intents([body.text])[0]

    if FOLDERS["qa"] in os.environ:
        answers = Answers()

        @app.post("/answer")
        def answer(body: Question) -> dict[str, Any]:
            return answers(body.question, body.context)

        documents = Documents(answers)

        @app.post("/documents")
        def from_documents(body: Asked) -> dict[str, Any]:
            return documents(body.question)

    if FOLDERS["photo"] in os.environ:
        tags = Tags()

        @app.post("/tag")
        async def tag(request: Request) -> list[dict[str, Any]]:
            body = await request.body()
            return await run_in_threadpool(lambda: tags([opened(body)])[0])

    return app
