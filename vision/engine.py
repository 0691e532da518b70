"""The tagging engine: image bytes to tags for many callers at once.

Decoding and preprocessing run in a few threads, and so does the network where batches are of one; else it runs in the
batcher's, and a bad image fails before it reaches a batch. The event loop only waits. Neighbours: `vision.api` calls
it, `vision.tagging.predictor` decides.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.bundle.layout import TensorSignature
from shared.bundle.read import Bundle
from shared.errors import DeadlineExceeded, InputError
from shared.runtime.batcher import MicroBatcher
from shared.runtime.protocol import Runtime, check_inputs
from shared.serving.http.limits import Admission
from shared.serving.lifecycle.loading import load_runtime
from shared.serving.observe.metrics import ModelMetrics
from shared.serving.settings import Settings
from vision.images import decode_image
from vision.tagging import TASK
from vision.tagging.predictor import INPUT, OUTPUT, Tag, TagPredictor

GPU_BATCH_SIZE = 32


@dataclass(frozen=True)
class Timings:
    """Where the time of one image went, in seconds."""

    decode_s: float
    """Decoding and preprocessing; where images are batched, waiting for a thread too."""
    infer_s: float
    """Waiting for the network and computing."""


@dataclass(frozen=True, eq=False)
class Inference:
    """What the network said of one image."""

    logits: np.ndarray
    """float32 [num_labels], in the order of the labels."""
    width: int
    height: int
    """As the image is seen, after the turn that its EXIF asks for."""
    timings: Timings


@dataclass(frozen=True)
class TaggingResult:
    """The answer for one image."""

    tags: list[Tag]
    width: int
    height: int
    timings: Timings = field(compare=False)


class TaggingEngine:
    """Answers for one model in one worker.

    Args:
        bundle: what is served.
        runtime: computes it; closed with the engine.
        settings: limits and sizes.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime, settings: Settings) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self.settings = settings
        self.predictor = TagPredictor(bundle, runtime)
        self.name = bundle.name
        self.version = bundle.version
        self.labels = bundle.labels
        self.inputs: tuple[TensorSignature, ...] = runtime.inputs
        self.outputs: tuple[TensorSignature, ...] = runtime.outputs
        self.metrics = ModelMetrics(self.name, self.labels)
        self._max_batch_size = settings.max_batch_size or (GPU_BATCH_SIZE if runtime.device == "cuda" else 1)
        self._batcher: MicroBatcher[np.ndarray, np.ndarray] = MicroBatcher(
            self.predictor.infer,
            max_batch_size=self._max_batch_size,
            max_queue=settings.max_queue,
            name="tagger",
            on_batch=self.metrics.batch,
        )
        self._network = threading.Lock()  # one image at a time: two would take twice the memory and no less time
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self.admission = Admission(settings.max_queue, settings.deadline_s, "images")

    @classmethod
    def load(cls, settings: Settings) -> TaggingEngine:
        """Return an engine whose model gave its golden outputs; blocks for as long as that takes."""
        return cls(*_load(Path(settings.tagger), settings), settings)

    def replaced(self, task: str, path: Path) -> TaggingEngine:
        """Return an engine for the bundle in `path`, as `load`; there is but one task."""
        assert task == TASK.name
        return TaggingEngine(*_load(path, self.settings), self.settings)

    @property
    def models(self) -> list[TaggingEngine]:
        """The one that there is."""
        return [self]

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return not self.admission.is_closed

    async def tag(self, data: bytes, *, top_k: int | None = None, min_score: float | None = None) -> TaggingResult:
        """Return the tags of one image, the most probable first; none is a normal answer.

        Args:
            data: an image file's bytes.
            top_k: at most so many tags.
            min_score: the least score; None for each label's own threshold.

        Raises:
            InvalidImage, UnsupportedMedia, TooLarge: as `decode_image`.
            Overloaded: as many images as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        seen = await self.logits(data)
        tags = self.predictor.decide(seen.logits, top_k=top_k, min_score=min_score)
        if tags:
            self.metrics.answer("tagged", tags[0].label, score=tags[0].score)
        else:
            self.metrics.answer("untagged")
        return TaggingResult(tags, seen.width, seen.height, seen.timings)

    async def scores(self, data: bytes) -> np.ndarray:
        """Return the calibrated probabilities of all labels for one image, float64 [num_labels]; raises as `tag`."""
        return self.predictor.scores((await self.logits(data)).logits)

    async def logits(self, data: bytes) -> Inference:
        """Return what the network says of one image; raises as `tag`."""
        async with self.admission.admitted():
            start = time.perf_counter()
            loop = asyncio.get_running_loop()
            if self._max_batch_size == 1:
                left = threading.Event()
                try:
                    logits, width, height, timings = await loop.run_in_executor(
                        self._decoders, self._look, data, start, left
                    )
                except BaseException:  # cancelled or too late: what has begun computes no further
                    left.set()
                    raise
            else:
                pixels, width, height = await loop.run_in_executor(self._decoders, self._decode, data)
                decoded = time.perf_counter()
                logits = await self._batcher.submit(pixels)
                timings = Timings(decoded - start, time.perf_counter() - decoded)
        self.metrics.preprocess_seconds.observe(timings.decode_s)
        return Inference(logits, width, height, timings)

    async def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the network's outputs for tensors of its signature: float32 [N, 3, size, size] to [N, num_labels].

        Raises:
            InputError: another name, dtype or shape, or more rows than the limit of images.
        """
        check_inputs(self.inputs, inputs)
        rows = inputs[INPUT]
        if len(rows) > self.settings.max_images:
            raise InputError(f"the tensor has {len(rows)} rows; the limit is {self.settings.max_images}. Send fewer.")
        async with self.admission.admitted(len(rows)):
            logits = await asyncio.gather(*(self._batcher.submit(row) for row in rows))
        if not np.isfinite(logits).all():
            raise InputError("the network's answer is not finite: the values are too far from a photo's.")
        return {OUTPUT: np.stack(logits)}  # [N, num_labels]

    async def close(self) -> None:
        """Refuse new images, answer those in hand, then free the model."""
        self.admission.close()
        await asyncio.to_thread(self._decoders.shutdown)
        await self._batcher.close()
        self.runtime.close()

    # What follows runs in the threads that decode.

    def _look(self, data: bytes, came: float, left: threading.Event) -> tuple[np.ndarray, int, int, Timings]:
        """Return what the network says of an image alone, with width, height and timings: a batch needs no gathering.

        Args:
            data: an image file's bytes.
            came: when it was asked for, by `time.perf_counter`.
            left: set where nobody waits any more.
        """
        began = time.perf_counter()
        pixels, width, height = self._decode(data)
        decoded = time.perf_counter()
        with self._network:
            computing = time.perf_counter()
            if left.is_set():
                raise DeadlineExceeded("nobody waits for this image any more.")
            logits = self.predictor.infer([pixels])[0]
            ended = time.perf_counter()
        self.metrics.batch(1, ended - computing, began - came + computing - decoded)
        return logits, width, height, Timings(decoded - began, ended - decoded)

    def _decode(self, data: bytes) -> tuple[np.ndarray, int, int]:
        """Return float32 [3, size, size] with width and height of the image."""
        image = decode_image(
            data,
            target_size_px=self.predictor.preprocessor.resize_px,
            max_pixels=self.settings.max_pixels,
            formats=self.settings.image_formats,
        )
        return self.predictor.preprocess(image.pixels), image.width, image.height


def _load(path: Path, settings: Settings) -> tuple[Bundle, Runtime]:
    return load_runtime(path, TASK.network, settings, gpu_batch_size=GPU_BATCH_SIZE)
