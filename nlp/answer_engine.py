"""The answer engine: questions with contexts to places in them, for many callers at once.

A long context becomes many windows. A question has only a few of them with the network at once, so that short ones come
in between. Neighbours: `engine` searches the contexts, `text_model` batches, `nlp.qa.predictor` decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nlp.qa import TASK
from nlp.qa.predictor import Answer, AnswerPredictor, Logits
from nlp.text import Encoding
from nlp.text_model import TextModel
from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime
from shared.serving.lifecycle.loading import load_runtime
from shared.serving.settings import Settings

CPU_BATCH_SIZE = 4
"""Windows are long: more of them at once gain nothing on a CPU and let a short one wait."""
GPU_BATCH_SIZE = 32


class AnswerEngine(TextModel[Logits]):
    """Answers for one question-answering model in one worker."""

    def __init__(self, bundle: Bundle, runtime: Runtime, settings: Settings) -> None:
        self.predictor = AnswerPredictor(bundle, runtime)
        batch_size = GPU_BATCH_SIZE if runtime.device == "cuda" else CPU_BATCH_SIZE
        self.windows_at_once = 2 * (settings.max_batch_size or batch_size)
        """Of one question: one batch that is computed and one that waits."""
        super().__init__(
            self.predictor,
            settings,
            items="questions",
            limit=settings.max_queue,
            batch_size=batch_size,
            max_waiting=self.windows_at_once * settings.max_queue + settings.max_texts,
        )

    @classmethod
    def load(cls, path: Path, settings: Settings) -> AnswerEngine:
        """Return an engine for the bundle in `path`; blocks, and raises as `load_runtime`."""
        return cls(*load_runtime(path, TASK.network, settings, gpu_batch_size=GPU_BATCH_SIZE), settings)

    async def answer(
        self, question: str, context: str, *, top_k: int = 1, max_answer_tokens: int | None = None
    ) -> list[Answer]:
        """Return the best answers, the most probable first, however improbable; `is_answer` says which may be given.

        Args:
            question: longer ones are cut off behind a quarter of a window.
            context: where the answer stands; `context[answer.start:answer.end] == answer.text`.
            top_k: at most so many.
            max_answer_tokens: longer ones are no candidates; None for what the bundle says, which is also the most.

        Raises:
            InputError: a text cannot be read.
            Overloaded: as many questions as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        async with self.admission.admitted():
            (found,) = await self.read(question, [context], top_k=top_k, max_answer_tokens=max_answer_tokens)
        self.count(found[0] if found else None)
        return found

    def is_answer(self, answer: Answer) -> bool:
        """Whether it is sure enough to be given; otherwise the context holds no answer, which is a normal answer."""
        return self.predictor.is_answer(answer)

    def count(self, best: Answer | None) -> None:
        """Let the metrics know of an answer, or of none, to one question."""
        is_answered = best is not None and self.is_answer(best)
        self.metrics.answer("answered" if is_answered else "unanswerable", score=best.score if best else None)

    async def read(
        self,
        question: str,
        contexts: Sequence[str],
        *,
        above: Sequence[int] | None = None,
        top_k: int = 1,
        max_answer_tokens: int | None = None,
    ) -> list[list[Answer]]:
        """Return the best answers of each context; the caller was admitted before.

        Args:
            question: as for `answer`.
            contexts: read one beside the other.
            above: how many characters of each context stand above its text, such as a heading: they are read, but no
                answer is taken from them. None for none.
            top_k: at most so many of each context.
            max_answer_tokens: as for `answer`.
        """
        start = time.perf_counter()
        characters = len(question) + sum(map(len, contexts))
        skipped = above or [0] * len(contexts)
        windows = await self.off_loop(characters, self._windows, question, contexts, skipped)
        encoded = time.perf_counter()
        logits = await self._run_some_at_once([window for of_one in windows for window in of_one])
        decide = partial(self.predictor.decide, top_k=top_k, max_answer_tokens=max_answer_tokens)
        found = await self.off_loop(characters, _decided, decide, contexts, windows, logits, skipped)
        self.metrics.preprocess_seconds.observe(encoded - start)
        return found

    async def _run_some_at_once(self, windows: Sequence[Encoding]) -> list[Logits]:
        room = asyncio.Semaphore(self.windows_at_once)

        async def run(window: Encoding) -> Logits:
            async with room:
                return await self.run(window)

        return await self.run_all(windows, run)

    def _windows(self, question: str, contexts: Sequence[str], above: Sequence[int]) -> list[list[Encoding]]:
        found = []
        for context, characters in zip(contexts, above, strict=True):
            windows = self.predictor.windows(question, context)
            if characters:
                windows = [
                    replace(window, is_text=window.is_text & (window.offsets[:, 0] >= characters)) for window in windows
                ]
            found.append(windows)
        return found


def _decided(
    decide: Callable[..., list[Answer]],
    contexts: Sequence[str],
    windows: Sequence[Sequence[Encoding]],
    logits: Sequence[Logits],
    above: Sequence[int],
) -> list[list[Answer]]:
    found = []
    rest = iter(logits)
    for context, of_one, characters in zip(contexts, windows, above, strict=True):
        answers = decide(context, of_one, [next(rest) for _ in of_one])
        found.append([_below(answer, context, characters) for answer in answers])
    return found


def _below(answer: Answer, context: str, above: int) -> Answer:
    """Return the answer without what an accent at the very start of the text would join to it from above."""
    start = max(answer.start, above)
    return replace(answer, text=context[start : answer.end], start=start)
