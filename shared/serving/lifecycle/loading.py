"""From a bundle's folder to a model that answers as it did after training, and is warm."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared.bundle.read import Bundle, Golden, read_bundle
from shared.errors import BundleError
from shared.runtime.choose import choose_runtime
from shared.runtime.golden import check_golden
from shared.runtime.protocol import Runtime
from shared.serving.settings import Settings

_WARM_UP_RUNS = 2
_log = logging.getLogger(__name__)


def load_runtime(
    path: Path, network: str | None, settings: Settings, *, gpu_batch_size: int = 1
) -> tuple[Bundle, Runtime]:
    """Return a bundle with a warm runtime that gave its golden outputs.

    Args:
        path: the bundle's folder, or a link to it.
        network: as for `choose_runtime`.
        settings: device and threads, and the most rows per call if they set it.
        gpu_batch_size: otherwise the most rows per call on a GPU, which chooses kernels and takes memory anew for each
            size.

    Raises:
        BundleError: the bundle is broken, or the model does not answer as it did after training.
        RuntimeUnavailable: this machine does not have the device.
    """
    start = time.perf_counter()
    bundle = read_bundle(path.resolve())  # changing a link meanwhile changes nothing
    runtime = choose_runtime(bundle, settings.device, network=network, threads=settings.threads)
    difference = check_golden(bundle, runtime)
    for size in _sizes((settings.max_batch_size or gpu_batch_size) if runtime.device == "cuda" else 1):
        batch = _of_size(bundle.golden, size)
        for _ in range(_WARM_UP_RUNS):
            runtime.run(batch)
    _log.info(
        "model loaded",
        extra={
            "model": bundle.name,
            "version": bundle.version,
            "runtime": runtime.description,
            "golden_difference": difference,
            "seconds": round(time.perf_counter() - start, 3),
        },
    )
    return bundle, runtime


@contextlib.contextmanager
def answering_an_example(bundle: Bundle) -> Iterator[None]:
    """Turn whatever goes wrong while a new model answers an example of its own into a refusal of its bundle.

    So a bundle whose files do not fit each other is refused when it is loaded, not at the first request.

    Raises:
        BundleError: something did.
    """
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BundleError(
            f"{bundle.path} cannot answer an example: {reason}. Copy the bundle again from where it was made."
        ) from error


def _sizes(most: int) -> Iterator[int]:
    """Yield the largest size first, whose memory the smaller ones reuse, then its halves down to one."""
    while most >= 1:
        yield most
        most //= 2


def _of_size(golden: Golden, size: int) -> dict[str, np.ndarray]:
    return {name: np.resize(array, (size, *array.shape[1:])) for name, array in golden.inputs.items()}
