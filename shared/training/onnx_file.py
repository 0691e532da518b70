"""An ONNX file that is in no bundle yet, as a runtime: what the int8 gate measures. Neighbours: `int8`, `reexport`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from shared.bundle.layout import Signature
from shared.runtime.cpu import session_options
from shared.runtime.protocol import Tensors


class OnnxFile:
    """A Runtime of an ONNX file.

    Args:
        path: the file.
        signature: what it takes and gives.
        threads: threads that one call may use.
    """

    device = "cpu"

    def __init__(self, path: Path, signature: Signature, threads: int = 1) -> None:
        self.inputs = signature.inputs
        self.outputs = signature.outputs
        self.description = f"ONNX Runtime {onnxruntime.__version__} on {path.name}"
        self._session = onnxruntime.InferenceSession(
            str(path), sess_options=session_options(threads), providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Free the session's memory."""
        self.__dict__.pop("_session", None)
