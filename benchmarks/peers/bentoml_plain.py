"""BentoML as its getting-started pages show it: typed `@bentoml.api` methods, untuned. `bentoml serve` runs a class."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import PIL.Image

from benchmarks.peers import WORKERS
from benchmarks.peers.onnx_models import Answers, Intents, Tags

_WORKERS = int(os.environ.get(WORKERS, "1"))


@bentoml.service(workers=_WORKERS)
class Language:
    """POST /intent with `text`, POST /answer with `question` and `context`."""

    def __init__(self) -> None:
        self.intents = Intents()
        self.answers = Answers()

    @bentoml.api
    def intent(self, text: str) -> list[dict[str, Any]]:
        """Return the five most probable intents."""
        return self.intents([text])[0]

    @bentoml.api
    def answer(self, question: str, context: str) -> dict[str, Any]:
        """Return the best span."""
        return self.answers(question, context)


@bentoml.service(workers=_WORKERS)
class Vision:
    """POST /tag with `image` in a form."""

    def __init__(self) -> None:
        self.tags = Tags()

    @bentoml.api
    def tag(self, image: PIL.Image.Image) -> list[dict[str, Any]]:
        """Return the five most probable labels."""
        return self.tags([image])[0]


@bentoml.service(workers=_WORKERS)
class Batched:
    """POST /intent with `texts`, which BentoML gathers into batches."""

    def __init__(self) -> None:
        self.intents = Intents()

    @bentoml.api(batchable=True)
    def intent(self, texts: list[str]) -> list[list[dict[str, Any]]]:
        """Return the five most probable intents of each text."""
        return self.intents(texts)
