"""The Lightning module of question answering: any encoder, fine-tuned to point at start and end of the answer.

One `_shared_step` serves training and validation. Neighbours: `network` builds, `data` feeds, `evaluation` measures,
`packing` turns the best checkpoint into a bundle.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from nlp.encoders import MINILM, make_optimizer, schedule_steps
from nlp.qa.data import AnswerData
from nlp.qa.evaluation import decode, summary
from nlp.qa.network import build_network
from nlp.qa.windows import Batch
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from shared.training.seeding import seeded


class AnswerModule(LightningModule):
    """A reader that learns.

    Args:
        encoder: a Hugging Face encoder, by its name on the hub or by a local folder.
        seed: fixes dropout; the command line fills it in from the data.
        weights: "DEFAULT" for the encoder's own, "none" for random ones.
        lr: learning rate of the encoder.
        head_lr: learning rate of the head, which starts from nothing.
        weight_decay: of AdamW; biases and norms have none.
        dropout: share of the features that are dropped, the same for all tokens of a sequence.
        freeze_embeddings: the word vectors stay as they are; they are half of a small encoder's weights.
        warmup_share: share of all steps in which the learning rate rises, before it falls along a line.
        label_smoothing: moves targets towards every token that an answer may start or end at.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("seed",)
    TO_DATA: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(
        self,
        encoder: str = MINILM,
        seed: int = 42,
        weights: str = "DEFAULT",
        lr: float = 2e-4,
        head_lr: float = 1e-3,
        weight_decay: float = 0.01,
        dropout: float = 0.1,
        freeze_embeddings: bool = True,
        warmup_share: float = 0.06,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = build_network(encoder, weights, dropout)
        if freeze_embeddings:
            embeddings = self.network.model.get_input_embeddings()
            embeddings.requires_grad_(False)
        self._validation: list[tuple[int, np.ndarray, np.ndarray]] = []

    @property
    def data(self) -> AnswerData:
        """The trainer's data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, AnswerData)
        return data

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return start and end logits, [N, T] each; -inf-like where no answer may stand."""
        types = batch[TOKEN_TYPE_IDS] if self.network.has_token_types else None
        start, end = self.network(batch[INPUT_IDS], batch[ATTENTION_MASK], types)
        lowest = torch.finfo(torch.float32).min / 4
        outside = ~batch["context_mask"]
        return start.float().masked_fill(outside, lowest), end.float().masked_fill(outside, lowest)

    def _shared_step(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return (loss, start logits, end logits); the loss is the mean of the two cross-entropies."""
        start, end = self(batch)
        smoothing = self.hparams["label_smoothing"] if self.training else 0.0
        losses = [
            _cross_entropy(logits, batch[name], batch["context_mask"], smoothing)
            for logits, name in ((start, "start_positions"), (end, "end_positions"))
        ]
        return (losses[0] + losses[1]) / 2, start, end

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
            batch_size=len(batch[INPUT_IDS]),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep one batch's logits for the epoch's metrics."""
        loss, start, end = self._shared_step(batch)
        self.log("val/loss", loss, prog_bar=True, batch_size=len(start), sync_dist=True)
        lengths = batch[ATTENTION_MASK].sum(1).tolist()
        for row, window in enumerate(batch["window"].tolist()):
            kept = slice(0, lengths[row])
            self._validation.append((window, start[row, kept].cpu().numpy(), end[row, kept].cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        """Log exact match, F1 and how well unanswerable questions are told, over all validation questions."""
        found = self._of_all_ranks()
        self._validation.clear()
        if self.trainer.sanity_checking:
            return
        data = self.data
        examples = data.splits["val"]
        logits = {index: (start, end) for index, start, end in found}
        predictions = decode(examples, data.windows("val"), logits, max_answer_tokens=data.max_answer_tokens)
        for name, value in summary(examples, predictions).items():
            self.log(f"val/{name}", value, prog_bar=name in ("quality", "f1"))

    def _of_all_ranks(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        if self.trainer.world_size == 1:
            return list(self._validation)
        parts: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in range(self.trainer.world_size)]
        torch.distributed.all_gather_object(parts, self._validation)
        return [each for part in parts for each in part]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a rate for the encoder and one for the head, warm-up and linear decay over all steps."""
        values = self.hparams
        return make_optimizer(
            self.network,
            self.network.head,
            lr=values["lr"],
            head_lr=values["head_lr"],
            weight_decay=values["weight_decay"],
            warmup_share=values["warmup_share"],
            total_steps=schedule_steps(self.trainer.estimated_stepping_batches),
        )


def _cross_entropy(logits: Tensor, targets: Tensor, allowed: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy, smoothed over the allowed tokens alone."""
    loss = F.cross_entropy(logits, targets)
    if not smoothing:
        return loss
    uniform = -(logits.log_softmax(-1) * allowed).sum(-1) / allowed.sum(-1)  # [N]
    return (1 - smoothing) * loss + smoothing * uniform.mean()
