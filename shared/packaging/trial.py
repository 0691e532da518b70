"""A bento tried before anybody relies on it: served far from the checkout, and compared with the predictor in process.

Each bundle gets two requests: its golden input over the Open Inference Protocol, and what a person would send over the
route that people use.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.bundle.read import Bundle
from shared.errors import ConfigError, PerceptError
from shared.packaging.bento import Bento, Plan
from shared.project import CODE_ROOT
from shared.runtime.choose import choose_runtime
from shared.runtime.golden import check_golden, tolerance_of
from shared.runtime.protocol import Runtime
from shared.serving.host.server import free_port
from shared.serving.settings import PREFIX, Settings
from shared.task import PredictOptions, Task, resolve

_START_S = 180.0
_STOP_S = 60.0
_REQUEST_S = 60.0
_SHOWN_CHARS = 2000
_SCORE_TOLERANCE = 1e-4
"""Of a score on a CPU: the same runtime here and there, but batches of other sizes. On a GPU: bf16."""
_GPU_SCORE_TOLERANCE = 0.05
_LOGIT_TOLERANCE = 1e-3
"""On a CPU, of one input alone: the same runtime, and numbers that were JSON in between."""
_JSON = "application/json"
_PHOTO = CODE_ROOT / "vision" / "page" / "samples" / "dahlia.jpg"
_UTTERANCE = "book a flight"
_QUESTION = "Who keeps the light?"
_CONTEXT = "The light on the rock is kept by Ada Brandt."


@dataclass(frozen=True)
class Passed:
    """A request that was answered as it should be."""

    route: str
    found: str


@dataclass(frozen=True)
class Sample:
    """One request, and the same input for `percept predict`."""

    route: str
    body: bytes
    content_type: str
    input: str
    pick_here: Callable[[dict[str, Any]], Any]
    """What is compared, from `Predicted.values`."""
    pick_there: Callable[[Any], Any]
    """The same, from the response."""
    show: Callable[[Any], str]
    options: PredictOptions = field(default_factory=PredictOptions)


def sample_of(task: str) -> Sample:
    """Return what a bundle for that task is tried with.

    Raises:
        ConfigError: no service has a route for it.
    """
    if task == "tagging":
        return Sample(
            route="/v1/tag",
            body=_PHOTO.read_bytes(),
            content_type="image/jpeg",
            input=str(_PHOTO),
            pick_here=lambda values: _fields(values["tags"], "label", "score"),
            pick_there=lambda body: _fields(body["results"][0]["tags"], "label", "score"),
            show=lambda tags: f"{_PHOTO.name}: {_shown(tags)}",
        )
    if task == "intent":
        compared = ("intent", "confidence", "out_of_scope", "out_of_scope_score")
        return Sample(
            route="/v1/intent",
            body=json.dumps({"text": _UTTERANCE}).encode(),
            content_type=_JSON,
            input=_UTTERANCE,
            pick_here=lambda values: _fields([values], *compared),
            pick_there=lambda body: _fields(body["results"], *compared),
            show=lambda found: f"{_UTTERANCE!r}: {found[0]['intent'] or 'out of scope'} {found[0]['confidence']:.2f}",
        )
    if task == "qa":
        compared = ("text", "score", "start", "end")
        return Sample(
            route="/v1/answer",
            body=json.dumps({"question": _QUESTION, "context": _CONTEXT}).encode(),
            content_type=_JSON,
            input=_QUESTION,
            options=PredictOptions(context=_CONTEXT),
            pick_here=lambda values: _fields(values["answers"][:1], *compared),
            pick_there=lambda body: _fields([body["answer"]] if body["answer"] else [], *compared),
            show=lambda found: f"{_QUESTION!r}: {found[0]['text'] if found else 'no answer'}",
        )
    raise ConfigError(f"there is no request to try a bundle for the task {task!r} with.")


def _fields(results: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: result[name] for name in names} for result in results]


def _shown(tags: list[dict[str, Any]]) -> str:
    return ", ".join(f"{tag['label']} {tag['score']:.2f}" for tag in tags) or "no tag"


def try_bento(bento: Bento, plan: Plan, tasks: Mapping[str, Task]) -> list[Passed]:
    """Serve a bento on a free port, send it requests for every bundle, stop it, and return what was sent.

    Raises:
        PerceptError: it does not start, gives another answer, or does not stop when told to.
    """
    passed = []
    with _serving(bento, plan) as port:
        for bundle in plan.bundles.values():
            task = tasks[bundle.config.task]
            runtime = choose_runtime(bundle, "cuda" if plan.gpu else "cpu", network=task.network)
            passed.append(_try_golden(port, bundle, runtime))
            tolerance = _GPU_SCORE_TOLERANCE if plan.gpu else _SCORE_TOLERANCE
            passed.append(_try_sample(port, bundle, runtime, task, tolerance))
    return passed


def _try_golden(port: int, bundle: Bundle, runtime: Runtime) -> Passed:
    """Compare the network's own numbers, for the first golden input alone."""
    route = f"/v2/models/{bundle.name}/infer"
    one = {name: array[:1] for name, array in bundle.golden.inputs.items()}
    datatypes = {"float32": "FP32", "int64": "INT64"}
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatypes[str(array.dtype)],
            "data": array.ravel().tolist(),
        }
        for name, array in one.items()
    ]
    check_golden(bundle, runtime)
    here = runtime.run(one)
    largest = 0.0
    for output in _post(port, route, json.dumps({"inputs": inputs}).encode(), _JSON)["outputs"]:
        expected = here[output["name"]].astype(np.float64)
        found = np.array(output["data"], dtype=np.float64).reshape(output["shape"])
        if found.shape != expected.shape:
            raise PerceptError(f"{route} gives {output['name']} as {found.shape}; expected {expected.shape}.")
        largest = max(largest, float(np.abs(found - expected).max()))
        allowed = tolerance_of(bundle, runtime, expected) if runtime.device == "cuda" else _LOGIT_TOLERANCE
        if not largest <= allowed:
            raise PerceptError(
                f"{route} differs from {bundle.path} in process by {largest:.3g}; allowed is {allowed:.3g}."
            )
    return Passed(route, f"golden input as in process, within {largest:.1g}")


def _try_sample(port: int, bundle: Bundle, runtime: Runtime, task: Task, tolerance: float) -> Passed:
    sample = sample_of(bundle.config.task)
    here = next(iter(resolve(task.predict)(bundle, runtime, [sample.input], sample.options))).values
    there = _post(port, sample.route, sample.body, sample.content_type)
    expected, found = sample.pick_here(here), sample.pick_there(there)
    if not same(expected, found, tolerance):
        raise PerceptError(f"{sample.route} answers {found!r}; in process {bundle.path} answers {expected!r}.")
    return Passed(sample.route, sample.show(found))


def same(first: Any, second: Any, tolerance: float) -> bool:
    """Return whether two JSON values are equal, numbers within a tolerance.

    >>> same([{"score": 0.5}], [{"score": 0.50001}], 1e-4), same({"a": 1}, {"a": None}, 1)
    (True, False)
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key], tolerance) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(lambda a, b: same(a, b, tolerance), first, second))
    if isinstance(first, float) and isinstance(second, int | float):
        return abs(first - second) <= tolerance
    return bool(first == second)


@contextmanager
def _serving(bento: Bento, plan: Plan) -> Iterator[int]:
    """Serve on a free port until the block ends, with one worker, in an empty folder with an empty BENTOML_HOME."""
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="percept-trial-") as name:
        folder = Path(name)
        log = folder / "log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith((PREFIX, "PYTHONPATH"))}
        environment = kept | {
            # Not the store's: BentoML empties a folder in it at every start, and another server may be using that.
            "BENTOML_HOME": str(folder / "home"),
            "BENTOML_DO_NOT_TRACK": "True",
            f"{PREFIX}WORKERS": "1",
            f"{PREFIX}DEVICE": "cuda" if plan.gpu else "cpu",
            f"{PREFIX}UI": "false",
            f"{PREFIX}KNOWLEDGE": str(folder / "knowledge.sqlite"),
        }
        command = [sys.executable, "-m", "bentoml", "serve", str(bento.path), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--timeout-graceful-shutdown", str(Settings().shutdown_s)]  # as the image does
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603 our own command
                command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            _wait_until_ready(port, process, log)
            yield port
            process.terminate()
            if process.wait(_STOP_S):
                raise PerceptError(
                    f"{bento.tag} ended with {process.returncode} when it was told to stop: {_tail(log)}"
                )
        except subprocess.TimeoutExpired as error:
            raise PerceptError(f"{bento.tag} did not stop within {_STOP_S:.0f} s: {_tail(log)}") from error
        finally:
            if process.poll() is None:
                process.terminate()  # its workers have sessions of their own: killing it would leave them behind
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_S)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # it has a session of its own
                process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if _send(port, "GET", "/readyz", b"", _JSON)[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    reason = (
        f"ended with {process.returncode}" if process.poll() is not None else f"is not ready after {_START_S:.0f} s"
    )
    raise PerceptError(f"the bento {reason}: {_tail(log)}")


def _post(port: int, route: str, body: bytes, content_type: str) -> Any:
    try:
        status, answer = _send(port, "POST", route, body, content_type)
    except (OSError, http.client.HTTPException) as error:
        raise PerceptError(f"{route} of the bento gives no answer: {error}") from error
    if status != 200:
        raise PerceptError(f"{route} of the bento answers {status}: {answer[:_SHOWN_CHARS].decode(errors='replace')}")
    return json.loads(answer)


def _send(port: int, method: str, route: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    """Send a request over a connection of its own, past any proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_REQUEST_S)
    try:
        connection.request(method, route, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-_SHOWN_CHARS:] or "it logged nothing"
