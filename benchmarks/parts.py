"""Shows where the time of one request goes: times each part alone, in process, on one thread. The rest is HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.workloads import Item, Workload, items
from shared.bundle.read import Bundle, read_bundle
from shared.runtime.cpu import OnnxRuntime

Parts = Iterator[tuple[str, Callable[[], object]]]
"""Name and function of each part, in order: each takes what the one before returns."""
REPEATS = 50
MOST_S = 2.0


def part_times(workload: Workload, bundles: dict[str, Path], *, repeats: int = REPEATS) -> dict[str, float]:
    """Return the median milliseconds of each part of one request.

    Args:
        workload: kind of request.
        bundles: kind -> bundle.
        repeats: how often each part runs; fewer if that would take longer than `MOST_S`.
    """
    bundle = read_bundle(bundles[workload.kind])
    parts = {"photo": _of_photo, "intent": _of_text, "qa": _of_question}[workload.kind]
    return {name: _median_ms(part, repeats) for name, part in parts(bundle, items(workload, bundles)[0])}


def _of_photo(bundle: Bundle, photo: Item) -> Parts:
    from vision.api import ImageTags, ModelInfo, TagOut, TagResponse
    from vision.images import decode_image
    from vision.tagging.predictor import TagPredictor

    assert isinstance(photo, bytes)
    predictor = TagPredictor(bundle, OnnxRuntime(bundle))
    size = predictor.preprocessor.resize_px
    decoded = decode_image(photo, target_size_px=size)
    yield "decode", lambda: decode_image(photo, target_size_px=size)
    pixels = predictor.preprocess(decoded.pixels)
    yield "preprocess", lambda: predictor.preprocess(decoded.pixels)
    outputs = predictor.infer([pixels])[0]
    yield "run", lambda: predictor.infer([pixels])
    tags = predictor.decide(outputs)
    yield "decide", lambda: predictor.decide(outputs)

    def response() -> str:
        out = [TagOut(label=tag.label, score=tag.score, parents=list(tag.parents)) for tag in tags]
        info = ModelInfo(name=bundle.name, version=bundle.version)
        image = ImageTags(tags=out, width=decoded.width, height=decoded.height)
        return TagResponse(model=info, results=[image]).model_dump_json()

    yield "serialise", response


def _of_text(bundle: Bundle, text: Item) -> Parts:
    from nlp.api import IntentOut, IntentResponse, IntentScoreOut, ModelInfo
    from nlp.intent.predictor import IntentPredictor

    assert isinstance(text, str)
    predictor = IntentPredictor(bundle, OnnxRuntime(bundle))
    encoding = predictor.encoder.encode(text)
    yield "tokenise", lambda: predictor.encoder.encode(text)
    outputs = predictor.infer([encoding])[0]
    yield "run", lambda: predictor.infer([encoding])
    result = predictor.decide(outputs, encoding, top_k=5)
    yield "decide", lambda: predictor.decide(outputs, encoding, top_k=5)

    def response() -> str:
        out = IntentOut(
            intent=result.intent,
            confidence=result.confidence,
            out_of_scope=result.out_of_scope,
            out_of_scope_score=result.out_of_scope_score,
            ranking=[IntentScoreOut(name=each.name, confidence=each.confidence) for each in result.ranking],
        )
        info = ModelInfo(name=bundle.name, version=bundle.version)
        return IntentResponse(model=info, results=[out]).model_dump_json()

    yield "serialise", response


def _of_question(bundle: Bundle, asked: Item) -> Parts:
    from nlp.api import AnswerOut, AnswerResponse, ModelInfo
    from nlp.qa.predictor import AnswerPredictor

    assert isinstance(asked, tuple)
    question, context = asked
    predictor = AnswerPredictor(bundle, OnnxRuntime(bundle))
    windows = predictor.windows(question, context)
    yield "tokenise", lambda: predictor.windows(question, context)
    logits = predictor.infer(windows)
    yield "run", lambda: predictor.infer(windows)
    answer = predictor.decide(context, windows, logits)[0]
    yield "decide", lambda: predictor.decide(context, windows, logits)

    def response() -> str:
        out = AnswerOut(text=answer.text, score=answer.score, start=answer.start, end=answer.end, source=None)
        info = ModelInfo(name=bundle.name, version=bundle.version)
        return AnswerResponse(model=info, answer=out, passages=[]).model_dump_json()

    yield "serialise", response


def _median_ms(part: Callable[[], object], repeats: int) -> float:
    part()  # the first call allocates memory
    taken: list[float] = []
    end = time.perf_counter() + MOST_S
    while len(taken) < repeats and (not taken or time.perf_counter() < end):
        start = time.perf_counter()
        part()
        taken.append((time.perf_counter() - start) * 1000)
    return median(taken)
