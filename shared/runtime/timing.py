"""How long networks take for one input."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from shared.runtime.protocol import Runtime

ROUNDS = 30
"""Each network has its turn in each round, so that what else the machine does meets all alike."""


def timed(runtimes: Sequence[tuple[Runtime, Mapping[str, np.ndarray]]]) -> list[float]:
    """Return the median milliseconds of each runtime for the first of its golden inputs, taking turns."""
    found: list[list[float]] = [[] for _ in runtimes]
    for turn in range(ROUNDS + 2):
        for (runtime, inputs), times in zip(runtimes, found, strict=True):
            one = {name: array[:1] for name, array in inputs.items()}
            started = time.perf_counter()
            runtime.run(one)
            if turn >= 2:  # the first ones warm up
                times.append(1000 * (time.perf_counter() - started))
    return [float(np.median(times)) for times in found]
