"""Learning from a teacher: its bundle, and the loss that draws what a network says towards what a larger one says."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from shared.bundle.layout import CONFIG
from shared.bundle.read import Bundle, read_bundle
from shared.errors import ConfigError


def read_teacher(named: str, task: str, other: str = "") -> Bundle:
    """Return the bundle of a teacher.

    Args:
        named: its folder.
        task: of the network that learns.
        other: what else may be named, for the message.

    Raises:
        ConfigError: it is no bundle, or one for another task.
        BundleError: it is broken.
    """
    folder = Path(named).expanduser()
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"model.teacher must be the folder of a bundle{other}; came {named!r}, which has no {CONFIG}."
        )
    bundle = read_bundle(folder)
    if bundle.config.task != task:
        raise ConfigError(f"model.teacher {named} is a bundle for {bundle.config.task}; expected one for {task}.")
    return bundle


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropies [...] of logits [..., K] with a teacher's shares [..., K], both at one temperature.

    They are multiplied by the temperature's square, so that their gradients are as large as those of labels.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """
    return -(targets * (logits / temperature).log_softmax(dim=-1)).sum(dim=-1) * temperature**2


def check_teaching(weight: float, temperature: float) -> None:
    """Refuse a share or a temperature that cannot be.

    Raises:
        ConfigError: says which.
    """
    if not 0 <= weight <= 1:
        raise ConfigError(f"model.teacher_weight must be from 0, the labels alone, to 1; came {weight}.")
    if temperature <= 0:
        raise ConfigError(f"model.teacher_temperature must be above 0; came {temperature}.")


def started_from(encoder: str, teacher: str | None) -> str:
    """Return what a bundle says of where its weights come from.

    >>> started_from("weights/minilm", None), started_from("weights/minilm", "large 2026-11-30")
    ('minilm', 'minilm; teacher: large 2026-11-30')
    """
    start = Path(encoder).name
    return f"{start}; teacher: {teacher}" if teacher else start
