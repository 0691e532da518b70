"""The start-up check: a service is ready when its model answers known inputs as it did after training."""

from __future__ import annotations

import numpy as np

from shared.bundle.layout import GOLDEN
from shared.bundle.read import Bundle
from shared.errors import BundleError, InputError
from shared.runtime.protocol import Runtime

FP32_TOLERANCE = 1e-3
"""Absolute, for torch in fp32 on a bundle without ONNX export: kernels differ by 1e-6 to 1e-4 on logits around 10."""
INT8_TOLERANCE = 0.05
"""Share of the largest golden value, for int8 on a CPU beside what the same file gave on another. Where fp32 operators
round differently, some values move by one of 256 steps: with ONNX Runtime's fusions changed the starters' outputs moved
by 0.017, 0.012 and 0.031 of it (tagger, intent, qa; ONNX Runtime 1.32, 2026-11). A photo that is turned over moves them
by 0.13, a mask that is ignored by 0.32 and 0.68."""
REDUCED_TOLERANCE = 0.1
"""Share of the largest golden value, on CUDA, where bf16 keeps 8 bits: twice MobileNetV2's difference (median 0.029,
maximum 0.051 over 48 photos; torch 2.15 in bf16 on a CPU, 2026-11). Wrong weights differ by 1 and more."""


def check_golden(bundle: Bundle, runtime: Runtime) -> float:
    """Return the largest difference between the golden outputs and the runtime's, if it is within the tolerance.

    On the CPU a bundle is held to what its own model.onnx gave, within rounding; on CUDA to what torch gave in fp32,
    within `REDUCED_TOLERANCE` times the largest golden value. A bundle of format 1 has only the latter outputs, and its
    own tolerance for its ONNX file.

    Raises:
        BundleError: a difference is larger, or the runtime gives other outputs or shapes.
    """
    try:
        outputs = runtime.run(bundle.golden.inputs)
    except InputError as error:
        raise BundleError(f"{GOLDEN} of {bundle.path} does not fit the model: {error}") from error
    except Exception as error:  # whatever a runtime raises, such as being out of memory
        raise BundleError(f"{bundle.path} on {runtime.description} cannot answer {GOLDEN}: {error}") from error
    largest = 0.0
    expected = bundle.golden.outputs if runtime.device == "cuda" else bundle.golden.shipped or bundle.golden.outputs
    for name, golden in expected.items():
        came = outputs.get(name)
        if came is None or came.shape != golden.shape:
            shape = "nothing" if came is None else list(came.shape)
            raise BundleError(
                f"{bundle.path} on {runtime.description}: {name} is {shape}; expected {list(golden.shape)}."
            )
        difference = float(np.abs(came.astype(np.float64) - golden).max())
        tolerance = tolerance_of(bundle, runtime, golden)
        if not difference <= tolerance:  # NaN is a failure too
            raise BundleError(
                f"{bundle.path} on {runtime.description} does not answer as it did after training: {name} differs from "
                f"{GOLDEN} by {difference:.3g}; the limit is {tolerance:.3g}. Copy the bundle again, or run: "
                f"percept export {bundle.path}"
            )
        largest = max(largest, difference)
    return largest


def tolerance_of(bundle: Bundle, runtime: Runtime, golden: np.ndarray) -> float:
    """Return how far a runtime's output may be from a golden one."""
    if runtime.device == "cuda":
        return REDUCED_TOLERANCE * float(np.abs(golden).max())
    onnx = bundle.config.onnx
    if onnx is None or not bundle.golden.shipped:
        return onnx.tolerance if onnx else FP32_TOLERANCE
    largest = float(np.abs(golden).max())
    return INT8_TOLERANCE * largest if onnx.precision == "int8" else FP32_TOLERANCE * max(1.0, largest)
