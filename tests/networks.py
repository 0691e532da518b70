"""Tiny torch networks for parity tests, with outputs that a wrong translation would change."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from torch import nn

from shared.bundle.layout import BundleConfig
from shared.bundle.read import Bundle
from shared.bundle.write import write_bundle
from shared.training.export import describe_export, export_onnx, make_golden, read_signature

LABELS = ("ant", "bee", "cow", "dog", "eel")
SIZE_PX = 32


def settled_network(architecture: str, num_labels: int = len(LABELS)) -> nn.Module:
    """Return a torchvision network with random weights whose logits are about 1.

    Batch norm takes its statistics from random photos: with mean 0 and variance 1, as at the start, MobileNet's
    activations die out layer by layer, its logits are about 1e-15, and every parity test on them passes.
    """
    torch.manual_seed(0)
    network: nn.Module = getattr(torchvision.models, architecture)(num_classes=num_labels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the batches
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(photos(16))
        network.eval()
        scale = network(photos(16)).std()
        head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        head.weight /= scale
    return network


def photos(count: int, size: int = SIZE_PX) -> torch.Tensor:
    """Return float32 [count, 3, size, size]: random, each of another brightness."""
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randn(count, 3, size, size, generator=generator)
    return pixels + torch.randn(count, 3, 1, 1, generator=generator)


def make_exported_bundle(path: Path, network: nn.Module, config: BundleConfig) -> Bundle:
    """Return a bundle of a network with weights and ONNX export, labelled `LABELS`; the rest is as `config` says."""
    from safetensors.torch import save

    example = {"pixel_values": photos(3)}
    onnx_path = path.with_suffix(".onnx")
    export_onnx(network, example, onnx_path, outputs=["logits"])
    golden = make_golden(network, example, outputs=["logits"])
    changed = {
        "architectures": [type(network).__name__],
        "id2label": dict(enumerate(LABELS)),
        "label2id": {name: index for index, name in enumerate(LABELS)},
        "decision": {"temperature": 1.0, "thresholds": dict.fromkeys(LABELS, 0.5)},
        "signature": read_signature(onnx_path).model_dump(),
        "onnx": describe_export(onnx_path, golden).model_dump(),
    }
    return write_bundle(
        path,
        BundleConfig.model_validate({**config.model_dump(), **changed}),
        files={"model.onnx": onnx_path, "model.safetensors": save(network.state_dict())},
        preprocessor={},
        golden=golden,
    )
