"""The tagging engine of one worker: image bytes to tags, for many callers at once.

Decoding and preprocessing run in a few threads, so a bad image fails before it reaches a batch. The network runs in
those threads too if batches have one image, otherwise on the batcher's thread. The event loop only waits.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from shared.bundle.layout import TensorSignature
from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError, DeadlineExceeded, InputError, TooLarge
from shared.runtime.batcher import MicroBatcher
from shared.runtime.protocol import Runtime, check_inputs
from shared.serving.http.limits import Admission
from shared.serving.lifecycle.loading import answering_an_example, load_runtime
from shared.serving.observe.metrics import ModelMetrics
from shared.serving.recording.notes import Answered, Notes, noting
from shared.serving.recording.shadow import Candidate, Skipped, candidate_paths, load_shadows
from shared.serving.settings import Settings
from vision.images import DecodedImage, Postponed, Work, decode_image
from vision.tagging import TASK
from vision.tagging.predictor import FEATURES, INPUT, OUTPUT, Tag, TagPredictor

Done = TypeVar("Done")

GPU_BATCH_SIZE = 32
LARGE = Work(memory_bytes=64_000_000, pixels=25_000_000)
"""Beyond either, a worker decodes one image at a time, in a thread of their own: a small image never waits for them."""
MAX_REQUEST_BYTES = 400_000_000
"""Of all images of one request: a PNG of 39 megapixels with alpha has 157 MB and takes 1.4 s (two cores, 2026-11)."""


@dataclass(frozen=True)
class Timings:
    """Where the time of one image went, in seconds."""

    decode_s: float
    """Decoding and preprocessing; if images are batched, also waiting for a thread."""
    infer_s: float
    """Waiting for the network, and computing."""


@dataclass(frozen=True, eq=False)
class Inference:
    """The network's answer for one image."""

    outputs: Mapping[str, np.ndarray]
    """As `TagPredictor.infer` returns them."""
    width: int
    height: int
    """After turning the image as its EXIF says."""
    timings: Timings
    photo: Image.Image | None = None
    """As it was decoded, if photos are recorded."""

    @property
    def logits(self) -> np.ndarray:
        """float32 [num_labels], in the order of the labels."""
        return self.outputs[OUTPUT]


@dataclass(frozen=True)
class TaggingResult:
    """The answer for one image."""

    tags: list[Tag]
    width: int
    height: int


class Allowance:
    """How many bytes decoding the images of one request may still take, one after the other."""

    def __init__(self, left_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._left = left_bytes
        self._lock = threading.Lock()

    def take(self, needed_bytes: int) -> None:
        """Note what an image takes.

        Raises:
            TooLarge: it is more than is left.
        """
        with self._lock:
            if needed_bytes > self._left:
                raise TooLarge(
                    f"the images of this request take more than {MAX_REQUEST_BYTES / 1e6:.0f} MB together to decode. "
                    "Send fewer or smaller ones at once, or JPEGs."
                )
            self._left -= needed_bytes


def _yield_to_others() -> None:
    """Lower this thread's priority, where a system has one for each thread: small images and texts go first.

    Beside large images the 99th percentile of other requests is 2.7 times that in the calm, and 3.1 without (2026-11).
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _is_large(work: Work) -> bool:
    return work.memory_bytes > LARGE.memory_bytes or work.pixels > LARGE.pixels


class TaggingEngine:
    """Answers for one model in one worker.

    Args:
        bundle: what is served.
        runtime: computes the bundle's network; closed with the engine.
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
        self._batcher: MicroBatcher[np.ndarray, dict[str, np.ndarray]] = MicroBatcher(
            self.predictor.infer,
            max_batch_size=self._max_batch_size,
            max_queue=max(settings.max_queue, settings.max_images),  # `admission` lets one request with more in
            name="tagger",
            on_batch=self.metrics.batch,
        )
        self._network = threading.Lock()  # one image at a time: two would take twice the memory and no less time
        self._one_large = threading.Lock()
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._large_decoder = ThreadPoolExecutor(1, thread_name_prefix="decode-large", initializer=_yield_to_others)
        self.admission = Admission(settings.max_queue, settings.deadline_s, "images")

    @classmethod
    def load(cls, settings: Settings) -> TaggingEngine:
        """Return an engine whose model gave its golden outputs; blocks for as long as that takes."""
        engine = cls._of(Path(settings.tagger), settings)
        load_shadows(settings, [engine.bundle], {TASK.name: _candidate})
        return engine

    @staticmethod
    def check(settings: Settings) -> None:
        """Refuse settings without a bundle, or with one that cannot be read."""
        candidate_paths(settings, [read_bundle(settings.tagger)])

    def replaced(self, task: str, path: Path) -> TaggingEngine:
        """Return an engine for the bundle in `path`, as `load`; there is only one task."""
        assert task == TASK.name
        return self._of(path, self.settings)

    @classmethod
    def _of(cls, path: Path, settings: Settings) -> TaggingEngine:
        bundle, runtime = load_runtime(path, TASK.network, settings, gpu_batch_size=GPU_BATCH_SIZE)
        with answering_an_example(bundle):
            engine = cls(bundle, runtime, settings)
            size = engine.predictor.preprocessor.size
            (outputs,) = engine.predictor.infer([engine.predictor.preprocess(Image.new("RGB", (size, size)))])
            logits = outputs[OUTPUT]
            if logits.shape != (len(bundle.labels),):
                raise BundleError(f"{path} has {len(bundle.labels)} labels; its network gives {list(logits.shape)}.")
            engine.predictor.decide(outputs)
        return engine

    @property
    def models(self) -> list[TaggingEngine]:
        """This one alone."""
        return [self]

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return not self.admission.is_closed

    async def tag(
        self,
        data: bytes,
        *,
        top_k: int | None = None,
        min_score: float | None = None,
        allowance: Allowance | None = None,
        item: int = 0,
    ) -> TaggingResult:
        """Return the tags of one image, the most probable first; no tags is a normal answer.

        Args:
            data: an image file's bytes.
            top_k: most tags; None for all.
            min_score: the lowest score; None for each label's own threshold.
            allowance: of the request that the image came with, which has its place in `admission` already; None for an
                image alone.
            item: its place among the images of the request.

        Raises:
            InvalidImage, UnsupportedMedia, TooLarge: as `decode_image`.
            Overloaded: as many images as the limit are in hand.
            DeadlineExceeded: it took longer than allowed.
        """
        seen = await (self._noted(data, allowance, item) if allowance else self.look_at(data))
        tags = self.predictor.decide(seen.outputs, top_k=top_k, min_score=min_score)
        if tags:
            self.metrics.answer("tagged", tags[0].label, score=tags[0].score)
        else:
            self.metrics.answer("untagged")
        return TaggingResult(tags, seen.width, seen.height)

    async def look_at(self, data: bytes) -> Inference:
        """Return the network's answer for one image; raises as `tag`."""
        async with self.admission.admitted():
            return await self._noted(data, Allowance(), 0)

    async def _noted(self, data: bytes, allowance: Allowance, item: int) -> Inference:
        notes = noting()
        seen = await self._seen(data, allowance, has_photo=notes is not None and notes.has_photos)
        if notes is not None:
            self._note(notes, seen, item, data)
        return seen

    def _note(self, notes: Notes, seen: Inference, item: int, data: bytes) -> None:
        """Record what is given by the labels' own thresholds, whatever the request asked for."""
        notes.keep(
            self,
            item,
            **_answered(self.predictor, seen.outputs),
            features=seen.outputs.get(FEATURES),
            photo=seen.photo,
            size=(seen.width, seen.height),
            again=data,
        )

    async def _seen(self, data: bytes, allowance: Allowance, *, has_photo: bool = False) -> Inference:
        start = time.perf_counter()
        if self._max_batch_size == 1:
            left = threading.Event()
            try:
                seen = await self._off_loop(
                    partial(self._look, data, came=start, left=left, has_photo=has_photo), allowance
                )
            except BaseException:  # cancelled or too late: the network is not run for it any more
                left.set()
                raise
        else:
            pixels, image = await self._off_loop(partial(self._decode, data), allowance)
            decoded = time.perf_counter()
            outputs = await self._batcher.submit(pixels)
            timings = Timings(decoded - start, time.perf_counter() - decoded)
            seen = _inference(outputs, image, timings, has_photo=has_photo)
        self.metrics.preprocess_seconds.observe(seen.timings.decode_s)
        return seen

    async def _off_loop(self, work: Callable[[Allowance | None], Done], allowance: Allowance) -> Done:
        """Return what is made of an image in a thread: in that for large ones if it turns out to be one."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._decoders, work, allowance)
        except Postponed:
            return await loop.run_in_executor(self._large_decoder, work, None)

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
            answers = await asyncio.gather(*(self._batcher.submit(row) for row in rows))
        outputs = {spec.name: np.stack([answer[spec.name] for answer in answers]) for spec in self.outputs}
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise InputError("the network's answer is not finite: the values are too far from a photo's.")
        return outputs

    def hold(self, work: Work) -> AbstractContextManager[Any]:
        """Return what is held while an image is decoded: large ones are decoded one at a time."""
        return self._one_large if _is_large(work) else nullcontext()

    async def close(self) -> None:
        """Refuse new images, answer those in hand, then free the model."""
        self.admission.close()
        await asyncio.to_thread(self._decoders.shutdown)
        await asyncio.to_thread(self._large_decoder.shutdown)
        await self._batcher.close()
        self.runtime.close()

    # The rest runs in the threads that decode.

    def _look(
        self, data: bytes, allowance: Allowance | None, *, came: float, left: threading.Event, has_photo: bool
    ) -> Inference:
        """Return the network's answer for an image alone, without waiting for a batch.

        Args:
            data: an image file's bytes.
            allowance: as in `_decode`.
            came: when it was asked for, by `time.perf_counter`.
            left: set once nobody waits any more.
            has_photo: whether to return the photo too.
        """
        began = time.perf_counter()
        pixels, image = self._decode(data, allowance)
        decoded = time.perf_counter()
        with self._network:
            computing = time.perf_counter()
            if left.is_set():
                raise DeadlineExceeded("nobody waits for this image any more.")
            outputs = self.predictor.infer([pixels])[0]
            ended = time.perf_counter()
        self.metrics.batch(1, ended - computing, began - came + computing - decoded)
        return _inference(outputs, image, Timings(decoded - began, ended - decoded), has_photo=has_photo)

    def _decode(self, data: bytes, allowance: Allowance | None) -> tuple[np.ndarray, DecodedImage]:
        """Return float32 [3, size, size], and the image that it was made of.

        Args:
            data: an image file's bytes.
            allowance: what its request may still take; None in the thread for large images, which has been told.

        Raises:
            Postponed: the image is for that thread.
        """

        def hold(work: Work) -> AbstractContextManager[Any]:
            if allowance is None:
                return self.hold(work)
            allowance.take(work.memory_bytes)
            if _is_large(work):
                raise Postponed
            return nullcontext()

        image = decode_image(
            data,
            target_size_px=self.predictor.preprocessor.resize_px,
            max_pixels=self.settings.max_pixels,
            formats=self.settings.image_formats,
            hold=hold,
        )
        return self.predictor.preprocess(image.pixels), image


def _inference(
    outputs: Mapping[str, np.ndarray], image: DecodedImage, timings: Timings, *, has_photo: bool
) -> Inference:
    return Inference(outputs, image.width, image.height, timings, image.pixels if has_photo else None)


def _answered(predictor: TagPredictor, outputs: Mapping[str, np.ndarray]) -> Answered:
    """Return what a record says of a photo's answer."""
    tags = predictor.decide(outputs)
    return {
        "outcome": "tagged" if tags else "untagged",
        "confidence": float(predictor.scores(outputs[OUTPUT]).max()),
        "labels": [tag.label for tag in tags],
        "scores": [tag.score for tag in tags],
    }


def _candidate(path: Path, settings: Settings) -> Candidate:
    """Return what answers silently; photos that take much to decode are left out."""
    bundle, runtime = load_runtime(path, TASK.network, settings)
    with answering_an_example(bundle):
        predictor = TagPredictor(bundle, runtime)

        def hold(work: Work) -> AbstractContextManager[Any]:
            if _is_large(work):
                raise Postponed
            return nullcontext()

        def answer(data: bytes) -> Answered:
            preprocessor = predictor.preprocessor
            try:
                photo = decode_image(
                    data,
                    target_size_px=preprocessor.resize_px,
                    max_pixels=settings.max_pixels,
                    formats=settings.image_formats,
                    hold=hold,
                ).pixels
            except Postponed:
                raise Skipped from None
            [outputs] = predictor.infer([predictor.preprocess(photo)])
            return _answered(predictor, outputs)

        size = predictor.preprocessor.size
        predictor.decide(predictor.infer([predictor.preprocess(Image.new("RGB", (size, size)))])[0])
    return Candidate(bundle, runtime, answer)
