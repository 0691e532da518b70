"""One language model in one worker: texts for many callers at once, and tensors for Open Inference clients.

Texts become encodings before they reach a batch, so a bad one fails alone. The network runs in the batcher's thread,
but for a short text that is alone; what takes long beside it, such as reading a long context, runs in a few threads of
its own, and the event loop only waits. Neighbours: `intent_engine` and `answer_engine` are its two kinds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, Encoding, TextEncoder
from shared.bundle.layout import TensorSignature
from shared.bundle.read import Bundle
from shared.errors import InputError
from shared.runtime.batcher import MicroBatcher
from shared.runtime.protocol import Runtime, Tensors, check_inputs
from shared.serving.http.limits import Admission
from shared.serving.observe.metrics import ModelMetrics
from shared.serving.settings import Settings

LONG_TEXT = 2_000
"""Characters from which on tokenising leaves the event loop: it takes about a millisecond then, and a thread 0.1."""
_THREADS = 2
_INLINE_S = 0.004
"""Less than a thread keeps the interpreter from others when it has work (5 ms): nobody else notices."""

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Done = TypeVar("Done")


class TextPredictor(Protocol[Result_co]):
    """What is asked of a predictor."""

    bundle: Bundle
    runtime: Runtime
    encoder: TextEncoder

    def infer(self, batch: Sequence[Encoding], /) -> Sequence[Result_co]:
        """Return one result an encoding."""
        ...


class TextModel(Generic[Result]):
    """Runs a predictor's network for whoever asks.

    Args:
        predictor: is asked in batches; its runtime is closed with the model.
        settings: limits and sizes.
        items: what is counted in, such as "questions", for messages.
        limit: how many of them may be in hand.
        batch_size: encodings in one call of the network, where the settings say nothing.
        max_waiting: encodings that may wait for the network.
    """

    def __init__(
        self,
        predictor: TextPredictor[Result],
        settings: Settings,
        *,
        items: str,
        limit: int,
        batch_size: int,
        max_waiting: int,
    ) -> None:
        self.bundle = predictor.bundle
        self.runtime = predictor.runtime
        self.settings = settings
        self.name = self.bundle.name
        self.version = self.bundle.version
        self.inputs: tuple[TensorSignature, ...] = self.runtime.inputs
        self.outputs: tuple[TensorSignature, ...] = self.runtime.outputs
        self.encoder = predictor.encoder
        self.admission = Admission(limit, settings.deadline_s, items)
        self._infer_encodings = predictor.infer
        self.metrics = ModelMetrics(self.name, self.bundle.labels)
        self._batcher: MicroBatcher[Encoding | Tensors, Any] = MicroBatcher(
            self._infer_batch,
            max_batch_size=settings.max_batch_size or batch_size,
            max_queue=max_waiting,
            name=self.name,
            size=_tokens,
            on_batch=self.metrics.batch,
            inline_s=_INLINE_S if self.runtime.device == "cpu" else 0.0,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="text")

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return not self.admission.is_closed

    async def run(self, encoding: Encoding) -> Result:
        """Return what the network says of one encoding; the caller was admitted before."""
        result: Result = await self._batcher.submit(encoding)
        return result

    async def run_all(
        self, encodings: Sequence[Encoding], run: Callable[[Encoding], Awaitable[Result]] | None = None
    ) -> list[Result]:
        """Return what `run` gives for each, in their order; where one fails, the others leave the queue."""
        run = run or self.run
        if len(encodings) == 1:
            return [await run(encodings[0])]
        tasks = [asyncio.ensure_future(run(each)) for each in encodings]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def off_loop(self, characters: int, function: Callable[..., Done], *arguments: Any) -> Done:
        """Return what a function gives, from a thread where it reads many characters."""
        if characters < LONG_TEXT:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the network's outputs for int64 [N, T] tensors of its signature.

        Raises:
            InputError: another name, dtype or shape, more rows or tokens than the limit, ids that are no tokens.
        """
        check_inputs(self.inputs, inputs)
        self._check_tokens(inputs)
        async with self.admission.admitted(len(inputs[INPUT_IDS])):
            outputs: dict[str, np.ndarray] = await self._batcher.submit(inputs)
        if not all(np.isfinite(array).all() for array in outputs.values()):
            raise InputError("the network's answer is not finite: a row of attention_mask may hold no 1.")
        return outputs

    async def close(self) -> None:
        """Refuse new texts, answer those in hand, then free the model."""
        self.admission.close()
        await self._batcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.runtime.close()

    def _check_tokens(self, inputs: Mapping[str, np.ndarray]) -> None:
        rows, length = inputs[INPUT_IDS].shape
        if rows > self.settings.max_texts:
            raise InputError(f"the tensors have {rows} rows; the limit is {self.settings.max_texts}. Send fewer.")
        if length > self.encoder.max_length:
            raise InputError(f"the tensors are {length} tokens long; this model reads {self.encoder.max_length}.")
        for name, tokens in inputs.items():
            most = {INPUT_IDS: self.encoder.vocabulary_size - 1, ATTENTION_MASK: 1, TOKEN_TYPE_IDS: 1}.get(name)
            if most is not None and (tokens.min() < 0 or tokens.max() > most):
                raise InputError(f"the values of {name} must be 0 to {most}; came {tokens.min()} to {tokens.max()}.")

    # What follows runs where the batcher computes.

    def _infer_batch(self, batch: list[Encoding | Tensors]) -> list[Any]:
        encodings = [item for item in batch if isinstance(item, Encoding)]
        results = iter(self._infer_encodings(encodings) if encodings else ())
        return [next(results) if isinstance(item, Encoding) else self.runtime.run(item) for item in batch]


def _tokens(item: Encoding | Tensors) -> int:
    return len(item) if isinstance(item, Encoding) else item[INPUT_IDS].size
