"""model.onnx in int8: smaller and faster where the processor has int8 arithmetic, shipped only when quality holds.

Measured on one core with VNNI, batch 1, 224 px: MobileNetV2 2.7 ms instead of 5.1, ResNet18 6.2 instead of 20.6 (median
of 40, ONNX Runtime 1.32, 2026-11). Seven-bit weights would spare older processors the slow exact mode that
`shared.runtime.cpu` gives them, but they cost MobileNetV2 17 points of agreement with fp32 (202 photos, 1,000 classes).
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper
from tqdm import tqdm

from shared.errors import ExportError
from shared.training.export import OnnxFile, read_signature
from shared.training.smoothing import smooth

LAYERS = ("Conv", "Gemm", "MatMul")
"""Nodes with weights, which int8 makes small and fast."""

_PRODUCTS = ("MatMul", "MatMulInteger")
_ROWS = 64
"""Enough to tell which layer is the worst."""
_LEAST_MENDED = 0.02
"""Share of the squared error below which leaving a layer out is chance."""


def quantize_int8(
    fp32_path: Path,
    out_path: Path,
    calibration_batches: Iterable[Mapping[str, np.ndarray]] = (),
    *,
    kind: Literal["static", "dynamic"] = "static",
    fp32_layers: Iterable[str] = (),
) -> None:
    """Write an int8 copy of an ONNX file, weights quantised per channel.

    Args:
        fp32_path: as `export_onnx` wrote it.
        out_path: where the copy goes.
        calibration_batches: real inputs, a few hundred rows, not from the test split. For "static" they set the range
            of every activation: the least and largest value seen. For "dynamic" they may be left out; with them,
            outliers among the activations are evened out first, as `smoothing` does.
        kind: "static" (quantise-dequantise pairs, fixed ranges) for convolutions, all but the last layer: 256 steps of
            a logit make ties, and ties cost the order of photos (mean average precision 0.718 instead of 0.738).
            "dynamic" (ranges measured at each call) for transformers, whose activations have outliers.
        fp32_layers: names of nodes that stay as they are, of "static".

    Raises:
        ExportError: there is no calibration batch, or ONNX Runtime cannot quantise the file.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quant_pre_process,
            quantize_dynamic,
            quantize_static,
        )

        class Batches(CalibrationDataReader):
            """Hands the batches out one by one; ONNX Runtime's interface."""

            def __init__(self) -> None:
                self.remaining = iter(calibration_batches)
                self.count = 0

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self.remaining, None)
                self.count += batch is not None
                return None if batch is None else dict(batch)

        prepared = Path(folder) / "prepared.onnx"
        batches = Batches()
        try:
            quant_pre_process(str(fp32_path), str(prepared), skip_symbolic_shape=True)
            if kind == "dynamic":
                calibration = list(calibration_batches)
                if calibration:
                    smooth(prepared, prepared, calibration)
                quantize_dynamic(str(prepared), str(out_path), per_channel=True, weight_type=QuantType.QInt8)
            else:
                quantize_static(
                    str(prepared),
                    str(out_path),
                    batches,
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=[*fp32_layers, *_last_layers(prepared)],
                )
        except Exception as error:  # ValueError, RuntimeError and ONNX Runtime's own types without a common base
            if kind == "static" and batches.count == 0:
                raise ExportError("static quantisation needs at least one calibration batch; got none.") from error
            raise ExportError(f"{fp32_path.name} cannot be quantised: {error}. Ship fp32 instead.") from error


def _last_layers(path: Path) -> list[str]:
    """Return the names of the nodes between the outputs of an ONNX file and the last layers before them, these too.

    An output that others read on its way, such as features, is none of the last.
    """
    graph = onnx.load(str(path)).graph
    makers = {output: node for node in graph.node for output in node.output}
    read = {name for node in graph.node for name in node.input}
    found, wanted = [], [output.name for output in graph.output if output.name not in read]
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None:
            found.append(node.name)
            if node.op_type not in LAYERS:
                wanted += node.input
    return found


def dequantise(path: Path) -> dict[str, np.ndarray]:
    """Return the weights of an ONNX file by torch's names, float32; those in "dynamic" int8 as far as int8 holds them.

    torch's exporter keeps the names of biases and norms, and of the weights of matrix products none: these have the
    name of the bias that is added to their product. Weights of products without a bias are left out.

    Args:
        path: as `export_onnx` or `quantize_int8` wrote it, with its weights inside.
    """
    graph = onnx.load(str(path)).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def real(name: str) -> np.ndarray:
        """Return what a quantised array stands for."""
        scale, zero = values[f"{name}_scale"], values[f"{name}_zero_point"]
        return np.asarray((values[f"{name}_quantized"].astype(np.float32) - zero.astype(np.float32)) * scale)

    found = {name: array for name, array in values.items() if array.dtype == np.float32 and "." in name}
    for name in (name.removesuffix("_quantized") for name in values if name.endswith("weight_quantized")):
        if "." in name:
            found[name] = real(name)
    for node in graph.node:
        if node.op_type not in _PRODUCTS or node.input[1] not in values:
            continue
        name = node.input[1]
        weight = values[name] if node.op_type == "MatMul" else real(name.removesuffix("_quantized"))
        before = makers.get(node.input[0])
        if before is not None and before.op_type == "DynamicQuantizeLinear":
            before = makers.get(before.input[0])
        if before is not None and before.name.endswith("_evened"):
            weight = weight * values[before.input[1]][:, np.newaxis]
        after, following = node, readers.get(node.output[0], [])
        while after.op_type in (*_PRODUCTS, "Cast", "Mul") and len(following) == 1:
            after = following[0]
            following = readers.get(after.output[0], [])
        bias = next((name for name in after.input if name in values and name.endswith(".bias")), None)
        if after.op_type == "Add" and bias is not None:
            found[bias.removesuffix("bias") + "weight"] = np.ascontiguousarray(weight.T)
    return found


def int8_gate(quality_fp32: float, quality_int8: float, *, max_loss: float) -> dict[str, float | str | bool]:
    """Return the record of the decision whether int8 ships; it goes into config.json, passed or not.

    Args:
        quality_fp32: a metric where more is better, on validation data.
        quality_int8: the same metric of the int8 file on the same data.
        max_loss: how much quality may be lost, in the metric's unit.

    >>> int8_gate(0.912, 0.909, max_loss=0.005)["passed"]
    True
    >>> int8_gate(0.912, float("nan"), max_loss=0.005)["passed"]
    False
    """
    loss = quality_fp32 - quality_int8
    return {
        "quality_fp32": quality_fp32,
        "quality_int8": quality_int8,
        "loss": loss,
        "max_loss": max_loss,
        "passed": bool(loss <= max_loss),
    }


def layers_by_harm(fp32_path: Path, batches: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    """Return the names of the layers that int8 harms most, the worst first; with a progress bar.

    Each layer is left in fp32 in turn while all others are int8; the error of the outputs that this saves is its harm.
    Of the starter tagger's 53 layers one, its first depthwise convolution, makes three quarters of the squared error;
    with three in fp32 it is as good as in fp32 altogether, and still 2.3 times as fast (160 px, one thread, ONNX
    Runtime 1.32, 2026-11).

    Args:
        fp32_path: as `export_onnx` wrote it.
        batches: real inputs, at least one batch, as for `quantize_int8`; the first rows are enough.

    Raises:
        ExportError: ONNX Runtime cannot quantise the file.
    """
    batch = {name: values[:_ROWS] for name, values in batches[0].items()}
    signature = read_signature(fp32_path)
    expected = OnnxFile(fp32_path, signature).run(batch)
    names = [node.name for node in onnx.load(str(fp32_path)).graph.node if node.op_type in LAYERS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"

        def error(fp32_layers: Iterable[str]) -> float:
            quantize_int8(fp32_path, path, [batch], fp32_layers=fp32_layers)
            found = OnnxFile(path, signature).run(batch)
            return float(np.mean([np.square(found[name] - expected[name]).mean() for name in expected]))

        everywhere = error(())
        errors = {name: error([name]) for name in tqdm(names, desc="int8, layer by layer", unit="layer")}
    worth = [name for name in names if errors[name] < (1 - _LEAST_MENDED) * everywhere]
    return sorted(worth, key=errors.__getitem__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser quiet: it logs through the root logger, and importing some of its modules configures that."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.disabled
    root.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        root.disabled = disabled
