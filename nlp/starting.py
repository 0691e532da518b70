"""Fine-tuning that starts from a bundle: its encoder's sizes, tokenizer and weights, from float32 or from int8."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn

from shared.bundle.layout import CONFIG, ONNX, WEIGHTS
from shared.bundle.read import Bundle, read_bundle
from shared.errors import ConfigError
from shared.training.heads import carried_rows
from shared.training.int8 import dequantise

logger = logging.getLogger(__name__)


def start_from_bundle(model: Any) -> None:
    """Make the encoder that of the bundle, where settings of a model name one as its weights.

    Args:
        model: the `model` section of a run's settings, with `encoder` and `weights`; changed in place.
    """
    if start_bundle(model.weights) is not None:
        model.encoder = model.weights


def start_bundle(weights: str) -> Bundle | None:
    """Return the bundle that is named as weights; None for "DEFAULT" and "none".

    Raises:
        ConfigError: there is no bundle.
        BundleError: it is broken.
    """
    if weights in ("DEFAULT", "none"):
        return None
    folder = Path(weights).expanduser()
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"model.weights must be DEFAULT, none or the folder of a bundle; came {weights!r}, which has no {CONFIG}. "
            "Other encoders go to --model.encoder, by name or folder."
        )
    return read_bundle(folder)


def load_start(
    network: nn.Module, bundle: Bundle, head: nn.Module | None = None, labels: Sequence[str] = ()
) -> list[int]:
    """Load a bundle's weights into all parts of a network whose names and shapes agree; its head may stay fresh.

    Args:
        network: takes the weights.
        bundle: has them.
        head: the part of the network whose rows are labels; it takes the rows of the labels that the bundle knows.
        labels: of its rows.

    Returns:
        The rows of the head that stayed as they were; all, if the bundle knows none of the labels.

    Raises:
        ConfigError: the bundle's encoder is not that of the network.
    """
    if WEIGHTS in bundle.config.files:
        state = load_file(bundle.file(WEIGHTS))
        logger.info("starting from the weights of %s", bundle.path)
    else:
        state = dequantise(bundle.file(ONNX))
        logger.info(
            "starting from %s/%s: the bundle has no %s, so its weights are those of the int8 file, as exact as int8 is",
            bundle.path, ONNX, WEIGHTS,
        )  # fmt: skip
    own = network.state_dict()
    fitting: dict[str, torch.Tensor] = {}
    for name, value in own.items():
        found = _named_alike(name, state)
        if found is not None and found.shape == tuple(value.shape):
            fitting[name] = torch.from_numpy(np.array(found)).to(value.dtype)
    fresh = list(range(len(labels)))
    rows_of = {id(parameter) for parameter in head.parameters()} if head is not None else set()
    for name in [name for name, parameter in network.named_parameters() if id(parameter) in rows_of]:
        fitting.pop(name, None)  # of as many labels, but maybe of others
        found = _named_alike(name, state)
        grown = (
            None if found is None else carried_rows(own[name], torch.from_numpy(np.array(found)), labels, bundle.labels)
        )
        if grown is not None:
            fitting[name], fresh = grown
    body = [name for name in own if ".layer." in name or "embeddings." in name]
    missing = [name for name in body if name not in fitting and not name.endswith("position_ids")]
    if missing or not body:
        raise ConfigError(
            f"the weights of {bundle.path} are not those of this network: {len(missing)} of its parts are missing or "
            f"of another shape, the first: {missing[0] if missing else 'all'}."
        )
    network.load_state_dict(fitting, strict=False)
    return fresh


def _named_alike(name: str, state: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return the weight of that name, whatever stands before the part that all networks of the encoder share."""
    if name in state:
        return state[name]
    for part in ("embeddings.", "encoder.", "transformer.", "qa_outputs."):
        place = name.find(part)
        if place >= 0:
            end = f".{name[place:]}"
            found = [value for other, value in state.items() if f".{other}".endswith(end)]
            if len(found) == 1:
                return found[0]
    return None
