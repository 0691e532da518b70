"""The intent engine: utterances to intents, for many callers at once.

Neighbours: `engine` puts it beside the answers, `text_model` batches, `nlp.intent.predictor` decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nlp.intent import TASK
from nlp.intent.predictor import IntentPredictor, IntentResult
from nlp.text import Encoding
from nlp.text_model import TextModel
from shared.bundle.read import Bundle
from shared.errors import InputError
from shared.runtime.protocol import Runtime
from shared.serving.lifecycle.loading import load_runtime
from shared.serving.settings import Settings

CPU_BATCH_SIZE = 16
GPU_BATCH_SIZE = 64

Outputs = Mapping[str, np.ndarray]


class IntentEngine(TextModel[dict[str, np.ndarray]]):
    """Answers for one intent model in one worker."""

    def __init__(self, bundle: Bundle, runtime: Runtime, settings: Settings) -> None:
        self.predictor = IntentPredictor(bundle, runtime)
        super().__init__(
            self.predictor,
            settings,
            items="utterances",
            limit=settings.max_queued_texts,
            batch_size=GPU_BATCH_SIZE if runtime.device == "cuda" else CPU_BATCH_SIZE,
            max_waiting=max(settings.max_queued_texts, settings.max_texts),
        )
        self.labels = bundle.labels

    @classmethod
    def load(cls, path: Path, settings: Settings) -> IntentEngine:
        """Return an engine for the bundle in `path`; blocks, and raises as `load_runtime`."""
        return cls(*load_runtime(path, TASK.network, settings, gpu_batch_size=GPU_BATCH_SIZE), settings)

    async def classify(self, text: str, *, top_k: int | None = None) -> IntentResult:
        """Return what an utterance wants; "nothing that is known" is a normal answer.

        Args:
            text: an utterance.
            top_k: most intents of the ranking; None for all.

        Raises:
            InputError: the text cannot be read.
            Overloaded: as many utterances as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        return self.decide(await self.run_text(text), top_k=top_k)

    async def classify_many(self, texts: Sequence[str], *, top_k: int | None = None) -> list[IntentResult | InputError]:
        """Return what each utterance wants, in their order; the error in the place of one that cannot be read."""
        found = await self.run_texts(texts)
        return [each if isinstance(each, InputError) else self.decide(each, top_k=top_k) for each in found]

    async def run_text(self, text: str) -> Outputs:
        """Return what the network says of one utterance; raises as `classify`."""
        (found,) = await self.run_texts([text])
        if isinstance(found, InputError):
            raise found
        return found

    async def run_texts(self, texts: Sequence[str]) -> list[Outputs | InputError]:
        """Return what the network says of each utterance; the error in the place of one that cannot be read."""
        start = time.perf_counter()
        async with self.admission.admitted(len(texts)):
            encodings = await self.off_loop(sum(map(len, texts)), self._encode_all, texts)
            encoded = time.perf_counter()
            readable = [each for each in encodings if isinstance(each, Encoding)]
            results = iter(await self.run_all(readable))
        self.metrics.preprocess_seconds.observe(encoded - start)
        return [next(results) if isinstance(each, Encoding) else each for each in encodings]

    def decide(self, outputs: Outputs, *, top_k: int | None = None) -> IntentResult:
        """Return what the network's outputs mean."""
        result = self.predictor.decide(outputs, top_k=top_k)
        if result.intent is None:
            self.metrics.answer("out_of_scope", score=result.confidence)
        else:
            self.metrics.answer("in_scope", result.intent, score=result.confidence)
        return result

    def _encode_all(self, texts: Sequence[str]) -> list[Encoding | InputError]:
        found: list[Encoding | InputError] = []
        for text in texts:
            try:
                found.append(self.predictor.encode(text))
            except InputError as error:
                found.append(error)
        return found
