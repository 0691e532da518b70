"""A trained network to model.onnx, held to what torch computes; its golden outputs, signature and stored weights."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from shared.bundle.layout import OnnxExport, Signature, TensorSignature
from shared.bundle.read import Golden
from shared.errors import ExportError
from shared.runtime.cpu import DTYPES, session_options
from shared.runtime.protocol import Tensors

PARITY_TOLERANCE = 1e-3
"""Absolute on values up to 1, relative to the largest value above: a hundred times what these networks differ by."""
BATCH = "batch"
MIN_VALUES = 64
"""Smaller tensors stay as they are: there is nothing to gain, and shapes and scales are among them."""


def export_onnx(
    network: nn.Module,
    example: Mapping[str, Tensor],
    path: Path,
    *,
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> float:
    """Return the largest difference between torch and the ONNX file that was written to `path`.

    Both compute the example as a whole and its first row alone, so that a batch size that was baked in is found.

    Args:
        network: takes the example's tensors by position, in their order. A copy in eval mode and fp32 is exported.
        example: input name -> tensor, of two rows at least.
        path: one file, weights included, without names of machines or sources.
        outputs: names of the outputs, in the network's order.
        dynamic: input name -> {axis: name of the dimension}; None for {0: "batch"} everywhere.

    Raises:
        ExportError: torch cannot export the network, or the file computes something else.
    """
    if any(len(tensor) < 2 for tensor in example.values()):
        raise ExportError("the example needs two rows or more: with one, torch bakes the batch size into the file.")
    axes = dynamic or {name: {0: BATCH} for name in example}
    dims = {name: torch.export.Dim(name) for names in axes.values() for name in names.values()}
    network = _settled(network)
    example = {name: tensor.detach().cpu() for name, tensor in example.items()}
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                tuple(example.values()),
                dynamo=True,
                verbose=False,
                input_names=list(example),
                output_names=list(outputs),
                dynamic_shapes=tuple({axis: dims[n] for axis, n in axes.get(name, {}).items()} for name in example),
                external_data=False,
            )
        except Exception as error:  # the exporter's own tree, and whatever tracing the network raises
            raise ExportError(f"torch cannot export {type(network).__name__} to ONNX: {error}") from error
        assert program is not None
        onnx.save(_without_traces(program.model_proto), path)
    first = {name: tensor[:1] for name, tensor in example.items()}
    return max(_check_parity(network, batch, path, outputs) for batch in (example, first))


def make_golden(network: nn.Module, example: Mapping[str, Tensor], *, outputs: Sequence[str]) -> Golden:
    """Return the example with the outputs that torch gives for it in fp32 on the CPU.

    Args:
        network: as for `export_onnx`.
        example: two to four real inputs; they are checked whenever a service starts.
        outputs: names of the outputs.
    """
    batch = {name: tensor.detach().cpu() for name, tensor in example.items()}
    return Golden(
        inputs={name: tensor.numpy() for name, tensor in batch.items()},
        outputs=_torch_outputs(_settled(network), batch, outputs),
    )


def describe_export(
    path: Path,
    golden: Golden,
    *,
    int8_gate: Mapping[str, float | str | bool] | None = None,
    has_fp16_weights: bool = False,
) -> OnnxExport:
    """Return what config.json says of an ONNX file: how near it is to the golden outputs, and how near it must stay.

    fp32 must stay within the export's own tolerance. int8 may differ twice as much as it does here: its arithmetic is
    exact, but the fp32 operators between round differently from CPU to CPU and can move a value by one step. fp16
    weights differ by their rounding, which is the same everywhere, plus that tolerance.

    Args:
        path: the file that ships.
        golden: as `make_golden` made it.
        int8_gate: `int8_gate`'s record; the file is int8 where it passed.
        has_fp16_weights: whether `store_weights_fp16` made the file; ignored where it is int8.
    """
    found = _onnx_outputs(path, golden.inputs, list(golden.outputs))
    difference = max(_difference(expected, found[name]) for name, expected in golden.outputs.items())
    tolerance = max(_allowed(expected) for expected in golden.outputs.values())
    is_int8 = bool(int8_gate and int8_gate["passed"])
    if is_int8:
        tolerance = max(tolerance, 2 * difference)
    elif has_fp16_weights:
        tolerance += difference
    return OnnxExport(
        precision="int8" if is_int8 else "fp16_weights" if has_fp16_weights else "fp32",
        opset=_opset(path),
        max_abs_difference=difference,
        tolerance=tolerance,
        int8_gate=dict(int8_gate) if int8_gate else None,
    )


def read_signature(path: Path) -> Signature:
    """Return the inputs and outputs of an ONNX file.

    Raises:
        ExportError: one has a type that a signature cannot name.
    """
    session = _session(path)
    return Signature(inputs=_specs(session.get_inputs()), outputs=_specs(session.get_outputs()))


class OnnxFile:
    """A Runtime of an ONNX file that is in no bundle yet.

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
        self._session = _session(path, threads)

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Free the session's memory."""
        self.__dict__.pop("_session", None)


def round_weights_fp16(network: nn.Module) -> None:
    """Round a network's weights in place to what fp16 can hold; they stay fp32. Then both files hold the same."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()


def store_weights_fp16(path: Path, out_path: Path) -> None:
    """Write a copy whose large fp32 weights are fp16, with a cast after each; a runtime folds the casts at load time.

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


def stored_state(model: nn.Module, dtype: str) -> dict[str, Tensor]:
    """Return a model's state for model.safetensors, as float32 or float16; tied weights are stored once."""
    wanted = torch.float16 if dtype == "float16" else torch.float32
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in seen or not value.numel():
            seen.add(value.data_ptr())
            state[name] = (value.to(wanted) if value.is_floating_point() else value).clone().contiguous()
    return state


def _opset(path: Path) -> int:
    model = onnx.load(str(path), load_external_data=False)
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _specs(nodes: Sequence[onnxruntime.NodeArg]) -> tuple[TensorSignature, ...]:
    unknown = [f"{node.name}: {node.type}" for node in nodes if node.type not in DTYPES]
    if unknown:
        raise ExportError(f"a signature takes {', '.join(DTYPES)}; the network has {', '.join(unknown)}.")
    return tuple(TensorSignature(name=n.name, dtype=DTYPES[n.type], shape=tuple(n.shape)) for n in nodes)


def _session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = session_options(threads)
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


def _onnx_outputs(path: Path, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        return dict(zip(outputs, _session(path).run(list(outputs), dict(inputs)), strict=True))
    except Exception as error:  # a dozen exception types of ONNX Runtime without a common base
        raise ExportError(f"ONNX Runtime cannot compute {path.name}: {error}") from error


def _check_parity(network: nn.Module, batch: Mapping[str, Tensor], path: Path, outputs: Sequence[str]) -> float:
    found = _onnx_outputs(path, {name: tensor.numpy() for name, tensor in batch.items()}, outputs)
    largest = 0.0
    for name, expected in _torch_outputs(network, batch, outputs).items():
        difference = _difference(expected, found[name])
        if not difference <= _allowed(expected):  # NaN is a failure too
            raise ExportError(
                f"the exported {type(network).__name__} does not compute what torch does: {name} differs by "
                f"{difference:.3g} on a batch of {len(expected)}, allowed is {_allowed(expected):.3g}. An operator was "
                "translated wrongly: try another architecture, or another version of torch."
            )
        largest = max(largest, difference)
    return largest


def _allowed(expected: np.ndarray) -> float:
    return PARITY_TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape:
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max(initial=0))


def _torch_outputs(network: nn.Module, batch: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        result = network(*batch.values())
    if isinstance(result, Mapping):
        result = tuple(result[name] for name in outputs)
    tensors = (result,) if isinstance(result, Tensor) else tuple(result)
    if len(tensors) != len(outputs):
        raise ExportError(f"{type(network).__name__} gives {len(tensors)} outputs; named were {list(outputs)}.")
    return {name: tensor.numpy() for name, tensor in zip(outputs, tensors, strict=True)}


def _settled(network: nn.Module) -> nn.Module:
    """Return a copy on the CPU in fp32 and eval mode; the network itself stays as it is."""
    return copy.deepcopy(network).cpu().float().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns and logs of its own workings; what it does wrong, the parity check finds."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes: stack traces with the paths of this machine, and half a megabyte of names."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    return model
