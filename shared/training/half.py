"""Halves an ONNX file: weights stored in fp16, everything computed in fp32. Neighbours: `export` wrote the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from shared.errors import ExportError

MIN_VALUES = 64
"""Smaller tensors stay as they are: nothing is won, and shapes and scales are among them."""


def round_weights_fp16(network: nn.Module) -> None:
    """Round a network's weights in place to what fp16 can hold; they stay fp32. Then both files hold the same."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()


def store_weights_fp16(path: Path, out_path: Path) -> None:
    """Write a copy whose large fp32 weights are fp16 with a cast behind each; a runtime folds the casts at load time.

    Raises:
        ExportError: a weight is too large for fp16 (above 65504).
    """
    model = onnx.load(str(path))
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_VALUES:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise ExportError(f"the weight {tensor.name} exceeds fp16's range; keep fp32 for this network.")
        name, stored = tensor.name, f"{tensor.name}.fp16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(out_path))
