"""The Lightning module of writers: any causal language model, or a small one from scratch, that writes sentences."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from nlp.encoders import hugging_face_fields
from nlp.writing.data import UNLEARNED, Batch, WriterData
from nlp.writing.network import WriterNetwork, build_model, layers_of
from nlp.writing.pointer import (
    INPUTS,
    POINTER,
    PointerNetwork,
    build_pointer,
    collate_pointed,
    fields_of,
    is_pointer,
    pointed,
    pointing_losses,
)
from nlp.writing.pointing import COPIED, KINDS, LOGITS, WORD_CASES, WORD_PIECES, WRITTEN_CASES, WRITTEN_PIECES
from nlp.writing.predictor import INPUT_IDS, PAST, PRESENT
from nlp.writing.units import Target, read
from nlp.writing.wording import ask
from shared.bundle.layout import TOKENIZER, TOKENIZER_CONFIG
from shared.errors import ConfigError
from shared.runtime.protocol import KEPT
from shared.training.module import Row, TaskModule, Trained, columns, with_schedule

GOLDEN = (
    (
        "Who keeps the light?",
        "The light on the rock is kept by Ada Brandt, who has lived there since 1962.",
        "Ada Brandt",
    ),
    (
        "How long does the ferry take?",
        "In summer a ferry leaves every morning and takes forty minutes.",
        "forty minutes",
    ),
)
"""Written for this: checked whenever a service starts."""


class WriterModule(TaskModule):
    """A writer that learns.

    Args:
        vocabulary_size: of the tokenizer; the command line fills it in from the data.
        seed: fixes dropout; from the data.
        language_model: "pointer", which starts from nothing, copies whole words and is small enough to come with a
            service; a causal language model by its name on the hub, by a local folder or a .gguf file; the folder of a
            writer; or "small", a causal language model that starts from nothing.
        weights: "DEFAULT" for its own, "none" for random ones.
        lora_rank: learn so many directions beside each matrix instead of all weights (LoRA); 0 for all weights. Needs
            the package peft.
        lr: learning rate; of LoRA ten times as much is usual.
        weight_decay: of AdamW; biases and norms have none.
        warmup_share: share of all steps in which the learning rate rises, before it falls along a line.
        label_smoothing: moves targets towards every token.
        size: width of "pointer" and "small", a multiple of 64.
        layers: of these; of "pointer" in its encoder, and as many in its decoder.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("vocabulary_size", "seed")
    TO_DATA: ClassVar[tuple[str, ...]] = ("language_model",)

    def __init__(
        self,
        vocabulary_size: int = 0,
        seed: int = 42,
        language_model: str = POINTER,
        weights: str = "DEFAULT",
        lora_rank: int = 0,
        lr: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_share: float = 0.06,
        label_smoothing: float = 0.0,
        size: int = 256,
        layers: int = 6,
    ) -> None:
        super().__init__()
        if size < 64 or size % 64:
            raise ConfigError(f"model.size must be a multiple of 64; came {size}.")
        self.save_hyperparameters()
        self.points = is_pointer(language_model)
        if self.points and (lora_rank or label_smoothing):
            raise ConfigError("model.lora_rank and model.label_smoothing are for causal language models; a pointing "
                              "writer is small and learns with all its weights. Leave them out.")  # fmt: skip
        if self.points:
            self.model: Any = build_pointer(language_model, max(2, vocabulary_size), size, layers).train()
            return
        model: Any = build_model(language_model, weights, vocabulary_size=vocabulary_size, size=size, layers=layers)
        if vocabulary_size > model.config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {vocabulary_size} tokens, the language model {model.config.vocab_size}: the two do "
                "not belong together."
            )
        if lora_rank:
            model = _with_lora(model, lora_rank)
        self.model = model.train()  # Hugging Face hands models out in eval mode

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits [N, T, V] of the tokens that follow each."""
        found = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
        logits: Tensor = found.logits
        return logits.float()

    def learn(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch: the cross-entropy of what is written."""
        if self.points:
            losses, _ = pointing_losses(self.model, batch)
            return losses.sum() / batch["is_written"].sum()
        logits = self(batch)[:, :-1]
        return F.cross_entropy(
            logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=UNLEARNED,
            label_smoothing=self.hparams["label_smoothing"],
        )  # fmt: skip

    def examine(self, batch: Batch) -> tuple[Tensor, Iterable[Row]]:
        """Return the loss, and a row (place, mean log-probability, whether every token is the likeliest)."""
        if self.points:
            each, right = pointing_losses(self.model, batch)
            means = each.sum(1) / batch["is_written"].sum(1)
            rows = zip(batch["row"].tolist(), (-means).tolist(), right.all(1).tolist(), strict=True)
            return means.mean(), rows
        logits, labels = self(batch)[:, :-1], batch["labels"][:, 1:]
        is_learned = labels != UNLEARNED
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNLEARNED, reduction="none")
        mean = losses.view_as(labels).sum(1) / is_learned.sum(1)
        alike = ((logits.argmax(-1) == labels) | ~is_learned).all(1)
        return mean.mean(), zip(batch["row"].tolist(), (-mean).tolist(), alike.tolist(), strict=True)

    def summarise(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return how likely a right token is on average, and how many sentences are written to the letter."""
        likely, alike = columns(rows)
        return {"quality": float(np.exp(likely).mean()), "exact": float(alike.mean())}

    def trained(self, data: WriterData) -> Trained:
        """Return the network, ready to be exported."""
        if self.points:
            return self._trained_pointer(data)
        model = self.model.merge_and_unload() if self.hparams["lora_rank"] else self.model
        model.set_attn_implementation("eager")  # a graph that every runtime knows
        network = WriterNetwork(model).eval()
        example = _golden(network, data)
        return Trained(
            network=network,
            model=model,
            example=example,
            outputs=(LOGITS, PRESENT),
            dynamic={INPUT_IDS: {0: "batch", 1: "tokens"}, PAST: {0: "batch", 3: KEPT}},
            labels=(LOGITS,),
            fields={
                **hugging_face_fields(model.config),
                "architectures": [type(model).__name__],
                "problem_type": None,
            },
            start_weights=Path(self.hparams["language_model"]).name,
            files={
                TOKENIZER: data.tokenizer.to_str(pretty=False).encode(),
                TOKENIZER_CONFIG: _json(data.tokenizer_settings | {"model_max_length": data.max_length}),
            },
        )

    def _trained_pointer(self, data: WriterData) -> Trained:
        network: PointerNetwork = self.model.eval()
        start = self.hparams["language_model"]
        return Trained(
            network=network,
            model=network,
            example=_golden_pointed(data),
            outputs=(LOGITS,),
            dynamic={
                WORD_PIECES: {0: "batch", 1: "words"}, WORD_CASES: {0: "batch", 1: "words"},
                KINDS: {0: "batch", 1: "words"}, WRITTEN_PIECES: {0: "batch", 1: "written"},
                WRITTEN_CASES: {0: "batch", 1: "written"}, COPIED: {0: "batch", 1: "written", 2: "words"},
            },
            labels=(LOGITS,),
            fields=fields_of(network),
            start_weights="none" if start == POINTER else Path(start).name,
            files={
                TOKENIZER: data.tokenizer.to_str(pretty=False).encode(),
                TOKENIZER_CONFIG: _json(data.tokenizer_settings),
            },
        )  # fmt: skip

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, warm-up and linear decay over all steps."""
        values = self.hparams
        learned = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": values["weight_decay"]},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=values["lr"])
        return with_schedule(optimizer, self.trainer.estimated_stepping_batches, values["warmup_share"], "line")


def _golden_pointed(data: WriterData) -> dict[str, np.ndarray]:
    """Return what the pointing network is asked about two answers, the first words of each sentence written."""
    items = []
    for place, (question, text, answer) in enumerate(GOLDEN):
        source = read(ask(question, text, text.index(answer), text.index(answer) + len(answer)))
        wanted = [Target((), 0, word) for word in ("the", "light", "@@")]
        items.append(pointed(data.tokenizer, place, source, wanted))
    batch = collate_pointed(items)
    names = (WORD_PIECES, WORD_CASES, KINDS, WRITTEN_PIECES, WRITTEN_CASES, COPIED)
    return {name: batch[key].numpy() for name, key in zip(names, INPUTS, strict=True)}


def _golden(network: WriterNetwork, data: WriterData) -> dict[str, np.ndarray]:
    """Return the end of two prompts with what the network has seen of their beginnings, of equal length."""
    places = [(text.index(answer), text.index(answer) + len(answer)) for _, text, answer in GOLDEN]
    prompts = [ask(each[0], each[1], *place).prompt for each, place in zip(GOLDEN, places, strict=True)]
    ids = [data.tokenizer.encode(prompt).ids for prompt in prompts]
    length = min(map(len, ids))
    tokens = torch.tensor([each[-length:] for each in ids])
    seen = length // 2
    with torch.no_grad():
        _, past = network(tokens[:, :seen], network_past(network, len(ids)))
    return {INPUT_IDS: tokens[:, seen:].numpy(), PAST: past.numpy()}


def network_past(network: WriterNetwork, rows: int) -> Tensor:
    """Return what a network has seen before its first token: nothing, of the right shape."""
    with torch.no_grad():
        found = network.model(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=True)
    layers = layers_of(found.past_key_values)
    _, heads, _, size = layers[0][0].shape
    return torch.zeros(rows, 2 * len(layers), heads, 0, size)


def _with_lora(model: nn.Module, rank: int) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigError("model.lora_rank needs the package peft: pip install 'percept[writer]'.") from error
    options = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # peft asks transformers by an older name
        found: nn.Module = get_peft_model(model, options)
    return found


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=2).encode() + b"\n"
