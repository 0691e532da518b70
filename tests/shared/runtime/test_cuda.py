"""TorchRuntime on torch's CPU device, where it can be held to the CPU runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from shared.bundle.layout import BundleConfig, Signature, TensorSignature
from shared.bundle.read import Bundle
from shared.errors import BundleError, InputError, Overloaded
from shared.runtime.choose import choose_runtime
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.cuda import TorchRuntime
from shared.runtime.golden import check_golden
from tests.bundles import GAIN
from tests.networks import make_exported_bundle, photos, settled_network

# fp32 kernels sum in another order: 1e-6 for logits about 1. A wrong layer is off by 0.1 and more.
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["mobilenet_v2", "resnet18"])
def exported_bundle(
    request: pytest.FixtureRequest, tagger_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    folder = tmp_path_factory.mktemp("exported")
    return make_exported_bundle(folder / "tagger", settled_network(request.param), tagger_bundle.config)


def load_network(bundle: Bundle) -> nn.Module:
    """Return the network with weights from the bundle and from nowhere else."""
    architecture = {"MobileNetV2": "mobilenet_v2", "ResNet": "resnet18"}[bundle.config.architectures[0]]
    network: nn.Module = getattr(torchvision.models, architecture)(num_classes=len(bundle.labels))
    network.load_state_dict(load_file(bundle.file("model.safetensors")))
    return network


class ColourMean(nn.Module):
    """The network of the tiny tagger bundle, in torch."""

    def __init__(self, result: str = "tensor") -> None:
        super().__init__()
        self.result = result

    def forward(self, pixel_values: torch.Tensor) -> Any:
        means = pixel_values.mean(dim=(2, 3))  # [N, 3]
        logits = GAIN * (1.5 * means - means.sum(dim=1, keepdim=True) / 2) - 2
        return {"tensor": logits, "tuple": (logits,), "mapping": {"hidden": means, "logits": logits}}.get(
            self.result, ()
        )


def test_torch_in_fp32_equals_onnx_runtime_and_the_golden_outputs(exported_bundle: Bundle) -> None:
    by_torch = TorchRuntime(exported_bundle, load_network, "cpu")
    by_onnx = OnnxRuntime(exported_bundle)
    assert check_golden(exported_bundle, by_torch) < TOLERANCE
    assert check_golden(exported_bundle, by_onnx) < TOLERANCE
    batch = {"pixel_values": photos(5).numpy()}
    logits = by_torch.run(batch)["logits"]
    assert logits.std() > 0.1  # nothing that any network would give
    np.testing.assert_allclose(logits, by_onnx.run(batch)["logits"], atol=TOLERANCE)
    assert by_torch.inputs == by_onnx.inputs
    assert by_torch.outputs == by_onnx.outputs


def test_bf16_gives_float32_near_the_golden_outputs(exported_bundle: Bundle) -> None:
    runtime = TorchRuntime(exported_bundle, load_network, "cpu", torch.bfloat16)
    logits = runtime.run(exported_bundle.golden.inputs)["logits"]
    golden = exported_bundle.golden.outputs["logits"]
    difference = np.abs(logits - golden).max() / np.abs(golden).max()
    assert logits.dtype == np.float32
    # It did compute in bf16. Depth multiplies rounding where weights are random: 0.28 for MobileNetV2 and 0.03 for
    # ResNet18, the same in torch's autocast; trained MobileNetV2 0.05. Other weights differ by more than 1.
    assert 1e-4 < difference < 0.5


def test_batch_norm_stays_in_float32(exported_bundle: Bundle) -> None:
    networks: list[nn.Module] = []

    def build(bundle: Bundle) -> nn.Module:
        networks.append(load_network(bundle))
        return networks[0]

    TorchRuntime(exported_bundle, build, "cpu", torch.bfloat16)
    norms = [m for m in networks[0].modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.running_var.dtype for m in norms if m.running_var is not None} == {torch.float32}
    assert {m.weight.dtype for m in networks[0].modules() if isinstance(m, nn.Conv2d)} == {torch.bfloat16}


@pytest.mark.parametrize("result", ["tensor", "tuple", "mapping"])
def test_outputs_are_named_whatever_the_network_gives(tagger_bundle: Bundle, result: str) -> None:
    runtime = TorchRuntime(tagger_bundle, lambda _: ColourMean(result), "cpu")
    assert check_golden(tagger_bundle, runtime) < TOLERANCE


def test_network_with_other_outputs_is_a_bundle_error(tagger_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"gives 0 outputs; the signature .* names \['logits'\]"):
        TorchRuntime(tagger_bundle, lambda _: ColourMean("nothing"), "cpu").run(tagger_bundle.golden.inputs)


def test_input_outside_the_signature_is_an_input_error(tagger_bundle: Bundle) -> None:
    runtime = TorchRuntime(tagger_bundle, lambda _: ColourMean(), "cpu")
    with pytest.raises(InputError, match=r"float32 \[batch, 3, 32, 32\].*came float64"):
        runtime.run({"pixel_values": np.zeros((1, 3, 32, 32))})


def test_array_that_may_not_be_written_is_taken_and_left_alone(tagger_bundle: Bundle) -> None:
    pixels = np.ones((1, 3, 32, 32), dtype=np.float32)
    pixels.setflags(write=False)
    logits = TorchRuntime(tagger_bundle, lambda _: ColourMean(), "cpu").run({"pixel_values": pixels})["logits"]
    np.testing.assert_allclose(logits, [[-2, -2, -2]])


def test_inputs_reach_the_network_in_the_order_of_the_signature(tagger_bundle: Bundle, tmp_path: Path) -> None:
    class Difference(nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return (first - second).float()

    specs = tuple(TensorSignature(name=name, dtype="int64", shape=("batch", 3)) for name in ("zebra", "ape"))
    signature = Signature(inputs=specs, outputs=tagger_bundle.config.signature.outputs)
    config: BundleConfig = tagger_bundle.config.model_copy(update={"signature": signature})
    bundle = Bundle(tmp_path, config, {}, tagger_bundle.golden)
    inputs = {"ape": np.array([[1, 2, 3]]), "zebra": np.array([[5, 5, 5]])}
    runtime = TorchRuntime(bundle, lambda _: Difference(), "cpu", torch.bfloat16)  # integers stay integers
    np.testing.assert_array_equal(runtime.run(inputs)["logits"], [[4, 3, 2]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_is_chosen_and_answers_as_the_golden_outputs_say(exported_bundle: Bundle) -> None:
    runtime = choose_runtime(exported_bundle, "auto", network=f"{__name__}:load_network")
    assert runtime.device == "cuda"
    assert "bfloat16" in runtime.description
    logits = runtime.run(exported_bundle.golden.inputs)["logits"]
    golden = exported_bundle.golden.outputs["logits"]
    assert np.abs(logits - golden).max() / np.abs(golden).max() < 0.5  # as above
    runtime.close()


class Cramped(ColourMean):
    """Has memory for so many rows at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.asked: list[int] = []

    def forward(self, pixel_values: torch.Tensor) -> Any:
        self.asked.append(len(pixel_values))
        if len(pixel_values) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(pixel_values)


def test_a_batch_without_memory_is_computed_in_halves_and_later_ones_at_once(tagger_bundle: Bundle) -> None:
    network = Cramped(3)
    runtime = TorchRuntime(tagger_bundle, lambda _: network, "cpu")
    pixels = np.random.default_rng(0).random((9, 3, 32, 32), dtype=np.float32)
    expected = TorchRuntime(tagger_bundle, lambda _: ColourMean(), "cpu").run({"pixel_values": pixels})["logits"]
    np.testing.assert_array_equal(runtime.run({"pixel_values": pixels})["logits"], expected)
    assert network.asked == [9, 5, 3, 2, 4, 2, 2]
    network.asked.clear()
    np.testing.assert_array_equal(runtime.run({"pixel_values": pixels})["logits"], expected)
    assert network.asked == [3, 2, 2, 2]
    network.asked.clear()
    assert len(runtime.run({"pixel_values": pixels[:3]})["logits"]) == 3
    assert network.asked == [3]


def test_no_memory_for_a_single_input_is_answered_as_overload_and_tried_again(tagger_bundle: Bundle) -> None:
    network = Cramped(0)
    runtime = TorchRuntime(tagger_bundle, lambda _: network, "cpu")
    with pytest.raises(Overloaded, match="no memory left for a single input"):
        runtime.run(tagger_bundle.golden.inputs)
    network.most = 1
    assert check_golden(tagger_bundle, runtime) < TOLERANCE
