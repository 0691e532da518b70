"""Before int8: outliers among activations are evened out, and the weights that follow make up for it.

A transformer has a few channels that are a hundred times larger than the others; one int8 scale for all then leaves the
others a few steps each. Every input channel of a matrix product is divided by a factor, and the weight's row is
multiplied by it: in fp32 the same product, in int8 half the error (of a six-layer reader's logits 0.14 instead of 0.22,
where they are about 5; 2026-11). It costs one multiplication of each product's input.

Source: SmoothQuant, Xiao et al. 2023, equation 4; with the factors on the input instead of in the layer before, because
a residual reads that too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from shared.errors import ExportError
from shared.runtime.cpu import session_options

STRENGTH = 0.75
"""Share of the outliers' size that goes into the weights; the paper's alpha. Error of the reader's logits at 0.5, 0.7
and 0.85: 0.32, 0.14 and 0.15."""
_LEAST = 1e-5


def smooth(fp32_path: Path, out_path: Path, batches: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write an ONNX file that computes the same with evened inputs of its matrix products.

    Args:
        fp32_path: a file whose weights are in it.
        out_path: where the new one goes.
        batches: real inputs, a few dozen rows, not from the test split: they show which channels are large.

    Raises:
        ExportError: there is no batch.
    """
    model = onnx.load(str(fp32_path))
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    products: dict[str, list[onnx.NodeProto]] = defaultdict(list)  # by the input that they share
    for node in model.graph.node:
        if node.op_type == "MatMul" and weights.get(node.input[1], np.empty(0)).ndim == 2:
            products[node.input[0]].append(node)
    largest = _largest(model, sorted(products), batches)
    made: list[onnx.TensorProto] = []
    divided: dict[str, onnx.NodeProto] = {}
    for name, nodes in products.items():
        rows = np.max([np.abs(weights[node.input[1]]).max(axis=1) for node in nodes], axis=0)  # [channels]
        factor = np.maximum(largest[name], _LEAST) ** STRENGTH / np.maximum(rows, _LEAST) ** (1 - STRENGTH)
        factor = (factor / np.exp(np.log(factor).mean())).astype(np.float32)
        made.append(numpy_helper.from_array(1 / factor, f"{name}_evening"))
        divided[name] = helper.make_node("Mul", [name, f"{name}_evening"], [f"{name}_even"], name=f"{name}_evened")
        for node in nodes:
            weight = f"{node.output[0]}_weight"
            made.append(numpy_helper.from_array(weights[node.input[1]] * factor[:, None], weight))
            node.input[:] = [f"{name}_even", weight]
    _rebuild(model.graph, divided, made)
    onnx.save(model, str(out_path))


def _largest(
    model: onnx.ModelProto, names: list[str], batches: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the largest absolute value that each channel of these values took, [channels]."""
    if not names:
        return {}
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    there = {output.name for output in tapped.graph.output}
    tapped.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in there
    )
    session = onnxruntime.InferenceSession(
        tapped.SerializeToString(), sess_options=session_options(1), providers=["CPUExecutionProvider"]
    )
    found: dict[str, np.ndarray] = {}
    for batch in batches:
        for name, values in zip(names, session.run(names, dict(batch)), strict=True):
            channels = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            found[name] = np.maximum(found.get(name, 0), channels)
    if not found:
        raise ExportError("evening out activations needs at least one batch of inputs; got none.")
    return found


def _rebuild(graph: onnx.GraphProto, divided: Mapping[str, onnx.NodeProto], made: list[onnx.TensorProto]) -> None:
    """Put each division before the first product that reads it, and leave out weights that nothing reads any more."""
    nodes: list[onnx.NodeProto] = []
    by_output = {node.output[0]: node for node in divided.values()}
    for node in graph.node:
        nodes += [by_output.pop(name) for name in list(node.input) if name in by_output]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in (*graph.initializer, *made) if each.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
