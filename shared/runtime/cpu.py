"""The CPU runtime: a bundle's model.onnx in ONNX Runtime, with exactly as many threads as it is told."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import onnxruntime

from shared.bundle.layout import ONNX, TensorSignature
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.runtime.protocol import Tensors, check_inputs

_CPUINFO = Path("/proc/cpuinfo")
_ERRORS_ONLY = 3  # onnxruntime_c_api.h, OrtLoggingLevel
_SLOW_FUSION = "SkipLayerNormFusion"
"""ONNX Runtime's one kernel for "add, then normalise" takes thirty times as long as the two it replaces: 30 % of
MiniLM's time on short texts (int8, one thread, ONNX Runtime 1.32, 2026-11). Without it the two run as they are."""
DTYPES = {
    "tensor(float)": "float32",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
}
"""The types that a signature can name, as ONNX Runtime writes them."""


class OnnxRuntime:
    """Computes model.onnx on the CPU. Safe to call from several threads.

    Args:
        bundle: must hold model.onnx.
        threads: threads that one call may use. One worker per core with one thread each beats one worker with more.

    Raises:
        BundleError: there is no model.onnx, it cannot be loaded, or it is not what the bundle's signature says.
        ConfigError: fewer than one thread.
    """

    device = "cpu"

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        if threads < 1:
            raise ConfigError(f"a runtime needs at least 1 thread; came {threads}.")
        path = bundle.file(ONNX)
        self.inputs = bundle.config.signature.inputs
        self.outputs = bundle.config.signature.outputs
        options = session_options(threads)
        # The whole model is in its one file, whose SHA-256 is in config.json. Weights beside it are not read: nothing
        # vouches for them.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # a dozen exception types of ONNX Runtime without a common base
            raise BundleError(f"{path} cannot be loaded: {error}. Run: percept export {bundle.path}") from error
        _check_nodes(path.name, "inputs", self._session.get_inputs(), self.inputs)
        _check_nodes(path.name, "outputs", self._session.get_outputs(), self.outputs)
        self._output_names = [spec.name for spec in self.outputs]
        precision = bundle.config.onnx.precision if bundle.config.onnx else "unknown precision"
        self.description = (
            f"ONNX Runtime {onnxruntime.__version__} {precision}, {threads} thread{'s' if threads > 1 else ''}"
        )

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Return the outputs by name.

        Raises:
            InputError: an input does not have the name, dtype or shape of the signature.
        """
        check_inputs(self.inputs, inputs)
        values = self._session.run(self._output_names, dict(inputs))
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Free the session's memory."""
        self.__dict__.pop("_session", None)


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of every session: this many threads, and none that burns a core while it waits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread leaves its core alone
    options.add_session_config_entry("optimization.disable_specified_optimizers", _SLOW_FUSION)
    if _saturates_in_int8():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.enable_mem_pattern = False  # it keeps one plan per input shape: batches and sentences have many
    options.log_severity_level = _ERRORS_ONLY
    return options


def _saturates_in_int8() -> bool:
    """Whether this CPU is, or may be, an x86 without VNNI: its int8 products saturate at 16 bits and answers go wrong.

    ONNX Runtime then computes exactly when told to, at a third of the speed. With VNNI that would cost the same for
    nothing (ResNet18 21.1 ms instead of 6.2; one thread, ONNX Runtime 1.32, median of 40, 2026-11).
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return True


def _check_nodes(file: str, kind: str, nodes: list[onnxruntime.NodeArg], specs: tuple[TensorSignature, ...]) -> None:
    found = {node.name: (DTYPES.get(node.type, node.type), len(node.shape)) for node in nodes}
    expected = {spec.name: (spec.dtype, len(spec.shape)) for spec in specs}
    if found != expected:
        raise BundleError(
            f"{file} has the {kind} {found} (name: dtype, dimensions); the signature in config.json says {expected}. "
            "The two belong to different models: copy the bundle again, or export it again."
        )
