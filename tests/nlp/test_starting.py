"""Fine-tuning from the starters: int8 files become weights again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nlp.intent.module import IntentModule
from nlp.qa.module import AnswerModule
from nlp.starting import load_start, start_bundle
from shared.bundle.layout import ONNX
from shared.bundle.read import read_bundle
from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.training.export import export_onnx
from shared.training.int8 import dequantise, quantize_int8

INTENT, QA = str(PROJECT_ROOT / "models" / "intent"), str(PROJECT_ROOT / "models" / "qa")


def test_the_starter_s_features_come_back_nearer_to_fp32_than_int8_is():
    bundle = read_bundle(INTENT)
    module = IntentModule(labels=["a", "b", "c"], encoder=INTENT, weights=INTENT).eval()
    golden = {name: torch.from_numpy(values) for name, values in bundle.golden.inputs.items()}
    with torch.no_grad():
        _, features = module.network(golden["input_ids"], golden["attention_mask"])
    expected, shipped = bundle.golden.outputs["features"], bundle.golden.shipped["features"]
    error = np.abs(features.numpy() - expected).max()
    assert error <= np.abs(shipped - expected).max()
    assert error <= 0.05


def test_the_starter_reader_finds_the_same_places():
    bundle = read_bundle(QA)
    module = AnswerModule(encoder=QA, weights=QA).eval()
    golden = {name: torch.from_numpy(values) for name, values in bundle.golden.inputs.items()}
    with torch.no_grad():
        start, end = module.network(golden["input_ids"], golden["attention_mask"], golden["token_type_ids"])
    for found, name in ((start, "start_logits"), (end, "end_logits")):
        expected = bundle.golden.outputs[name]
        assert np.corrcoef(found.numpy().ravel(), expected.ravel())[0, 1] > 0.97
        assert (found.numpy().argmax(axis=1) == expected.argmax(axis=1))[:2].all(), "the last question has no answer"


@pytest.mark.parametrize("is_evened", [False, True])
def test_products_come_back_under_torch_s_names_within_an_int8_step(tmp_path: Path, is_evened: bool):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4)).eval()
    batch = torch.randn(8, 16) * torch.linspace(0.1, 20, 16)
    export_onnx(network, {"x": batch}, tmp_path / "fp32.onnx", outputs=["y"])
    for name, value in dequantise(tmp_path / "fp32.onnx").items():
        np.testing.assert_array_equal(value, network.state_dict()[name].numpy())
    calibration = [{"x": batch.numpy()}] if is_evened else []
    quantize_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", calibration, kind="dynamic")
    found = dequantise(tmp_path / "int8.onnx")
    for name in ("0.weight", "2.weight"):
        expected = network.state_dict()[name].numpy()
        assert np.abs(found[name] - expected).max() <= (0.05 if is_evened else 0.01) * np.abs(expected).max()


def test_a_folder_without_a_bundle_says_what_may_be_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"DEFAULT, none or the folder of a bundle; came .*has no config\.json"):
        start_bundle(str(tmp_path))


def test_weights_of_another_network_are_refused():
    bundle = read_bundle(INTENT)
    with pytest.raises(ConfigError, match="are not those of this network"):
        load_start(torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"layer": torch.nn.Linear(3, 3)})}), bundle)


def test_every_weight_of_the_starters_is_found():
    for folder in (INTENT, QA):
        found = dequantise(read_bundle(folder).file(ONNX))
        products = [name for name in found if name.endswith("weight") and "LayerNorm" not in name]
        assert len([name for name in products if ".layer." in name]) == 6 * 6
        assert len([name for name in products if "embeddings" in name]) == 3
