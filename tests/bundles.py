"""Tiny bundles for tests: a real ONNX model that sees colours, made without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared.bundle.layout import BundleConfig, ProblemType
from shared.bundle.read import Bundle, Golden
from shared.bundle.write import write_bundle

OPSET = 17
GAIN = 3.0
BIAS = -2.0


def make_tagger_bundle(
    path: Path,
    labels: Sequence[str] = ("cat", "dog", "car"),
    *,
    parents: Mapping[str, Sequence[str]] | None = None,
    problem_type: ProblemType = "multi_label_classification",
    size: int = 32,
    name: str = "tiny-tagger",
    version: str = "2026.11.23-00000000",
) -> Bundle:
    """Return a tagging bundle whose first label means a red photo, the second green, the third blue.

    A pure colour gets its label with a logit of 4 and the two others with -5; grey, black and white get -2 for each.
    Further labels take the colours in turn with a weaker weight. Parents that are no labels yet are added at the end.
    """
    names = list(dict.fromkeys([*labels, *(p for above in (parents or {}).values() for p in above)]))
    weight = colour_weight(len(names))
    bias = np.full(len(names), BIAS, dtype=np.float32)
    inputs = golden_inputs(size)
    config = BundleConfig.model_validate(
        {
            "format_version": 1,
            "name": name,
            "version": version,
            "task": "tagging",
            "architectures": ["colour_mean"],
            "problem_type": problem_type,
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "label_parents": {child: list(above) for child, above in (parents or {}).items()},
            "signature": {
                "inputs": [{"name": "pixel_values", "dtype": "float32", "shape": ["batch", 3, size, size]}],
                "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", len(names)]}],
            },
            "decision": {"temperature": 1.0, "thresholds": dict.fromkeys(names, 0.5)},
            "onnx": {"precision": "fp32", "opset": OPSET, "max_abs_difference": 0.0, "tolerance": 1e-4},
            "provenance": {
                "dataset": [{"name": "colours", "fingerprint": "none", "examples": 3, "licence": "Apache-2.0"}],
                "seed": 0,
                "git_commit": None,
                "start_weights": "none",
                "command": None,
                "created": "2026-11-23T00:00:00+00:00",
                "versions": {"percept": "0.1.0"},
            },
            "metrics": {"test": {"macro_f1": 1.0}},
            "card": {"summary": "Tells red, green and blue photos apart.", "licence": "Apache-2.0"},
        }
    )
    return write_bundle(
        path,
        config,
        files={"model.onnx": colour_model(weight, bias, size)},
        preprocessor={
            "size": size,
            "crop_pct": 1.0,
            "resample": "bilinear",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        golden=Golden(
            inputs={"pixel_values": inputs},
            outputs={"logits": inputs.mean(axis=(2, 3)) @ weight.T + bias},
        ),
    )


def colour_weight(num_labels: int) -> np.ndarray:
    """Return float32 [num_labels, 3]: own channel less the mean of the two others, weaker every third label."""
    weight = np.full((num_labels, 3), -0.5, dtype=np.float32)
    weight[np.arange(num_labels), np.arange(num_labels) % 3] = 1
    return weight * (GAIN / (1 + np.arange(num_labels) // 3))[:, None].astype(np.float32)


def colour_model(weight: np.ndarray, bias: np.ndarray, size: int) -> bytes:
    """Return a serialised ONNX model: the mean of each channel, then a linear layer."""
    num_labels = len(bias)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),  # [batch, 3, 1, 1]
            helper.make_node("Flatten", ["pooled"], ["means"]),  # [batch, 3]
            helper.make_node("Gemm", ["means", "weight", "bias"], ["logits"], transB=1),
        ],
        "colour_mean",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", num_labels])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def golden_inputs(size: int) -> np.ndarray:
    """Return float32 [3, 3, size, size]: a red photo and two of noise."""
    red = np.full((3, size, size), -1, dtype=np.float32)
    red[0] = 1
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 3, size, size)).astype(np.float32)
    return np.concatenate([red[None], noise])
