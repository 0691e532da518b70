"""The Lightning module of intents: any encoder, or one from scratch, fine-tuned to tell intents and to reject the rest.

One `_shared_step` serves training and validation. Neighbours: `network` builds, `data` feeds, `losses` and `evaluation`
measure, `packing` turns the best checkpoint into a bundle.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from nlp.encoders import MINILM, make_optimizer, schedule_steps
from nlp.intent.batches import Batch
from nlp.intent.data import IntentData
from nlp.intent.evaluation import validation_summary
from nlp.intent.losses import consistency_loss, contrastive_loss, mixed_outliers, rejecting_loss, uniform_loss
from nlp.intent.network import BILSTM, Classifier, Head, Pooling, build_network
from nlp.text import ATTENTION_MASK, INPUT_IDS
from shared.errors import ConfigError
from shared.training.seeding import seeded

DetectorName = Literal["auto", "max_softmax", "energy", "rejection", "mahalanobis", "knn", "gaussian_process"]


class IntentModule(LightningModule):
    """An intent classifier that learns.

    Args:
        labels: intents in the order of the logits; the command line fills it in from the data.
        vocabulary_size: of the tokenizer; from the data.
        seed: fixes dropout and mixing; from the data.
        encoder: a Hugging Face encoder by its name on the hub or by a local folder, or "bilstm", which starts from
            nothing with a tokenizer of its own.
        pooling: "mean" averages the encoder's states over the tokens; "cls" is Hugging Face's own classifier of the
            architecture, so that AutoModelForSequenceClassification loads the bundle.
        head: "linear", or "prototype": one point an intent, compared by cosine, that starts at the mean of the intent's
            utterances; for few utterances an intent.
        weights: "DEFAULT" for the encoder's own, "none" for random ones.
        lr: learning rate of the encoder.
        head_lr: learning rate of what starts from nothing; of all of "bilstm".
        weight_decay: of AdamW; biases and norms have none.
        dropout: share of the features that are dropped.
        freeze_embeddings: the word vectors stay as they are; they are half of a small encoder's weights.
        warmup_share: share of all steps in which the learning rate rises, before it falls along a line.
        label_smoothing: moves targets towards chance.
        out_of_scope: how utterances that belong to no intent are learned from: "reject" as one more class, "uniform" as
            what looks like every intent a little, "none" not at all.
        out_of_scope_weight: of their loss.
        mixed_outliers: in each step, so many points between two utterances of different intents are learned from as if
            they belonged to none.
        consistency_weight: of a loss that draws two passes with different dropout together; a step takes twice as long.
        contrastive_weight: of a loss that draws utterances of one intent together; needs data.labels_per_batch.
        contrastive_temperature: divides the cosines of that loss.
        hidden_size: of "bilstm".
        detector: what tells utterances that belong to no intent; "auto" compares all on the validation utterances.
        acceptance: share of the utterances that belong to an intent for which one must be named.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("labels", "vocabulary_size", "seed")
    TO_DATA: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(
        self,
        labels: list[str],
        vocabulary_size: int = 0,
        seed: int = 42,
        encoder: str = MINILM,
        pooling: Pooling = "mean",
        head: Head = "linear",
        weights: str = "DEFAULT",
        lr: float = 1.5e-4,
        head_lr: float = 1e-3,
        weight_decay: float = 0.02,
        dropout: float = 0.1,
        freeze_embeddings: bool = False,
        warmup_share: float = 0.06,
        label_smoothing: float = 0.1,
        out_of_scope: Literal["reject", "uniform", "none"] = "reject",
        out_of_scope_weight: float = 0.5,
        mixed_outliers: int = 0,
        consistency_weight: float = 0.0,
        contrastive_weight: float = 0.0,
        contrastive_temperature: float = 0.1,
        hidden_size: int = 192,
        detector: Literal[
            "auto", "max_softmax", "energy", "rejection", "mahalanobis", "knn", "gaussian_process"
        ] = "auto",
        acceptance: float = 0.95,
    ) -> None:
        super().__init__()
        if detector == "rejection" and out_of_scope != "reject":
            raise ConfigError("model.detector rejection must be learned: set model.out_of_scope to reject.")
        if not 0 < acceptance <= 1:
            raise ConfigError(f"model.acceptance must be above 0 and at most 1; came {acceptance}.")
        self.save_hyperparameters()
        self.network = build_network(
            encoder, len(labels), pooling=pooling, head=head, weights=weights, dropout=dropout,
            vocabulary_size=vocabulary_size, size=hidden_size,
        )  # fmt: skip
        if freeze_embeddings and encoder != BILSTM:
            self.network.embeddings.requires_grad_(False)
        # Of the head's kind: a linear layer beside prototypes would only look at the features' lengths, in which what
        # is mixed differs from what it is mixed of, and the directions would learn nothing.
        self.rejection = Classifier(self.network.width, 1, head) if out_of_scope == "reject" else None
        self._validation: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def data(self) -> IntentData:
        """The trainer's data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, IntentData)
        return data

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits [N, C] and features [N, D], float32."""
        logits, features = self.network(batch[INPUT_IDS], batch[ATTENTION_MASK])
        return logits.float(), features.float()

    def _shared_step(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return (loss, logits [N, C], logit of "none" less those of the intents [N])."""
        values = self.hparams
        twice = bool(self.training and values["consistency_weight"])
        if twice:
            batch = {name: torch.cat([value, value]) for name, value in batch.items()}  # [2 * N, …]
        logits, features = self(batch)
        targets = batch["target"]
        smoothing = values["label_smoothing"] if self.training else 0.0
        loss = logits.new_zeros(())
        if self.training and values["contrastive_weight"]:
            loss = values["contrastive_weight"] * contrastive_loss(features, targets, values["contrastive_temperature"])
        if twice:
            loss = loss + values["consistency_weight"] * consistency_loss(*logits.chunk(2))
        all_logits, all_features, all_targets = logits, features, targets
        if self.training and values["mixed_outliers"]:
            mixed = mixed_outliers(features, targets, values["mixed_outliers"])
            all_features = torch.cat([features, mixed])
            all_logits = torch.cat([logits, self._head_logits(mixed)])
            all_targets = F.pad(targets, (0, len(mixed)), value=-1)
        if self.rejection is not None:
            rejection = self.rejection(all_features).float()  # [N + mixed, 1]
            inside, outside = rejecting_loss(all_logits, rejection, all_targets, smoothing)
            margin = rejection[: len(logits), 0] - logits.logsumexp(dim=1)
        else:
            inside, outside = uniform_loss(all_logits, all_targets, smoothing)
            margin = -logits.logsumexp(dim=1)
        weight = 0.0 if values["out_of_scope"] == "none" else values["out_of_scope_weight"]
        return loss + inside + weight * outside, logits, margin

    def _head_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network.head(features)
        return logits.float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        with seeded(self.hparams["seed"] * 1_000_003 + self.global_step, self.device):
            loss, _, _ = self._shared_step(batch)
        self.log(
            "train/loss",
            loss,
            prog_bar=True,
            on_step=False,
            on_epoch=True,
            batch_size=len(batch["target"]),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep one batch's logits for the epoch's metrics."""
        loss, logits, margin = self._shared_step(batch)
        if loss.isfinite():  # a batch may be out of scope as a whole
            self.log("val/loss", loss, prog_bar=True, batch_size=len(logits), sync_dist=True)
        self._validation.append((logits.cpu().numpy(), margin.cpu().numpy(), batch["target"].cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        """Log accuracy and how well utterances that belong to no intent are told, over all validation utterances."""
        logits, margins, targets = (np.concatenate(parts) for parts in zip(*self._of_all_ranks(), strict=True))
        self._validation.clear()
        if self.trainer.sanity_checking:
            return
        for name, value in validation_summary(logits, margins, targets).items():
            self.log(f"val/{name}", value, prog_bar=name in ("quality", "accuracy"))

    def _of_all_ranks(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        if self.trainer.world_size == 1:
            return list(self._validation)
        parts: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in range(self.trainer.world_size)]
        torch.distributed.all_gather_object(parts, self._validation)
        in_order = [each for step in zip(*parts, strict=True) for each in step]  # ranks take batches in turns
        return in_order[: len(cast("Any", self.trainer.val_dataloaders).dataset)]  # the last may get the first again

    @torch.no_grad()
    def on_train_start(self) -> None:
        """Put each prototype at the mean of its intent's utterances, as the encoder sees them before it learns."""
        head = self.network.head
        if self.global_step > 0 or not (isinstance(head, Classifier) and head.is_prototype):
            return
        if self.hparams["encoder"] == BILSTM or self.hparams["weights"] == "none":
            return
        self.network.eval()
        examples = [example for example in self.data.splits["train"] if example.label is not None]
        sums = torch.zeros_like(head.weight)
        for batch in self.data.plain_dataloader(examples):
            _, features = self({name: value.to(self.device) for name, value in batch.items()})
            sums.index_add_(0, batch["target"].to(self.device), F.normalize(features))
        head.weight.copy_(F.normalize(sums))
        self.network.train()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a rate for the encoder and one for the head, warm-up and linear decay over all steps."""
        values = self.hparams
        fresh = nn.ModuleList([self.network.head, *([self.rejection] if self.rejection is not None else [])])
        return make_optimizer(
            nn.ModuleList([self.network, *fresh]),
            fresh,
            lr=values["head_lr"] if values["encoder"] == BILSTM else values["lr"],
            head_lr=values["head_lr"],
            weight_decay=values["weight_decay"],
            warmup_share=values["warmup_share"],
            total_steps=schedule_steps(self.trainer.estimated_stepping_batches),
        )
