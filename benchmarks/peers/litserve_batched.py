"""LitServe with batches of 16: `python -m benchmarks.peers.litserve_batched PORT KIND…`.

`decode_request` has no type annotation, as in LitServe's own examples: LitServe would take one for the request's type.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import PIL.Image

from benchmarks.peers import WORKERS
from benchmarks.peers.onnx_models import Answers, Intents, Tags, opened

BATCH = 16
BATCH_TIMEOUT_S = 0.002


class IntentAPI(litserve.LitAPI):
    """POST /intent with `text`."""

    def setup(self, device: str) -> None:
        self.model = Intents()

    def decode_request(self, request):
        return str(request["text"])

    def predict(self, texts: list[str]) -> list[Any]:
        return self.model(texts)

    def encode_response(self, output):
        return output


class AnswerAPI(litserve.LitAPI):
    """POST /answer with `question` and `context`; the windows of one question form a batch."""

    def setup(self, device: str) -> None:
        self.model = Answers()

    def decode_request(self, request):
        return request["question"], request["context"]

    def predict(self, asked: Any) -> Any:
        return self.model(*asked)

    def encode_response(self, output):
        return output


class TagAPI(litserve.LitAPI):
    """POST /tag with `image` in a form."""

    def setup(self, device: str) -> None:
        self.model = Tags()

    def decode_request(self, request):
        return opened(request["image"].file.read())

    def predict(self, images: list[PIL.Image.Image]) -> list[Any]:
        return self.model(images)

    def encode_response(self, output):
        return output


def apis(kinds: list[str]) -> list[litserve.LitAPI]:
    """Return the APIs for these kinds of requests."""
    batched = {"max_batch_size": BATCH, "batch_timeout": BATCH_TIMEOUT_S}
    known = {
        "intent": lambda: IntentAPI(api_path="/intent", **batched),
        "qa": lambda: AnswerAPI(api_path="/answer"),
        "photo": lambda: TagAPI(api_path="/tag", **batched),
    }
    return [known[kind]() for kind in kinds]


if __name__ == "__main__":
    workers = int(os.environ[WORKERS])
    server = litserve.LitServer(apis(sys.argv[2:]), accelerator="cpu", devices=1, workers_per_device=workers)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=workers,
        log_level="warning",
        generate_client_file=False,
    )
