"""The Lightning module of sentence encoders: fine-tuned so that a question in other words finds its answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import AutoModel

from nlp.embedding.data import (
    ALIKE,
    ANCHOR_START,
    POSITIVE_IDS,
    POSITIVE_MASK,
    POSITIVE_START,
    Batch,
    PairData,
    TextBatches,
)
from nlp.embedding.evaluation import summary
from nlp.embedding.packing import check_pooling, trained_encoder
from nlp.encoders import MINILM, EmbeddingNetwork, freeze, load_config, load_weights, make_optimizer, set_dropout
from nlp.starting import load_start, start_bundle, start_from_bundle
from nlp.text import ATTENTION_MASK, INPUT_IDS, TextEncoder
from shared.errors import ConfigError
from shared.training.module import Row, TaskModule, Trained, columns, with_schedule


class EncoderModule(TaskModule):
    """A sentence encoder that learns which texts mean the same.

    Args:
        seed: fixes dropout; from the data.
        encoder: a Hugging Face encoder by its name on the hub or by a local folder, such as sentence-transformers
            saves; the mean of its tokens is the embedding.
        weights: "DEFAULT" for the encoder's own, "none" for random ones, or a bundle's folder, such as models/encoder:
            its encoder and tokenizer come with them.
        lr: learning rate.
        weight_decay: of AdamW; biases and norms have none.
        dropout: share of the features that are dropped.
        freeze_embeddings: the word vectors stay as they are; they are half of a small encoder's weights.
        freeze_layers: so many of the lowest layers stay as they are, and the word vectors too.
        warmup_share: share of all steps in which the learning rate rises, before it falls along a line.
        temperature: divides the cosines of the loss; lower ones look more at what is nearly the same.
        keep_weight: share of the loss that keeps each text's embedding near to what the encoder made of it before, so
            that it still compares other texts as well as it did.
        average_with_start: share of the trained weights in those of the bundle; the rest is taken from the weights
            before training, for the same reason. 1 takes the trained ones as they are.

    Sources of the loss: Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply",
    section 4.4 (the other pairs of a batch are what a pair is told from); Gao et al. 2021, "SimCSE", equation 1 (with
    cosines and a temperature). Of the average: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", WiSE-FT.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("seed",)
    TO_DATA: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(
        self,
        seed: int = 42,
        encoder: str = MINILM,
        weights: str = "DEFAULT",
        lr: float = 5e-5,
        weight_decay: float = 0.01,
        dropout: float = 0.1,
        freeze_embeddings: bool = True,
        freeze_layers: int = 0,
        warmup_share: float = 0.1,
        temperature: float = 0.05,
        keep_weight: float = 0.0,
        average_with_start: float = 1.0,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"model.temperature must be above 0; came {temperature}.")
        if not 0 <= keep_weight < 1:
            raise ConfigError(f"model.keep_weight must be from 0 to less than 1; came {keep_weight}.")
        if not 0 <= average_with_start <= 1:
            raise ConfigError(f"model.average_with_start must be from 0 to 1; came {average_with_start}.")
        self.save_hyperparameters()
        if Path(encoder).is_dir():
            check_pooling(Path(encoder))
        start = start_bundle(weights)
        config = load_config(encoder)
        self.network = EmbeddingNetwork(load_weights(AutoModel, encoder, config, "none" if start else weights))
        if start is not None:
            load_start(self.network.model, start)  # by its own names, so that parts that nothing reads come too
        set_dropout(self.network, dropout)
        freeze(self.network.model, embeddings=freeze_embeddings, layers=freeze_layers)
        self.network.train()  # Hugging Face hands models out in eval mode
        self._start: dict[str, Tensor] = {}
        """The weights before training, if they are averaged with the trained ones."""

    @classmethod
    def complete(cls, settings: object) -> None:
        """Take the encoder from the bundle that is named as weights."""
        start_from_bundle(settings)

    def setup(self, stage: str) -> None:
        """Keep what the encoder is and finds before it is trained; a checkpoint to resume from is read after it."""
        if stage != "fit":
            return
        values, data = self.hparams, self.data
        self.network.to(self.trainer.strategy.root_device).eval()
        if values["average_with_start"] < 1:
            self._start = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        if values["keep_weight"]:
            data.start_embeddings = embedded(self.network, data.encoder, data.texts)
        for split in ("val", "test"):
            search = data.search(data.splits[split])
            if search.examples:
                ranks = search.found(embedded(self.network, data.encoder, search.texts)).ranks
                data.found_before |= dict(zip(search.examples, (ranks == 1).tolist(), strict=True))
        self._asked = data.search(data.splits["val"])
        self.network.train()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return embeddings [N, d], float32, rows of length 1."""
        found: Tensor = self.network(input_ids, attention_mask)
        return found.float()

    def learn(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch."""
        values = self.hparams
        anchors = self(batch[INPUT_IDS], batch[ATTENTION_MASK])
        positives = self(batch[POSITIVE_IDS], batch[POSITIVE_MASK])
        loss = pairs_loss(anchors, positives, batch[ALIKE], values["temperature"])
        share = values["keep_weight"]
        if not share:
            return loss
        moved = (kept_loss(anchors, batch[ANCHOR_START]) + kept_loss(positives, batch[POSITIVE_START])) / 2
        mixed: Tensor = (1 - share) * loss + share * moved / values["temperature"]  # as steep as the other's cosines
        return mixed

    def examine(self, batch: Batch) -> tuple[Tensor, Iterable[Row]]:
        """Return no loss, which needs all passages of a group, and a row (place, embedding [d]) per text."""
        found = self(batch[INPUT_IDS], batch[ATTENTION_MASK])
        return torch.tensor(math.nan), zip(batch["row"].tolist(), found.cpu().numpy(), strict=True)

    def summarise(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return how well questions in other words find their own: the mean reciprocal rank is the quality."""
        (embeddings,) = columns(rows)
        found = self._asked.found(embeddings, self.hparams["temperature"])
        means = summary(found.ranks)
        return {"loss": float(found.losses.mean()), "quality": means.pop("mrr"), **means}

    def trained(self, data: PairData) -> Trained:
        """Return the network, ready to be exported."""
        share = self.hparams["average_with_start"]
        if self._start:
            self.network.load_state_dict(averaged(self.network.state_dict(), self._start, share))
        return trained_encoder(
            self.network, data.encoder, data.tokenizer_settings, start_weights=Path(self.hparams["encoder"]).name
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, warm-up and linear decay over all steps."""
        values = self.hparams
        rate = values["lr"]
        optimizer = make_optimizer(
            self.network, nn.Module(), lr=rate, head_lr=rate, weight_decay=values["weight_decay"]
        )
        return with_schedule(optimizer, self.trainer.estimated_stepping_batches, values["warmup_share"], "line")


def pairs_loss(anchors: Tensor, positives: Tensor, alike: Tensor, temperature: float) -> Tensor:
    """Return how hard it is to tell which anchor belongs to which positive: the mean of both cross-entropies.

    Args:
        anchors: float32 [N, d], rows of length 1.
        positives: likewise; that of row i belongs to anchor i.
        alike: bool [N, N]: rows that mean the same, and are not told apart.
        temperature: divides the cosines.

    Source: Henderson et al. 2017, section 4.4; both ways as in Radford et al. 2021, "Learning Transferable Visual
    Models From Natural Language Supervision", figure 3.
    """
    own = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    with torch.autocast(anchors.device.type, enabled=False):  # of cosines near 1, bf16 keeps two digits
        cosines = (anchors @ positives.T / temperature).masked_fill(alike & ~own, -torch.inf)  # [N, N]
    targets = torch.arange(len(anchors), device=anchors.device)
    return (F.cross_entropy(cosines, targets) + F.cross_entropy(cosines.T, targets)) / 2


def kept_loss(embeddings: Tensor, start: Tensor) -> Tensor:
    """Return how far embeddings [N, d] have moved from what they were: 1 less the mean cosine."""
    return 1 - (embeddings * start).sum(dim=1).mean()


def averaged(trained: dict[str, Tensor], start: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the weights between the trained ones and those before training.

    Args:
        trained: name -> weight, on the CPU.
        start: likewise.
        share: of the trained ones; 0 gives the start, 1 the trained ones.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", equation 1.
    """
    return {
        name: torch.lerp(start[name].to(value.dtype), value, share) if value.is_floating_point() else value
        for name, value in trained.items()
    }


@torch.no_grad()
def embedded(network: EmbeddingNetwork, encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    """Return what a network in eval mode makes of texts, float32 [N, d]."""
    device = next(network.parameters()).device
    found: np.ndarray | None = None
    for batch in DataLoader(TextBatches(encoder, texts), batch_size=None):
        rows = network(batch[INPUT_IDS].to(device), batch[ATTENTION_MASK].to(device)).float().cpu().numpy()
        if found is None:
            found = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
        found[batch["row"].numpy()] = rows
    assert found is not None, "there are texts"
    return found
