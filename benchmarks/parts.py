"""Where the time of one photo goes, in process and on one thread; and the limit: the bare loop over all cores."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from shared.bundle.read import read_bundle
from shared.runtime.cpu import OnnxRuntime
from vision.images import decode_image
from vision.tagging.predictor import TagPredictor


def make_photo(megapixels: float = 1.0, seed: int = 0) -> bytes:
    """Return a JPEG of 4:3 with smooth shapes and some grain, so that it decodes like a photo."""
    generator = np.random.default_rng(seed)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    coarse = Image.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = generator.normal(0, 6, smooth.shape)
    buffer = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def part_times(bundle_path: Path, photo: bytes, *, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each part of one photo's way."""
    predictor = _predictor(bundle_path)
    size = predictor.preprocessor.resize_px
    image = decode_image(photo, target_size_px=size).pixels
    pixels = predictor.preprocess(image)
    logits = predictor.infer([pixels])[0]
    parts: dict[str, Callable[[], object]] = {
        "decode": lambda: decode_image(photo, target_size_px=size),
        "preprocess": lambda: predictor.preprocess(image),
        "run": lambda: predictor.infer([pixels]),
        "decide": lambda: predictor.decide(logits),
    }
    return {name: median(_ms(part) for _ in range(repeats)) for name, part in parts.items()}


def bare_loop(bundle_path: Path, photo: bytes, *, workers: int, seconds: float) -> float:
    """Return photos a second of a loop of all parts, one predictor and one thread a core, with nothing around it."""
    predictors = [_predictor(bundle_path) for _ in range(workers)]
    end = time.perf_counter() + seconds

    def loop(predictor: TagPredictor) -> int:
        done = 0
        while time.perf_counter() < end:
            image = decode_image(photo, target_size_px=predictor.preprocessor.resize_px).pixels
            predictor.decide(predictor.infer([predictor.preprocess(image)])[0])
            done += 1
        return done

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(loop, predictors)) / seconds


def _predictor(bundle_path: Path) -> TagPredictor:
    bundle = read_bundle(bundle_path)
    return TagPredictor(bundle, OnnxRuntime(bundle))


def _ms(part: Callable[[], object]) -> float:
    start = time.perf_counter()
    part()
    return (time.perf_counter() - start) * 1000
