"""The Lightning module of tagging: any torchvision classifier, fine-tuned from the head down.

One `_shared_step` serves training and validation. Neighbours: `network` builds, `data` feeds, `packing` turns the best
checkpoint into a bundle.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from shared.bundle.layout import ProblemType
from shared.errors import ConfigError
from shared.training.seeding import seeded
from vision.tagging.data import TaggingData
from vision.tagging.evaluation import SourceView, validation_summary
from vision.tagging.losses import balanced_weights, choice_loss
from vision.tagging.network import (
    build_network,
    has_untouched_batch_norm,
    last_layer,
    load_start_weights,
    stages,
    unfold_batch_norm,
)
from vision.tagging.photos import Batch
from vision.tagging.taxonomy import UNKNOWN, Hierarchy

BATCH_NORM_BATCHES = 16
"""Batches of training photos that measure the statistics of folded batch norm layers."""


class TaggingModule(LightningModule):
    """A tagger that learns.

    Args:
        labels: names in the order of the logits; the command line fills it in from the data.
        problem_type: one label or several per photo; from the data.
        architecture: any torchvision classification network, such as mobilenet_v3_large, resnet50, convnext_tiny.
        weights: "DEFAULT" (downloaded by torchvision), a safetensors file, a bundle's folder, or "none".
        lr: learning rate of the head, and of the last stage of the body times `body_lr_factor`.
        body_lr_factor: the body's learning rate, as a share of the head's.
        layer_decay: each stage nearer to the input learns this much slower than the one after it.
        weight_decay: of AdamW; biases and norms have none.
        head_epochs: for so many epochs the head alone learns.
        unfreeze_epochs: over so many epochs after that the body thaws, from the head's side; 0 for all at once.
        frozen_stages: stages at the input that never learn; on a CPU they are most of the work.
        warmup_share: share of all steps in which the learning rate rises, before it falls along a cosine.
        label_smoothing: moves targets towards chance.
        choice_weight: of a cross-entropy that is added, over the own labels of sets with one label a photo, where the
            loss is otherwise a yes-or-no question a label; helps to tell apart what never holds together.
        class_weights: "balanced" weighs rare labels more in the loss; it raises their scores above what is calibrated.
        mixup_alpha: strength of mixup; 0 for none.
        cutmix_alpha: strength of cutmix; 0 for none. With both, each batch draws one of the two.
        dropout: before the head, where the architecture has it; its own default if not given.
        channels_last: memory order that convolutions like, on CPU and GPU.
        compile_network: torch.compile; pays after a minute or so of compiling.
        seed: fixes mixup and dropout; the command line fills it in from the data.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("labels", "problem_type", "seed")

    def __init__(
        self,
        labels: list[str],
        problem_type: ProblemType,
        architecture: str = "mobilenet_v3_large",
        weights: str = "DEFAULT",
        lr: float = 2e-3,
        body_lr_factor: float = 0.25,
        layer_decay: float = 0.9,
        weight_decay: float = 0.02,
        head_epochs: int = 1,
        unfreeze_epochs: int = 0,
        frozen_stages: int = 0,
        warmup_share: float = 0.05,
        label_smoothing: float = 0.0,
        choice_weight: float = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        dropout: float | None = None,
        channels_last: bool = True,
        compile_network: bool = False,
        seed: int = 42,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.network = build_network(architecture, len(labels), dropout)
        self.fresh = load_start_weights(self.network, architecture, weights)
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        if compile_network:
            self.network.compile()
        self.stages = stages(self.network)[::-1]  # head first; a plain list, so nothing is registered twice
        mixes = [v2.MixUp(alpha=mixup_alpha)] if mixup_alpha else []
        mixes += [v2.CutMix(alpha=cutmix_alpha)] if cutmix_alpha else []
        self.mix = v2.RandomChoice(mixes) if mixes else None
        if self.mix is not None and choice_weight:
            raise ConfigError("choice_weight needs photos with one label: it does not go with mixup or cutmix.")
        self.loss_weights: Tensor | None = None
        self._validation: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def data(self) -> TaggingData:
        """The trainer's data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TaggingData)
        return data

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return logits [N, num_labels] of float32 [N, 3, H, W]."""
        if self.hparams["channels_last"]:
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(pixel_values)
        return logits

    def _shared_step(self, pixel_values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return (loss, logits float32 [N, num_labels]); targets are [N, num_labels] in 0..1, NaN where unknown."""
        logits = self(pixel_values).float()
        known = ~targets.isnan()
        smoothing = self.hparams["label_smoothing"] if self.training else 0.0
        if self.hparams["problem_type"] == "single_label_classification":
            loss = F.cross_entropy(logits, targets.nan_to_num(0.0), weight=self.loss_weights, label_smoothing=smoothing)
        else:
            soft = targets.nan_to_num(0.0) * (1 - smoothing) + smoothing / 2
            losses = F.binary_cross_entropy_with_logits(
                logits, soft, reduction="none", pos_weight=self.loss_weights
            )  # [N, num_labels]
            loss = (losses * known).sum(dim=1).mean()
        return loss, logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        with seeded(self.hparams["seed"] * 1_000_003 + self.global_step, self.device):
            pixel_values, targets = batch["pixel_values"], batch["targets"]
            if self.mix is not None:
                pixel_values, targets = self.mix(pixel_values, targets)
            loss, logits = self._shared_step(pixel_values, targets)
            if self.hparams["choice_weight"]:
                views, hierarchy = source_views(self.data), self.data.hierarchy
                loss = loss + self.hparams["choice_weight"] * choice_loss(
                    logits, targets, batch["source"], views, hierarchy
                )
        self.log(
            "train/loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(targets), sync_dist=True
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep one batch's logits for the epoch's metrics."""
        loss, logits = self._shared_step(batch["pixel_values"], batch["targets"])
        self.log("val/loss", loss, prog_bar=True, batch_size=len(logits), sync_dist=True)
        targets = batch["targets"].nan_to_num(float(UNKNOWN)).to(torch.int8)
        self._validation.append(
            (self._of_all_ranks(logits), self._of_all_ranks(targets), self._of_all_ranks(batch["source"]))
        )

    def _of_all_ranks(self, values: Tensor) -> np.ndarray:
        """Return [N * world_size, ...] of [N, ...], in the order of the photos: ranks take them in turns."""
        if self.trainer.world_size > 1:
            values = cast("Tensor", self.all_gather(values)).transpose(0, 1).flatten(0, 1)  # [N, ranks] -> [N * ranks]
        return values.cpu().numpy()

    def on_validation_epoch_end(self) -> None:
        """Log top-1, top-5, macro F1, mean average precision and ECE over all validation photos."""
        count = len(self.data.splits["val"])  # the last ranks get the first photos again, for equal shares
        logits, targets, source_ids = (np.concatenate(parts)[:count] for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        if self.trainer.sanity_checking:
            return
        hierarchy = Hierarchy(self.hparams["labels"], self.data.label_parents)
        scores = self._probabilities(logits)
        summary = validation_summary(
            hierarchy.reconcile(scores), targets, source_ids, source_views(self.data), hierarchy
        )
        for name, value in summary.items():
            self.log(f"val/{name}", value, prog_bar=name == "quality")

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(logits).double()
        single = self.hparams["problem_type"] == "single_label_classification"
        return (values.softmax(-1) if single else values.sigmoid()).numpy()

    def on_train_start(self) -> None:
        """Set what only the data can tell: loss weights, folded batch norm, the head's first guess."""
        data = self.data
        if self.hparams["class_weights"] == "balanced":
            self.loss_weights = balanced_weights(data, self.hparams["problem_type"]).to(self.device)
        if self.global_step > 0:  # resumed: all of it has been learned since
            return
        if self.hparams["weights"] != "none" and has_untouched_batch_norm(self.network):
            loader = iter(data.train_dataloader())
            batches = (
                next(loader)["pixel_values"].to(self.device) for _ in range(min(BATCH_NORM_BATCHES, len(loader)))
            )
            unfold_batch_norm(self.network, batches)
        if self.fresh or self.hparams["weights"] == "none":
            self._guess_frequencies(data)

    @torch.no_grad()
    def _guess_frequencies(self, data: TaggingData) -> None:
        """Start a fresh head at each label's frequency: rare labels need not first unlearn a score of a half."""
        last = last_layer(self.network)
        targets = np.stack([data.targets(example) for example in data.splits["train"]])  # [N, num_labels]
        positives, known = (targets == 1).sum(0) + 0.5, (targets != UNKNOWN).sum(0) + 1.0
        shares = torch.from_numpy(positives / known)
        single = self.hparams["problem_type"] == "single_label_classification"
        assert last.bias is not None
        last.bias.copy_(shares.log() if single else shares.logit())

    def on_train_epoch_start(self) -> None:
        """Freeze what does not learn yet; its batch norm keeps its statistics."""
        learning = self.learning_stages(self.current_epoch)
        for depth, stage in enumerate(self.stages):
            stage.requires_grad_(depth < learning)
            stage.train(depth < learning)

    def learning_stages(self, epoch: int) -> int:
        """Return how many stages learn at an epoch, counted from the head."""
        free: int = len(self.stages) - min(self.hparams["frozen_stages"], len(self.stages) - 1)
        head_epochs, thaw = self.hparams["head_epochs"], self.hparams["unfreeze_epochs"]
        if epoch < head_epochs:
            return 1
        return min(free, 1 + math.ceil((free - 1) * (epoch - int(head_epochs) + 1) / (int(thaw) + 1)))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a learning rate per stage, and warm-up with cosine decay over all steps."""
        groups: list[dict[str, Any]] = []
        seen: set[Tensor] = set()
        for depth, stage in enumerate(self.stages[: len(self.stages) - self.hparams["frozen_stages"]]):
            scale = 1.0 if depth == 0 else self.hparams["body_lr_factor"] * self.hparams["layer_decay"] ** (depth - 1)
            own = [p for p in stage.parameters() if p not in seen]
            seen.update(own)
            for decays in (True, False):
                chosen = [p for p in own if (p.ndim > 1) == decays]
                if chosen:
                    decay = self.hparams["weight_decay"] if decays else 0.0
                    groups.append({"params": chosen, "lr": self.lr * scale, "weight_decay": decay})
        optimizer = torch.optim.AdamW(groups)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup: int = max(1, round(self.hparams["warmup_share"] * total))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def source_views(data: TaggingData) -> list[SourceView]:
    """Return what the evaluation must know of each set."""
    return [
        SourceView(source.name, tuple(data.hierarchy.index[label] for label in source.labels), source.is_single_label)
        for source in data.sources
    ]
