"""torch = ONNX = golden outputs, and an export that computes something else is refused."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from shared.bundle.read import Golden
from shared.errors import ExportError
from shared.training import export
from shared.training.export import describe_export, export_onnx, make_golden, read_signature
from shared.training.int8 import int8_gate, quantize_int8
from tests.networks import SIZE_PX, photos, settled_network

# fp32 kernels sum in another order: measured 1e-6 for logits about 1. A wrong layer is off by 0.1 and more.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return settled_network("resnet18")


@pytest.fixture(scope="module")
def resnet_onnx(resnet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "resnet.onnx"
    assert export_onnx(resnet, {"pixel_values": photos(3)}, path, outputs=["logits"]) < TOLERANCE
    return path


def logits_of(path: Path, pixels: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["logits"], {"pixel_values": pixels.numpy()})[0]
    return result


@pytest.mark.parametrize("count", [1, 2, 7])
def test_exported_resnet_computes_what_torch_does_on_unseen_photos(
    resnet: nn.Module, resnet_onnx: Path, count: int
) -> None:
    pixels = photos(count) * 1.5
    with torch.no_grad():
        expected = resnet(pixels).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits_of(resnet_onnx, pixels), expected, atol=TOLERANCE)


def test_golden_outputs_are_those_of_torch_and_of_onnx(resnet: nn.Module, resnet_onnx: Path) -> None:
    golden = make_golden(resnet, {"pixel_values": photos(2)}, outputs=["logits"])
    with torch.no_grad():
        np.testing.assert_array_equal(golden.outputs["logits"], resnet(photos(2)).numpy())
    record = describe_export(resnet_onnx, golden)
    assert record.precision == "fp32"
    assert 0 < record.max_abs_difference < TOLERANCE
    assert record.tolerance == pytest.approx(1e-3 * max(1, np.abs(golden.outputs["logits"]).max()))
    assert record.opset >= 18


def test_exported_file_knows_nothing_of_this_machine(resnet_onnx: Path) -> None:
    content = resnet_onnx.read_bytes()
    for trace in (b"File ", str(Path(__file__).parents[3]).encode(), b"site-packages", b"stack_trace"):
        assert trace not in content
    assert [entry.name for entry in resnet_onnx.parent.iterdir()] == [resnet_onnx.name]  # weights included


def test_signature_is_read_from_the_file(resnet_onnx: Path) -> None:
    signature = read_signature(resnet_onnx)
    assert [(s.name, s.dtype, s.shape) for s in signature.inputs] == [
        ("pixel_values", "float32", ("batch", 3, SIZE_PX, SIZE_PX))
    ]
    assert [(s.name, s.dtype, s.shape) for s in signature.outputs] == [("logits", "float32", ("batch", 5))]


class Spans(nn.Module):
    """Two integer inputs of any length, two outputs: what question answering has."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embedding(input_ids) * attention_mask.unsqueeze(-1)  # [N, T, 4]
        start, end = self.head(hidden.cumsum(dim=1)).unbind(dim=-1)  # [N, T] each
        return {"start_logits": start, "end_logits": end}


def test_network_with_two_inputs_and_outputs_of_any_length_is_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {"input_ids": torch.randint(0, 11, (2, 6)), "attention_mask": torch.ones(2, 6, dtype=torch.int64)}
    axes = {name: {0: "batch", 1: "length"} for name in example}
    path = tmp_path / "spans.onnx"
    outputs = ["start_logits", "end_logits"]
    network = Spans()
    assert export_onnx(network, example, path, outputs=outputs, dynamic=axes) < TOLERANCE
    assert {s.shape for s in (*read_signature(path).inputs, *read_signature(path).outputs)} == {("batch", "length")}
    longer = {name: tensor.repeat(2, 3) for name, tensor in example.items()}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(outputs, {name: tensor.numpy() for name, tensor in longer.items()})
    with torch.no_grad():
        expected = network(**longer)
    for name, array in zip(outputs, found, strict=True):
        np.testing.assert_allclose(array, expected[name].numpy(), atol=TOLERANCE)


def test_export_leaves_the_network_and_the_loggers_as_they_were(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Dropout(0.5)).double()
    network.train()
    network[1].eval()
    before = list(logging.getLogger().handlers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(network, {"pixel_values": torch.ones(2, 3, 2, 2)}, tmp_path / "m.onnx", outputs=["logits"])
    assert [module.training for module in network] == [True, False, True]
    assert network[1].weight.dtype == torch.float64
    assert logging.getLogger().handlers == before


def test_export_that_computes_something_else_is_refused(
    resnet: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: onnx.ModelProto) -> onnx.ModelProto:
        last = next(t for t in model.graph.initializer if list(t.dims) == [5])
        last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) + 0.01, last.name))
        return model

    monkeypatch.setattr(export, "_without_traces", spoil)
    with pytest.raises(ExportError, match=r"ResNet does not compute what torch does: logits differs by 0\.01"):
        export_onnx(resnet, {"pixel_values": photos(2)}, tmp_path / "m.onnx", outputs=["logits"])


def test_network_that_gives_nan_is_refused(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x - 2).flatten(1)

    with pytest.raises(ExportError, match="differs by nan"):
        export_onnx(Broken(), {"pixel_values": torch.ones(2, 3)}, tmp_path / "m.onnx", outputs=["logits"])


def test_network_that_torch_cannot_trace_is_refused(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(ExportError, match="torch cannot export Branches to ONNX"):
        export_onnx(Branches(), {"pixel_values": torch.ones(2, 3)}, tmp_path / "m.onnx", outputs=["logits"])


def test_example_of_one_row_is_refused(resnet: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="two rows or more"):
        export_onnx(resnet, {"pixel_values": photos(1)}, tmp_path / "m.onnx", outputs=["logits"])


def test_wrong_number_of_output_names_is_refused(resnet: nn.Module) -> None:
    with pytest.raises(ExportError, match="gives 1 outputs; named were"):
        make_golden(resnet, {"pixel_values": photos(2)}, outputs=["start", "end"])


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_int8_is_smaller_and_answers_nearly_the_same(
    resnet: nn.Module, resnet_onnx: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "int8.onnx"
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    batches = [{"pixel_values": photos(8).numpy()}, {"pixel_values": photos(3).numpy()}]
    quantize_int8(resnet_onnx, path, batches, kind=kind)  # type: ignore[arg-type]
    assert (list(root.handlers), root.level) == before
    assert path.stat().st_size < 0.3 * resnet_onnx.stat().st_size
    golden = make_golden(resnet, {"pixel_values": photos(4)}, outputs=["logits"])
    record = describe_export(path, golden, int8_gate=int8_gate(0.9, 0.9, max_loss=0.01))
    assert record.precision == "int8"
    # eight bits of each activation: some hundredths of the range, and never as near as fp32
    assert TOLERANCE < record.max_abs_difference < 0.25 * np.abs(golden.outputs["logits"]).max()
    assert record.tolerance == pytest.approx(2 * record.max_abs_difference)


def test_static_int8_without_calibration_data_is_refused(resnet_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="at least one calibration batch"):
        quantize_int8(resnet_onnx, tmp_path / "int8.onnx", [])


def test_file_that_cannot_be_quantised_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"broken\.onnx cannot be quantised.*Ship fp32"):
        quantize_int8(tmp_path / "broken.onnx", tmp_path / "int8.onnx", kind="dynamic")


@pytest.mark.parametrize(("int8", "passed"), [(0.95, True), (0.90, True), (0.895, True), (0.885, False)])
def test_int8_ships_only_while_quality_holds(resnet_onnx: Path, int8: float, passed: bool) -> None:
    gate = int8_gate(0.90, int8, max_loss=0.01)
    assert gate["passed"] is passed
    golden = Golden({"pixel_values": photos(2).numpy()}, {"logits": logits_of(resnet_onnx, photos(2))})
    record = describe_export(resnet_onnx, golden, int8_gate=gate)
    assert record.precision == ("int8" if passed else "fp32")
    assert record.int8_gate == gate
