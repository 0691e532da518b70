"""Sentence encoders to bundles, trained here or not: exported, held to torch, with golden outputs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import AutoModel, PretrainedConfig

from nlp.embedding.predictor import EMBEDDINGS
from nlp.encoders import EmbeddingNetwork, hugging_face_fields, load_config, load_tokenizer, load_weights, most_tokens
from nlp.text import ATTENTION_MASK, INPUT_IDS, TextEncoder
from shared.bundle.layout import TOKENIZER_CONFIG
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.training.export import OnnxFile, read_signature
from shared.training.int8 import int8_gate
from shared.training.module import Trained
from shared.training.packing import export, write
from shared.training.provenance import describe_run
from shared.training.shipping import GateRecord, Int8Trial

INPUTS = [INPUT_IDS, ATTENTION_MASK]
MAX_LENGTH = 512
"""Tokens of one text, where the encoder does not say fewer; passages have 250 to 300."""
MAX_INT8_LOSS = 0.02
SENTENCES = (
    "When is the museum open?",
    "The lamp museum is open from nine to five, closed on Mondays.",
    "Adults pay ten euros; children go in for nothing.",
    "Who keeps the light?",
    "The light on the rock is kept by Ada Brandt, who has lived there since 1962.",
    "How do I reset my password?",
    "Open the settings, choose Security and ask for a new password by mail.",
    "The ferry takes forty minutes and goes on Mondays alone in winter.",
    "Quand le musée est-il ouvert ?",
    "Le musée des phares est ouvert de neuf à dix-sept heures, fermé le lundi.",
    "Combien coûte l'entrée ?",
    "Les adultes paient dix euros, les enfants rien.",
)
"""Written for this. The first and the last two are golden; int8 is judged on the similarities of all pairs."""


def pack_encoder(
    folder: Path,
    output: Path,
    *,
    name: str | None = None,
    int8: bool = False,
    max_int8_loss: float = MAX_INT8_LOSS,
    languages: Sequence[str] = (),
    command: str | None = None,
) -> Bundle:
    """Return the bundle of a sentence encoder.

    Args:
        folder: as sentence-transformers saves it, or any encoder's folder with config.json, model.safetensors and
            tokenizer.json; the mean of its tokens must be its embedding.
        output: the bundle's folder.
        name: the model's name; the bundle's folder's if not given.
        int8: try a smaller and faster file; it ships where the similarities of sentences stay what they were.
        max_int8_loss: the most that a similarity may change on average.
        languages: which it reads, if that is known.
        command: that makes the folder again, if it is made by one.

    Raises:
        ConfigError: the folder is no encoder, or one with another pooling.
        ExportError: the exported network does not compute what torch does.
    """
    check_pooling(folder)
    config = load_config(str(folder))
    network = EmbeddingNetwork(load_weights(AutoModel, str(folder), config, "DEFAULT")).eval()
    tokenizer, settings = load_tokenizer(str(folder))
    encoder = TextEncoder(tokenizer, max_length_of(str(folder), config))
    trained = trained_encoder(network, encoder, settings, start_weights=folder.resolve().name)
    embedded = cache(lambda path: _embedded(path, encoder))

    def gate(fp32: Path, small: Path) -> GateRecord:
        return int8_gate(1.0, 1.0 - similarity_loss(embedded(fp32), embedded(small)), max_loss=max_int8_loss)

    source = trained.start_weights
    with tempfile.TemporaryDirectory() as temporary:
        exported = export(trained, Path(temporary), trial=Int8Trial(gate) if int8 else None)
        return write(
            trained,
            exported,
            task="embedding",
            name=name or output.name,
            output=output,
            provenance=describe_run(
                [], seed=0, start_weights=source, command=command or f"percept import-encoder {source}"
            ),
            decision={},
            metrics={},
            card={
                "summary": f"The mean of the tokens of {source}, scaled to length 1. Imported, not trained here.",
                **_licence(folder),
            },
            languages=languages,
            files={},
        )


def trained_encoder(
    network: EmbeddingNetwork, encoder: TextEncoder, settings: dict[str, Any], *, start_weights: str
) -> Trained:
    """Return a network in eval mode with all that its bundle needs.

    Args:
        network: on the CPU, in fp32.
        encoder: its tokenizer.
        settings: what tokenizer_config.json says besides.
        start_weights: where the weights come from.
    """
    network.model.set_attn_implementation("eager")  # a graph that every runtime knows and may fuse
    return Trained(
        network=network,
        model=network.model,
        example=encoder.batch(encoder.encode_batch([*SENTENCES[:2], *SENTENCES[-2:]]), INPUTS),
        outputs=(EMBEDDINGS,),
        dynamic={name: {0: "batch", 1: "sequence"} for name in INPUTS},
        labels=(EMBEDDINGS,),
        fields={
            **hugging_face_fields(network.model.config),
            "architectures": [type(network.model).__name__],
            "problem_type": None,
        },
        start_weights=start_weights,
        files=encoder.files(settings),
    )


def similarity_loss(expected: np.ndarray, found: np.ndarray) -> float:
    """Return by how much the cosine of two sentences differs on average, over all pairs.

    >>> similarity_loss(np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]]))
    0.6

    Args:
        expected: float [N, d], rows of length 1.
        found: the same sentences by another network.
    """
    pairs = np.triu_indices(len(expected), k=1)
    return float(np.abs(expected @ expected.T - found @ found.T)[pairs].mean())


def _licence(folder: Path) -> dict[str, str]:
    """Return the licence that the encoder's own card names, for ours."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        said = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
    except (OSError, UnicodeDecodeError, IndexError, yaml.YAMLError):
        return {}
    licence = said.get("license") if isinstance(said, dict) else None
    return {"license": licence} if isinstance(licence, str) else {}


def check_pooling(folder: Path) -> None:
    """Refuse an encoder's folder if its embedding is not the mean of its tokens.

    Raises:
        ConfigError: names what it is instead.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder. Name the folder of a sentence encoder, with config.json in it.")
    pooling = _json(folder / "1_Pooling" / "config.json") or {}
    modes = [key.removeprefix("pooling_mode_") for key, value in pooling.items() if "pooling_mode_" in key and value]
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in _json(folder / "modules.json") or ()]
    strangers = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if strangers or modes not in ([], ["mean_tokens"]):
        raise ConfigError(
            f"{folder} makes its embedding by {', '.join(strangers or modes)}; only the mean of the tokens can be "
            "packed. Choose an encoder with pooling_mode_mean_tokens, such as all-MiniLM-L6-v2."
        )


def max_length_of(encoder: str, config: PretrainedConfig) -> int:
    """Return how many tokens of a text an encoder reads.

    Args:
        encoder: its name on the hub, its folder, or that of a bundle.
        config: as `load_config` gave it.
    """
    folder = Path(encoder).expanduser()
    said = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    ours = (_json(folder / TOKENIZER_CONFIG) or {}).get("max_length")
    return min(int(length) for length in (said, ours, most_tokens(config), MAX_LENGTH) if length)


def _json(path: Path) -> Any:
    """Return what a JSON file holds; None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}. Copy the encoder again.") from error


def _embedded(path: Path, encoder: TextEncoder) -> np.ndarray:
    runtime = OnnxFile(path, read_signature(path))
    rows = [runtime.run(encoder.batch([each], INPUTS))[EMBEDDINGS] for each in encoder.encode_batch(SENTENCES)]
    runtime.close()
    return np.concatenate(rows)  # [N, d]
