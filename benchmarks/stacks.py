"""The stacks to compare: how to start each one, and which request format it accepts.

All get the same model files, the same number of workers, and one compute thread per worker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.load import Request
from benchmarks.peers import EAGER, FOLDERS, WORKERS
from benchmarks.process import Server, free_port, output_of, running
from benchmarks.workloads import Family, Item, Kind
from shared.project import PROJECT_ROOT

MODELS = PROJECT_ROOT / "models"
PERCEPT_SETTINGS = {"PERCEPT_MAX_QUEUE": "1024"}
"""The other stacks queue any number of requests; with its default, Percept would refuse some at 128 connections."""
_BOUNDARY = "percept-benchmark"


@dataclass
class Setup:
    """What all stacks in a run share."""

    workers: int = os.cpu_count() or 1
    bundles: dict[str, Path] = field(
        default_factory=lambda: {"intent": MODELS / "intent", "qa": MODELS / "qa", "photo": MODELS / "tagger"}
    )
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further variables of the environment."""
    eager: Path | None = None
    """Folder of the eager peers' networks, once `make_eager` has created them."""

    def make_eager(self, folder: Path) -> None:
        """Create the eager peers' networks: fp32, with the bundles' architectures."""
        named = [f"{kind}={self.bundles[kind]}" for kind in ("intent", "qa")]
        output_of(["-m", "benchmarks.peers.eager_weights", str(folder), *named])
        self.eager = folder


Command = Callable[[Setup, Family, int], list[str]]
Form = Callable[[Kind, Item], Request]


@dataclass(frozen=True)
class Stack:
    """One way to serve the models."""

    name: str
    """Its name on the command line."""
    title: str
    command: Command
    """(setup, family, port) -> what follows `python`."""
    form: Form
    kinds: frozenset[Kind] = frozenset({"intent", "qa", "photo"})
    """What it answers."""
    is_eager: bool = False

    def requests(self, kind: Kind, sent: Sequence[Item]) -> list[Request]:
        """Return the requests for these items."""
        return [self.form(kind, item) for item in sent]

    @contextmanager
    def started(self, setup: Setup, family: Family, first: Request) -> Iterator[Server]:
        """Yield the server with the models of a family; raises CannotStart.

        Args:
            setup: models and workers.
            family: language or vision.
            first: a request it must answer before it counts as started.
        """
        port = free_port()
        kinds = ("intent", "qa") if family == "language" else ("photo",)
        variables = {FOLDERS[kind]: str(setup.bundles[kind]) for kind in kinds}
        variables |= (
            {WORKERS: str(setup.workers), EAGER: str(setup.eager or "")} | PERCEPT_SETTINGS | dict(setup.variables)
        )
        with running(self.command(setup, family, port), first, port=port, variables=variables) as server:
            yield server


def _percept(setup: Setup, family: Family, port: int, *, everything: bool = False) -> list[str]:
    kinds = ["intent", "qa"] if family == "language" else ["photo"]
    named = [str(setup.bundles[kind]) for kind in (["photo", "intent", "qa"] if everything else kinds)]
    options = ["--port", str(port), "--workers", str(setup.workers), "--device", "cpu", "--no-ui"]
    return ["-m", "scripts.main", "serve", *named, *options]


def _uvicorn(setup: Setup, family: Family, port: int, *, app: str) -> list[str]:
    options = ["--port", str(port), "--workers", str(setup.workers), "--log-level", "warning"]
    return ["-m", "uvicorn", "--factory", f"benchmarks.peers.{app}:create", *options]


def _bentoml(setup: Setup, family: Family, port: int, *, service: str = "") -> list[str]:
    name = service or {"language": "Language", "vision": "Vision"}[family]
    return ["-m", "bentoml", "serve", f"benchmarks.peers.bentoml_plain:{name}", "--port", str(port)]


def _litserve(setup: Setup, family: Family, port: int) -> list[str]:
    kinds = ["intent", "qa"] if family == "language" else ["photo"]
    return ["-m", "benchmarks.peers.litserve_batched", str(port), *kinds]


def _form(kind: Kind, item: Item, *, paths: dict[Kind, str], has_form: bool = False) -> Request:
    if isinstance(item, bytes):
        if not has_form:
            return Request(paths[kind], "image/jpeg", item)
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + item + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return Request(paths[kind], f"multipart/form-data; boundary={_BOUNDARY}", body)
    fields = {"question": item} if kind == "documents" else {"text": item}
    if isinstance(item, tuple):
        fields = {"question": item[0], "context": item[1]}
    return Request(paths[kind], "application/json", json.dumps(fields).encode())


def _texts(kind: Kind, item: Item) -> Request:
    return Request("/intent", "application/json", json.dumps({"texts": [item]}).encode())


_OURS: dict[Kind, str] = {"intent": "/v1/intent", "qa": "/v1/answer", "documents": "/v1/answer", "photo": "/v1/tag"}
_THEIRS: dict[Kind, str] = {"intent": "/intent", "qa": "/answer", "documents": "/documents", "photo": "/tag"}
_ALL: frozenset[Kind] = frozenset({"intent", "qa", "documents", "photo"})
_plain = partial(_form, paths=_THEIRS)
_with_form = partial(_form, paths=_THEIRS, has_form=True)
PERCEPT = "percept"
STACKS = {
    each.name: each
    for each in (
        Stack(PERCEPT, "Percept, one service", _percept, partial(_form, paths=_OURS), kinds=_ALL),
        Stack("percept-all", "Percept, all in one", partial(_percept, everything=True), partial(_form, paths=_OURS),
              kinds=_ALL),
        Stack("fastapi-onnx", "FastAPI + ONNX Runtime", partial(_uvicorn, app="fastapi_onnx"), _plain, kinds=_ALL),
        Stack("litserve", "LitServe, batches of 16", _litserve, _with_form),
        Stack("bentoml", "BentoML, plain", _bentoml, _with_form),
        Stack("bentoml-batch", "BentoML, batchable", partial(_bentoml, service="Batched"), _texts,
              kinds=frozenset({"intent"})),
        Stack("fastapi-eager", "FastAPI + transformers, torchvision", partial(_uvicorn, app="fastapi_eager"), _plain,
              kinds=_ALL, is_eager=True),
    )
}  # fmt: skip
