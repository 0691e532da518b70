"""The seam between a predictor and a runtime: named arrays in, named arrays out, as the bundle's signature says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from shared.bundle.layout import TensorSignature
from shared.errors import InputError

Tensors = Mapping[str, np.ndarray]
KEPT = "kept"
"""Name of the dimension of what a network has seen before, which may be nothing."""


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


def check_inputs(specs: Sequence[TensorSignature], inputs: Tensors) -> None:
    """Accept inputs that have exactly the names, dtypes and shapes of the signature, and no others.

    A named dimension may have any size of 1 or more, and `KEPT` 0 too, but the same size wherever that name occurs.

    Raises:
        InputError: says what was expected and what came.
    """
    names = [spec.name for spec in specs]
    if sorted(inputs) != sorted(names):
        raise InputError(f"the model takes the inputs {names}; came {sorted(inputs)}.")
    sizes: dict[str, int] = {}
    for spec in specs:
        array = inputs[spec.name]
        if not isinstance(array, np.ndarray):
            raise InputError(f"the input {spec.name!r} must be {describe(spec)}; came a {type(array).__name__}.")
        expected = tuple(
            sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted
            for wanted, size in zip(spec.shape, array.shape, strict=False)
        )
        empty = any(size == 0 for name, size in zip(spec.shape, expected, strict=False) if name != KEPT)
        fits = len(spec.shape) == array.ndim and array.shape == expected and not empty
        if not fits or array.dtype != np.dtype(spec.dtype):
            named = "".join(f", {name}={size}" for name, size in sizes.items())
            raise InputError(
                f"the input {spec.name!r} must be {describe(spec)}{named}; came {array.dtype} {list(array.shape)}."
            )


def describe(spec: TensorSignature) -> str:
    """Return dtype and shape as people write them.

    >>> describe(TensorSignature(name="input_ids", dtype="int64", shape=("batch", 128)))
    'int64 [batch, 128]'
    """
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"
