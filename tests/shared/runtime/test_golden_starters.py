"""The start-up check of the models that ship: it passes them as they are, and none that computes something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from shared.bundle.layout import ONNX
from shared.bundle.read import read_bundle
from shared.errors import BundleError
from shared.project import PROJECT_ROOT
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden

Tensors = Mapping[str, np.ndarray]
MODELS = PROJECT_ROOT / "models"


class Changed(OnnxRuntime):
    """The CPU runtime with something wrong in front of the network, or behind it."""

    before: Callable[[Tensors], Tensors] = staticmethod(dict)
    added = 0.0
    """To each logit."""

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        found = super().run(self.before(inputs))
        return {name: values + self.added if name == "logits" else values for name, values in found.items()}


@pytest.mark.parametrize("name", ["tagger", "intent", "qa"])
def test_a_starter_gives_its_own_golden_outputs(name: str):
    bundle = read_bundle(MODELS / name)
    largest = max(float(np.abs(array).max()) for array in bundle.golden.shipped.values())
    assert check_golden(bundle, OnnxRuntime(bundle)) <= 0.02 * largest


def saturates() -> bool:
    """Whether this processor adds products of 8-bit numbers in 16 bits, which are too few: x86 without VNNI.

    ONNX Runtime works around it where it fuses the dequantisation, as it does for every service; the same network
    without fusions is another one there (features of the intents differ by 0.17 instead of 0.01, logits of the
    answers by 3.5; AVX2, 2026-11-29).
    """
    try:
        said = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return "avx2" in said and "vnni" not in said


@pytest.mark.skipif(saturates(), reason="without VNNI, a network without fusions computes something else")
@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC"])
@pytest.mark.parametrize("name", ["tagger", "intent", "qa"])
def test_another_order_of_rounding_passes(name: str, level: str):
    bundle = read_bundle(MODELS / name)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    runtime = OnnxRuntime(bundle)
    runtime._session = onnxruntime.InferenceSession(str(bundle.file(ONNX)), options)
    check_golden(bundle, runtime)


@pytest.mark.parametrize(
    ("name", "before", "added"),
    [
        ("tagger", lambda inputs: {k: v[..., ::-1].copy() for k, v in inputs.items()}, 0),
        ("tagger", None, 4),
        ("intent", None, 1),
        ("intent", lambda inputs: {**inputs, "attention_mask": np.ones_like(inputs["attention_mask"])}, 0),
        ("qa", lambda inputs: {**inputs, "attention_mask": np.ones_like(inputs["attention_mask"])}, 0),
        ("qa", lambda inputs: {**inputs, "token_type_ids": np.zeros_like(inputs["token_type_ids"])}, 0),
    ],
    ids=["photo turned over", "+4 on each logit", "+1 on each logit", "mask ignored", "mask of qa", "pair as one text"],
)
def test_a_model_that_computes_something_else_is_not_served(
    name: str, before: Callable[[Tensors], Tensors] | None, added: float
):
    bundle = read_bundle(MODELS / name)
    runtime = Changed(bundle)
    runtime.before, runtime.added = before or runtime.before, added
    with pytest.raises(BundleError, match="does not answer as it did after training"):
        check_golden(bundle, runtime)
