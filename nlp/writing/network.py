"""Any Hugging Face causal language model, which writes one token and hands on what it has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache, LlamaConfig, PreTrainedModel

from nlp.writing.pointer import build_pointer, is_pointer
from nlp.writing.predictor import EOS
from nlp.writing.wording import BLANK
from shared.bundle.layout import CONFIG, WEIGHTS
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError

SMALL = "small"
"""The language model that starts from nothing: small enough to come with a service."""
_GGUF = ".gguf"
_PAD, _END = "<pad>", "<end>"


class WriterNetwork(nn.Module):
    """A Hugging Face model that is told what it has seen before, and tells what it has seen now, as one tensor each.

    `model` is the Hugging Face model itself: its state is what AutoModelForCausalLM loads.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: PreTrainedModel = model

    def forward(self, input_ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [N, V] of the token that follows, and what has been seen [N, 2 * layers, H, P + T, D].

        Args:
            input_ids: int64 [N, T], all real tokens.
            past: keys and values of each layer in turn, float32 [N, 2 * layers, H, P, D]; P may be 0.
        """
        cache = DynamicCache()
        for layer in range(past.shape[1] // 2):
            cache.update(past[:, 2 * layer], past[:, 2 * layer + 1], layer)
        places = past.shape[3] + torch.arange(input_ids.shape[1], device=input_ids.device)
        found = self.model(
            input_ids=input_ids, position_ids=places.unsqueeze(0).expand_as(input_ids), cache=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        present = [values for layer in layers_of(cache) for values in layer]
        return found.logits[:, -1].float(), torch.stack(present, dim=1).float()


def layers_of(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Return the keys and the values of each layer of transformers' cache.

    Raises:
        ConfigError: the network keeps something else of what it has seen, such as a state.
    """
    if not all(hasattr(layer, "keys") and hasattr(layer, "values") for layer in cache.layers):
        raise ConfigError(
            "this language model keeps no keys and values of each layer. Choose one with plain attention."
        )
    return [(layer.keys, layer.values) for layer in cache.layers]


def build_model(
    language_model: str, weights: str = "DEFAULT", *, vocabulary_size: int = 0, size: int = 256, layers: int = 6
) -> PreTrainedModel:
    """Return a causal language model.

    Args:
        language_model: a Hugging Face name, a local folder, a GGUF file, or "small" for one that starts from nothing.
        weights: "DEFAULT" for its own, "none" for random ones.
        vocabulary_size: of the tokenizer of "small".
        size: width of "small".
        layers: of "small".

    Raises:
        ConfigError: it cannot be loaded, or does not write one token after the other.
    """
    if language_model == SMALL:
        config = LlamaConfig(
            vocab_size=vocabulary_size, hidden_size=size, intermediate_size=size * 11 // 4 // 32 * 32,
            num_hidden_layers=layers, num_attention_heads=max(1, size // 64), num_key_value_heads=max(1, size // 64),
            max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0,
        )  # fmt: skip
        return _from_config(config)
    place, options = _place(language_model)
    try:
        if weights == "none":
            return _from_config(AutoConfig.from_pretrained(place, **options))
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            place, dtype=torch.float32, attn_implementation=_attention(), **options
        )
    except Exception as error:  # each of transformers' readers of weights has errors of its own
        raise _missing(language_model, error) from error
    return loaded


def load_tokenizer(language_model: str) -> tuple[Tokenizer, dict[str, Any]]:
    """Return a language model's tokenizer, and what its tokenizer_config.json should say in a bundle.

    Raises:
        ConfigError: there is none, or none that says which token ends a text.
    """
    place, options = _place(language_model)
    try:
        loaded = AutoTokenizer.from_pretrained(place, **options)
    except Exception as error:  # each of transformers' readers of weights has errors of its own
        raise _missing(language_model, error) from error
    tokenizer = getattr(loaded, "backend_tokenizer", None)
    if tokenizer is None or loaded.eos_token is None:
        raise ConfigError(
            f"{language_model} has no tokenizer.json with a token that ends a text. Choose another language model."
        )
    return tokenizer, {"tokenizer_class": type(loaded).__name__, EOS: loaded.eos_token}


def train_tokenizer(texts: Sequence[str], vocabulary_size: int) -> tuple[Tokenizer, dict[str, Any]]:
    """Return a byte-level tokenizer for "small", and what its tokenizer_config.json should say in a bundle.

    Args:
        texts: what is learned, no others.
        vocabulary_size: most pieces.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[_PAD, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    tokenizer.add_tokens([AddedToken(BLANK, normalized=False)])
    return tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", EOS: _END}


def load_network(bundle: Bundle) -> nn.Module:
    """Return the bundle's network in eval mode with its weights.

    Raises:
        BundleError: the weights are not those of the network that config.json names.
    """
    weights = bundle.file(WEIGHTS)
    if is_pointer(str(bundle.path)):
        return build_pointer(str(bundle.path), 0, 0, 0).eval()
    auto: Any = AutoModelForCausalLM
    model, loaded = auto.from_pretrained(
        str(weights.parent), dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = sorted(name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in loaded[kind])
    if wrong:
        raise BundleError(
            f"{weights} does not fit what {CONFIG} says of the network: {', '.join(map(str, wrong[:3]))}."
        )
    return WriterNetwork(model).eval()


def _from_config(config: Any) -> PreTrainedModel:
    auto: Any = AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(config, attn_implementation=_attention())
    return model


def _attention() -> str:
    return "sdpa" if torch.cuda.is_available() else "eager"


def _place(language_model: str) -> tuple[str, dict[str, str]]:
    """Return what transformers loads, and with which options: a GGUF file is named beside its folder."""
    path = Path(language_model).expanduser()
    return (str(path.parent), {"gguf_file": path.name}) if path.suffix == _GGUF else (str(path), {})


def _missing(language_model: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"the language model {language_model!r} cannot be loaded ({' '.join(str(error).split())[:200]}). Name a causal "
        "language model of the Hugging Face hub, a local folder with config.json, tokenizer.json and "
        f'model.safetensors, a .gguf file (which needs the packages gguf and accelerate), or "{SMALL}".'
    )
