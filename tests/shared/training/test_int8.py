"""The layers that int8 harms most, and that leaving them in fp32 is tried where int8 fails its gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from shared.bundle.read import Golden
from shared.training.export import OnnxFile, export_onnx, make_golden, read_signature
from shared.training.int8 import int8_gate, layers_by_harm, quantize_int8
from shared.training.shipping import Int8Trial, choose_file

LOUD = 2000.0


def photos(count: int, seed: int = 0) -> torch.Tensor:
    """Return [N, 3, 16, 16] with one channel so loud that one scale for all leaves the other two next to nothing."""
    pixels = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    pixels[:, 0] *= LOUD
    return pixels


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Golden]:
    """A network whose first layer alone sees the loud channel, and its golden outputs."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3)
    with torch.no_grad():
        first.weight[:, 0] /= LOUD
    layers = [first, nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    network = nn.Sequential(*layers).eval()
    path = tmp_path_factory.mktemp("layers") / "fp32.onnx"
    export_onnx(network, {"pixel_values": photos(2)}, path, outputs=["logits"])
    return path, make_golden(network, {"pixel_values": photos(2)}, outputs=["logits"])


def batches() -> list[dict[str, np.ndarray]]:
    return [{"pixel_values": photos(8, seed).numpy()} for seed in (1, 2)]


def error(fp32: Path, small: Path) -> float:
    batch = {"pixel_values": photos(8, 3).numpy()}
    large, little = (OnnxFile(path, read_signature(path)).run(batch)["logits"] for path in (fp32, small))
    return float(np.abs(large - little).max())


def layers_of(path: Path) -> list[str]:
    return [node.name for node in onnx.load(str(path)).graph.node if node.op_type in ("Conv", "Gemm")]


def test_the_layer_that_is_harmed_most_comes_first(exported: tuple[Path, Golden]):
    fp32, _ = exported
    assert layers_by_harm(fp32, batches())[0] == layers_of(fp32)[0]


def test_a_layer_that_stays_in_fp32_mends_the_answers(exported: tuple[Path, Golden], tmp_path: Path):
    fp32, _ = exported
    quantize_int8(fp32, tmp_path / "all.onnx", batches())
    quantize_int8(fp32, tmp_path / "but_one.onnx", batches(), fp32_layers=layers_of(fp32)[:1])
    assert error(fp32, tmp_path / "but_one.onnx") < 0.2 * error(fp32, tmp_path / "all.onnx")


def test_where_int8_fails_the_worst_layers_stay_in_fp32_until_it_passes(exported: tuple[Path, Golden]):
    fp32, golden = exported
    limit = 0.02

    def gate(large: Path, small: Path) -> dict[str, float | str | bool]:
        return int8_gate(0.0, -error(large, small), max_loss=limit)

    chosen, export = choose_file(fp32, golden, trial=Int8Trial(gate, "static", batches()))
    assert export.precision == "int8"
    assert export.int8_gate is not None
    assert export.int8_gate["layers_in_fp32"] == layers_of(fp32)[0]
    assert error(fp32, chosen) <= limit


def test_where_no_int8_file_passes_fp32_ships(exported: tuple[Path, Golden]):
    fp32, golden = exported
    tried: list[str] = []

    def gate(large: Path, small: Path) -> dict[str, float | str | bool]:
        tried.append(small.name)
        return int8_gate(1.0, 0.0, max_loss=0.1)

    chosen, export = choose_file(fp32, golden, trial=Int8Trial(gate, "static", batches()))
    assert chosen == fp32
    assert export.precision == "fp32"
    assert len(tried) > 1
