"""The seam between a predictor and whatever computes: one call, named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from shared.bundle.layout import TensorSignature

Tensors = Mapping[str, np.ndarray]


@runtime_checkable
class Runtime(Protocol):
    """Computes a bundle's network on one device. Safe to call from several threads."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    device: str
    """ "cpu" or "cuda"."""
    description: str
    """For logs and the page, such as "ONNX Runtime 1.32 fp32, 1 thread"."""

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Return the outputs by name. Inputs have the signature's names, dtypes and shapes."""
        ...

    def close(self) -> None:
        """Free the device's memory; `run` must not be called afterwards."""
        ...
