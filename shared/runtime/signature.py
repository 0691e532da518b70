"""Checking arrays against a signature, so that a wrong input gets an answer and does not crash the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.bundle.layout import TensorSignature
from shared.errors import InputError
from shared.runtime.protocol import Tensors


def check_inputs(specs: Sequence[TensorSignature], inputs: Tensors) -> None:
    """Accept inputs that have exactly the names, dtypes and shapes of the signature.

    A dimension that has a name may be of any size of 1 or more, the same wherever the name stands.

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
        if array.dtype != np.dtype(spec.dtype) or not _fits(array.shape, spec.shape, sizes):
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


def _fits(shape: tuple[int, ...], expected: tuple[int | str, ...], sizes: dict[str, int]) -> bool:
    if len(shape) != len(expected):
        return False
    for size, wanted in zip(shape, expected, strict=True):
        if size < 1 or size != (sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted):
            return False
    return True
