"""A bento asked before anybody relies on it: served from the store, far from the checkout, and compared in process.

Each bundle is asked twice: with its golden inputs over the Open Inference Protocol, and with what a person would send
over the route that people use. What `bentoml build` packed, imported and found is all there is to answer with.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.bundle.read import Bundle
from shared.errors import PerceptError
from shared.packaging.build import Bento
from shared.packaging.golden import Question, question_for
from shared.packaging.plan import Plan
from shared.runtime.choose import choose_runtime
from shared.runtime.golden import check_golden, tolerance_of
from shared.runtime.protocol import Runtime
from shared.serving.settings import PREFIX, Settings
from shared.task import Task, resolve

_START_S = 180.0
_STOP_S = 60.0
_ASK_S = 60.0
_SHOWN = 2000
_SCORE_TOLERANCE = 1e-4
"""Of a score on a CPU: the same runtime computes here and there, but in batches of other sizes. On a GPU: bf16."""
_GPU_SCORE_TOLERANCE = 0.05
_LOGIT_TOLERANCE = 1e-3
"""On a CPU, of one input alone: the same runtime, and numbers that went through JSON."""
_JSON = "application/json"


@dataclass(frozen=True)
class Asked:
    """One request that was answered as it should be."""

    route: str
    said: str


def check_bento(bento: Bento, plan: Plan, tasks: Mapping[str, Task]) -> list[Asked]:
    """Serve a bento on a free port, ask it of every bundle, stop it, and return what was asked.

    Raises:
        PerceptError: it does not start, answers something else, or does not stop when it is told to.
    """
    asked = []
    with _serving(bento, plan) as port:
        for bundle in plan.bundles.values():
            task = tasks[bundle.config.task]
            runtime = choose_runtime(bundle, "cuda" if plan.gpu else "cpu", network=task.network)
            asked.append(_ask_golden(port, bundle, runtime))
            asked.append(
                _ask_as_people_do(port, bundle, runtime, task, _GPU_SCORE_TOLERANCE if plan.gpu else _SCORE_TOLERANCE)
            )
    return asked


def _ask_golden(port: int, bundle: Bundle, runtime: Runtime) -> Asked:
    """The network's own numbers, of the first golden input alone."""
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
    for output in _ask(port, route, json.dumps({"inputs": inputs}).encode(), _JSON)["outputs"]:
        expected = here[output["name"]].astype(np.float64)
        came = np.array(output["data"], dtype=np.float64).reshape(output["shape"])
        if came.shape != expected.shape:
            raise PerceptError(f"{route} gives {output['name']} as {came.shape}; expected {expected.shape}.")
        largest = max(largest, float(np.abs(came - expected).max()))
        allowed = tolerance_of(bundle, runtime, expected) if runtime.device == "cuda" else _LOGIT_TOLERANCE
        if not largest <= allowed:
            raise PerceptError(
                f"{route} differs from {bundle.path} in process by {largest:.3g}; allowed is {allowed:.3g}."
            )
    return Asked(route, f"golden input as in process, within {largest:.1g}")


def _ask_as_people_do(port: int, bundle: Bundle, runtime: Runtime, task: Task, tolerance: float) -> Asked:
    question: Question = question_for(bundle.config.task)
    here = next(iter(resolve(task.predict)(bundle, runtime, [question.input], question.options))).values
    there = _ask(port, question.route, question.body, question.content_type)
    expected, came = question.pick_here(here), question.pick_there(there)
    if not same(expected, came, tolerance):
        raise PerceptError(f"{question.route} answers {came!r}; in process {bundle.path} answers {expected!r}.")
    return Asked(question.route, question.show(came))


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
    """Serve on a free port until the block ends: one worker, in a folder and a BENTOML_HOME that are empty."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="percept-smoke-") as name:
        folder = Path(name)
        log = folder / "log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith((PREFIX, "PYTHONPATH"))}
        environment = kept | {
            # Not the store's: BentoML empties a folder in it at every start, which another server may be using.
            "BENTOML_HOME": str(folder / "home"),
            "BENTOML_DO_NOT_TRACK": "True",
            f"{PREFIX}WORKERS": "1",
            f"{PREFIX}DEVICE": "cuda" if plan.gpu else "cpu",
            f"{PREFIX}UI": "false",
            f"{PREFIX}KNOWLEDGE": str(folder / "knowledge.sqlite"),
        }
        command = [sys.executable, "-m", "bentoml", "serve", str(bento.path), "--host", "127.0.0.1"]
        command += [
            "--port",
            str(port),
            "--timeout-graceful-shutdown",
            str(Settings.model_fields["shutdown_s"].default),
        ]  # as the image does
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
                process.terminate()  # its workers have sessions of their own: killed, it would leave them behind
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


def _ask(port: int, route: str, body: bytes, content_type: str) -> Any:
    try:
        status, said = _send(port, "POST", route, body, content_type)
    except (OSError, http.client.HTTPException) as error:
        raise PerceptError(f"{route} of the bento gives no answer: {error}") from error
    if status != 200:
        raise PerceptError(f"{route} of the bento answers {status}: {said[:_SHOWN].decode(errors='replace')}")
    return json.loads(said)


def _send(port: int, method: str, route: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    """Ask over a connection of its own; no proxy stands in between."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_S)
    try:
        connection.request(method, route, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-_SHOWN:] or "it logged nothing"
