"""Evened activations: the same product in fp32, half the error in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from shared.errors import ExportError
from shared.runtime.cpu import session_options
from shared.training.export import export_onnx
from shared.training.int8 import quantize_int8
from shared.training.smoothing import smooth


class Outliers(nn.Module):
    """Two layers that read the same input, of which a few channels are a hundred times larger, and one behind them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.where(torch.arange(64) % 16 == 0, 100.0, 1.0), requires_grad=False)
        self.left = nn.Linear(64, 64)
        self.right = nn.Linear(64, 64)
        self.last = nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.scale
        return self.last(torch.tanh(self.left(x) / 50) + self.right(x) / 50)  # [N, T, 8]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smoothing") / "fp32.onnx"
    export_onnx(
        Outliers().eval(), {"x": torch.randn(2, 5, 64)}, path, outputs=["logits"], dynamic={"x": {0: "N", 1: "T"}}
    )
    return path


def batches(count: int, seed: int = 1) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(4, 5, 64)).astype(np.float32)} for _ in range(count)]


def answers(path: Path) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), session_options(1))
    return np.concatenate([session.run(None, batch)[0] for batch in batches(8, seed=2)])


def test_in_fp32_nothing_changes_but_rounding_and_each_input_is_divided_once(fp32: Path, tmp_path: Path) -> None:
    smooth(fp32, tmp_path / "even.onnx", batches(4))
    np.testing.assert_allclose(answers(tmp_path / "even.onnx"), answers(fp32), rtol=1e-4, atol=1e-4)
    nodes = onnx.load(tmp_path / "even.onnx").graph.node
    assert sum(node.name.endswith("_evened") for node in nodes) == 2
    assert (tmp_path / "even.onnx").stat().st_size < 1.2 * fp32.stat().st_size


def test_int8_of_evened_activations_is_nearer_to_fp32(fp32: Path, tmp_path: Path) -> None:
    quantize_int8(fp32, tmp_path / "plain.onnx", kind="dynamic")
    quantize_int8(fp32, tmp_path / "even.onnx", batches(4), kind="dynamic")
    exact = answers(fp32)
    plain, even = (np.square(answers(tmp_path / name) - exact).mean() ** 0.5 for name in ("plain.onnx", "even.onnx"))
    assert even < 0.6 * plain


def test_without_inputs_to_look_at_it_is_refused(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="at least one batch"):
        smooth(fp32, tmp_path / "even.onnx", [])
