"""Measures the bare model: Percept's own processing of a request, without HTTP, in several one-thread processes.

`python -m benchmarks.bare` reads its task as JSON from standard input and prints one line of JSON. `bare` runs it as a
subprocess, so that its processes inherit nothing from the benchmark.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import Load
from benchmarks.process import output_of
from benchmarks.workloads import WORKLOADS, Item, Kind, Workload, items
from shared.bundle.read import read_bundle
from shared.runtime.cpu import OnnxRuntime

WARM_CALLS = 20
WARM_S = 1.0
_PATIENCE_S = 120


def bare(workload: Workload, bundles: dict[str, Path], *, processes: int, seconds: float) -> Load:
    """Return the total calls per second of this many bare processes, and the latency of a call."""
    asked = {
        "workload": workload.name,
        "bundles": {kind: str(path) for kind, path in bundles.items()},
        "processes": processes,
        "seconds": seconds,
    }
    printed = output_of(["-m", "benchmarks.bare"], json.dumps(asked))
    return Load(**json.loads(printed.splitlines()[-1]))


def make_call(kind: Kind, bundle_path: Path) -> Callable[[Any], object]:
    """Return a function that does everything for one request in process: from bytes or text to a result."""
    bundle = read_bundle(bundle_path)
    runtime = OnnxRuntime(bundle, threads=1)
    if kind == "photo":
        from vision.images import decode_image
        from vision.tagging.predictor import TagPredictor

        tagger = TagPredictor(bundle, runtime)
        size = tagger.preprocessor.resize_px
        return lambda body: tagger.decide(
            tagger.infer([tagger.preprocess(decode_image(body, target_size_px=size).pixels)])[0]
        )
    if kind == "intent":
        from nlp.intent.predictor import IntentPredictor

        intents = IntentPredictor(bundle, runtime)
        return lambda text: intents.predict([text], top_k=5)
    from nlp.qa.predictor import AnswerPredictor

    answers = AnswerPredictor(bundle, runtime)
    return lambda asked: answers.answer(*asked)


def _loop(kind: Kind, bundle: Path, sent: list[Item], seconds: float, start: Any, answers: Any) -> None:
    call = make_call(kind, bundle)
    warm_end = time.perf_counter() + WARM_S
    for place in range(WARM_CALLS):
        call(sent[place % len(sent)])
        if time.perf_counter() > warm_end:
            break
    start.wait(_PATIENCE_S)
    begin = time.perf_counter()
    end = begin + seconds
    latencies = []
    while (now := time.perf_counter()) < end:
        call(sent[len(latencies) % len(sent)])
        latencies.append(time.perf_counter() - now)
    answers.put((time.perf_counter() - begin, latencies))


def _measure(asked: dict[str, Any]) -> dict[str, Any]:
    workload = WORKLOADS[asked["workload"]]
    bundles = {kind: Path(path) for kind, path in asked["bundles"].items()}
    sent = items(workload, bundles)
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(asked["processes"]), context.Queue()
    arguments = (workload.kind, bundles[workload.kind], sent, asked["seconds"], start, answers)
    started = [context.Process(target=_loop, args=arguments, daemon=True) for _ in range(asked["processes"])]
    for process in started:
        process.start()
    found = [answers.get(timeout=_PATIENCE_S + 2 * asked["seconds"]) for _ in started]
    for process in started:
        process.join()
    latencies = np.concatenate([each for _, each in found]) * 1000
    p50, p99, most = np.percentile(latencies, [50, 99, 100])
    seconds = max(took for took, _ in found)
    return {"seconds": seconds, "requests": len(latencies), "p50_ms": p50, "p99_ms": p99, "max_ms": most, "errors": {}}


if __name__ == "__main__":
    print(json.dumps(_measure(json.load(sys.stdin))))
