"""The Lightning module of tagging: any torchvision classifier, fine-tuned from the head down, or with a plain method.

One `_shared_step` serves training and validation; what it adds to cross-entropy is below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from tqdm import tqdm

from shared.bundle.calibration import probabilities_from_logits
from shared.bundle.layout import ProblemType, TensorSignature
from shared.errors import ConfigError
from shared.runtime.protocol import Tensors
from shared.training.heads import Centroids
from shared.training.module import Row, Trained, columns, with_schedule
from shared.training.plain import Examples, Head, Method, PlainModule
from vision.images import ImagePreprocessor
from vision.tagging.data import Batch, TaggingData
from vision.tagging.evaluation import SourceView, validation_summary
from vision.tagging.judging import TagJudging, source_views
from vision.tagging.network import (
    FeatureNetwork,
    build_network,
    has_untouched_batch_norm,
    head_fields,
    last_layer,
    load_start_weights,
    replace_last_layer,
    stages,
    unfold_batch_norm,
)
from vision.tagging.predictor import FEATURES, INPUT, OUTPUT
from vision.tagging.taxonomy import UNKNOWN, Hierarchy

BATCH_NORM_BATCHES = 16
"""Batches of training photos that measure the statistics of folded batch norm layers."""


class TaggingModule(PlainModule):
    """A tagger that learns.

    Args:
        labels: names in the order of the logits; the command line fills it in from the data.
        problem_type: one label or several per photo; from the data.
        architecture: any torchvision classification network, such as mobilenet_v3_large, resnet50, convnext_tiny.
        weights: "DEFAULT" (downloaded by torchvision), a safetensors file, a bundle's folder, or "none".
        method: "fine_tune", or a plain method that takes seconds: "logistic_regression" on what the network sees
            without learning and, where a photo has one label, "linear_svm", "nearest_centroid" or "knn". They look at
            each training photo once, as a service would, and ignore the settings of learning and of augmentation.
        lr: learning rate of the head, and of the last stage of the body times `body_lr_factor`.
        body_lr_factor: the body's learning rate, as a share of the head's.
        layer_decay: each stage closer to the input learns this much slower than the one after it.
        weight_decay: of AdamW; biases and norms have none.
        head_epochs: epochs in which only the head learns.
        unfreeze_epochs: epochs after that in which the body thaws, from the head's side; 0 for all at once.
        frozen_stages: stages at the input that never learn; on a CPU they take most of the time.
        warmup_share: share of all steps in which the learning rate rises, before it falls along a cosine.
        label_smoothing: moves targets towards chance.
        choice_weight: of a cross-entropy that is added, over the own labels of sets with one label per photo, where the
            loss is otherwise a yes-or-no question per label; helps to tell apart what never holds together.
        class_weights: "balanced" weighs rare labels more in the loss; it raises their scores above what is calibrated.
        mixup_alpha: strength of mixup; 0 for none.
        cutmix_alpha: strength of cutmix; 0 for none. With both, each batch draws one of the two.
        acceptance: share of the validation photos that may get tags where a photo has one label; the rest, and whatever
            is as unlike the training photos, gets none. 1 for no such limit.
        dropout: before the head, where the architecture has it; its own default if not given.
        channels_last: memory order in which convolutions are faster, on CPU and GPU.
        compile_network: torch.compile; pays off after a minute or so of compiling.
        seed: fixes mixup and dropout; the command line fills it in from the data.
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("labels", "problem_type", "seed")

    def __init__(
        self,
        labels: list[str],
        problem_type: ProblemType,
        architecture: str = "mobilenet_v3_large",
        weights: str = "DEFAULT",
        method: Method = "fine_tune",
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
        acceptance: float = 0.95,
        dropout: float | None = None,
        channels_last: bool = True,
        compile_network: bool = False,
        seed: int = 42,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if not 0 < acceptance <= 1:
            raise ConfigError(f"acceptance must be above 0, and at most 1; came {acceptance}.")
        self.lr = lr
        self.network = build_network(architecture, len(labels), dropout)
        if self.is_plain:
            mixes_photos = bool(mixup_alpha or cutmix_alpha)
            check_plain(method, self.network, problem_type, weights, mixes_photos or class_weights != "none")
        self.fresh, self.new_rows = load_start_weights(self.network, architecture, weights, labels)
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

    def learn(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch, mixed up if the recipe says so."""
        pixel_values, targets = batch["pixel_values"], batch["targets"]
        if self.mix is not None:
            pixel_values, targets = self.mix(pixel_values, targets)
        loss, logits = self._shared_step(pixel_values, targets)
        if self.hparams["choice_weight"]:
            views, hierarchy = source_views(self.data, self.data.hierarchy), self.data.hierarchy
            choices = choice_loss(logits, targets, batch["source"], views, hierarchy)
            loss = loss + self.hparams["choice_weight"] * choices
        return loss

    def examine(self, batch: Batch) -> tuple[Tensor, Iterable[Row]]:
        """Return the loss, and a row (place, logits [num_labels], targets [num_labels], set) per photo."""
        loss, logits = self._shared_step(batch["pixel_values"], batch["targets"])
        targets = batch["targets"].nan_to_num(float(UNKNOWN)).to(torch.int8)
        kept = (batch["row"], logits, targets, batch["source"])
        return loss, zip(*(values.cpu().numpy() for values in kept), strict=True)

    def summarise(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return top-1, mean average precision and ECE, all before calibration."""
        logits, targets, source_ids = columns(rows)
        hierarchy = self.data.hierarchy
        scores = hierarchy.reconcile(probabilities_from_logits(logits, 1.0, self.hparams["problem_type"]))
        return validation_summary(scores, targets, source_ids, source_views(self.data, hierarchy), hierarchy)

    def trained(self, data: TaggingData) -> Trained:
        """Return the network, ready to be exported.

        A shift that makes scores honest goes into the bias of the head, so that whatever reads raw logits gets it too.
        """
        network = self.network.to(memory_format=torch.contiguous_format)
        if data.problem_type == "multi_label_classification" and isinstance(last_layer(network), nn.Linear):
            judging, runtime = TagJudging.of_data(data), _OnDevice(network)
            _, shift = judging.fit_scale(judging.judge(runtime, "val"), can_shift=True)
            runtime.close()
            shift_logits(network, shift)
        return Trained(
            network=FeatureNetwork(network),
            model=network,
            example={INPUT: drawn_photos(data.preprocessor)},
            outputs=(OUTPUT, FEATURES),
            dynamic={INPUT: {0: "batch"}},
            labels=data.labels,
            fields={
                "architectures": [self.hparams["architecture"]],
                "problem_type": data.problem_type,
                "label_parents": data.label_parents,
                **head_fields(network),
                **(self.plain_fields() if self.is_plain else {}),
            },
            start_weights=Path(self.hparams["weights"]).name,
            preprocessor=data.preprocessor.to_config(),
        )

    def prepare_features(self) -> None:
        """Refuse a stream, which has its photos in no order but its own.

        Raises:
            ConfigError: the data are one.
        """
        if self.data.stream:
            raise ConfigError(
                f"model.method {self.hparams['method']} looks up each training photo, which a stream cannot: leave out "
                "data.stream, or take a part of the set."
            )

    def features_of(self, split: str) -> Examples:
        """Return the photos of a split as a service would see them, and what the last layer reads of them."""
        taken: list[Tensor] = []
        hook = last_layer(self.network).register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        features, targets = [], []
        for batch in tqdm(self.data.plain_dataloader(split), desc=f"features of {split}", unit="batch"):
            self(batch["pixel_values"].to(self.device))
            features.append(taken.pop().float().cpu().numpy())
            targets.append(batch["targets"].numpy())
        hook.remove()
        found = np.concatenate(targets)  # [N, num_labels]
        if self.hparams["problem_type"] == "single_label_classification":
            found = (found == 1).argmax(axis=1)
        return Examples(np.concatenate(features), found)

    def take_head(self, head: Head) -> None:
        """Put a head that was found into the network."""
        if head.kind == "knn":
            replace_last_layer(self.network, head.voters(len(self.hparams["labels"])))
            return
        count, width = head.weight.shape
        layer = Centroids(width, count) if head.kind == "prototype" else nn.Linear(width, count)
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(np.zeros(count) if head.bias is None else head.bias))
        replace_last_layer(self.network, layer)

    def on_train_start(self) -> None:
        """Set what depends on the data: loss weights, folded batch norm, the head's first guess."""
        if self.is_plain:
            return
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
        is_grown = 0 < len(self.new_rows) < len(self.hparams["labels"])
        if self.fresh or is_grown or self.hparams["weights"] == "none":
            self._guess_frequencies(data)

    @torch.no_grad()
    def _guess_frequencies(self, data: TaggingData) -> None:
        """Start what is fresh of the head at its labels' frequencies: rare ones need not unlearn a score of 0.5."""
        last = last_layer(self.network)
        targets = np.stack([data.targets(example) for example in data.splits["train"]])  # [N, num_labels]
        positives, known = (targets == 1).sum(0) + 0.5, (targets != UNKNOWN).sum(0) + 1.0
        shares = torch.from_numpy(positives / known)
        single = self.hparams["problem_type"] == "single_label_classification"
        assert last.bias is not None
        guess = (shares.log() if single else shares.logit()).to(last.bias)
        last.bias[self.new_rows] = guess[self.new_rows]

    def on_train_epoch_start(self) -> None:
        """Freeze what does not learn yet, batch norm statistics included."""
        if self.is_plain:
            return
        learning = self.learning_stages(self.current_epoch)
        for depth, stage in enumerate(self.stages):
            stage.requires_grad_(depth < learning)
            stage.train(depth < learning)

    @property
    def comparable_after(self) -> int:
        """The first epoch in which all stages learn."""
        return int(self.hparams["head_epochs"]) + int(self.hparams["unfreeze_epochs"]) + 1

    def learning_stages(self, epoch: int) -> int:
        """Return how many stages learn at an epoch, counted from the head."""
        free: int = len(self.stages) - min(self.hparams["frozen_stages"], len(self.stages) - 1)
        head_epochs, thaw = self.hparams["head_epochs"], self.hparams["unfreeze_epochs"]
        if epoch < head_epochs:
            return 1
        return min(free, 1 + math.ceil((free - 1) * (epoch - int(head_epochs) + 1) / (int(thaw) + 1)))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a learning rate per stage, and warm-up with cosine decay over all steps."""
        if self.is_plain:
            return self.no_optimizer()
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
        total_steps = self.trainer.estimated_stepping_batches
        return with_schedule(optimizer, total_steps, self.hparams["warmup_share"], "cosine")


def check_plain(
    method: Method, network: nn.Module, problem_type: ProblemType, weights: str, has_settings_of_learning: bool
) -> None:
    """Refuse settings of a plain method that do not go together.

    Raises:
        ConfigError: says which.
    """
    if weights == "none":
        raise ConfigError(
            f"model.method {method} leaves the network as it is, so it must have learned before; came model.weights "
            "none. Name a safetensors file or a bundle's folder, such as models/tagger, or take DEFAULT."
        )
    if problem_type == "multi_label_classification" and method != "logistic_regression":
        raise ConfigError(
            f"model.method {method} takes one label per photo, and these photos have several, parents or sets: use "
            "logistic_regression or fine_tune."
        )
    if not isinstance(last_layer(network), nn.Linear):
        raise ConfigError(
            f"model.method {method} replaces a last layer that is linear; that of {type(network).__name__} is a "
            "convolution. Choose another model.architecture."
        )
    if has_settings_of_learning:
        raise ConfigError(
            f"model.method {method} does not learn step by step: leave out model.mixup_alpha, cutmix_alpha and "
            "class_weights."
        )


class _OnDevice:
    """A runtime of the network as it was trained, on a GPU if there is one."""

    inputs: tuple[TensorSignature, ...] = ()
    outputs: tuple[TensorSignature, ...] = ()
    description = "torch"

    def __init__(self, network: nn.Module) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = network

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Return logits [N, num_labels]."""
        with torch.inference_mode():
            logits = self._network.to(self.device)(torch.from_numpy(inputs[INPUT]).to(self.device))
        return {OUTPUT: logits.float().cpu().numpy()}

    def close(self) -> None:
        """Bring the network back to the CPU."""
        self._network.cpu()


def shift_logits(network: nn.Module, shift: float) -> None:
    """Add a constant to all logits, in the bias of the head."""
    with torch.no_grad():
        bias = last_layer(network).bias
        assert bias is not None
        bias += shift


def drawn_photos(preprocessor: ImagePreprocessor) -> np.ndarray:
    """Return two drawn pictures, float32 [2, 3, S, S]; drawn, because photos have owners and a bundle travels."""
    side = preprocessor.size
    rise = np.linspace(0, 1, side)
    down, across = np.meshgrid(rise, rise, indexing="ij")
    disc = ((down - 0.5) ** 2 + (across - 0.5) ** 2 < 0.1)[..., None]
    sky = np.stack([across, down, 1 - down], axis=-1)
    stripes = np.stack([np.sin(18 * down) > 0, np.sin(12 * across) > 0, down > across], axis=-1)
    pictures = [np.where(disc, [0.9, 0.6, 0.1], sky), 0.2 + 0.6 * stripes]
    return np.stack([preprocessor.normalise(Image.fromarray((255 * p).astype(np.uint8))) for p in pictures])


def choice_loss(
    logits: Tensor, targets: Tensor, sources: Tensor, views: Sequence[SourceView], hierarchy: Hierarchy
) -> Tensor:
    """Return the cross-entropy over each set's own labels, of photos whose set gives them exactly one.

    Args:
        logits: float32 [N, num_labels].
        targets: float32 [N, num_labels]: 1, 0, or NaN where unknown.
        sources: int64 [N], the place of each photo's set in `views`.
        views: the sets.
        hierarchy: ancestors of a photo's own label are no rivals.
    """
    loss = logits.new_zeros(())
    depths = torch.tensor([len(above) for above in hierarchy.ancestors], device=logits.device)
    for i, view in enumerate(views):
        rows = (sources == i).nonzero()[:, 0]
        if view.is_single_label and len(rows):
            columns = torch.tensor(view.label_indices, device=logits.device)
            own = targets[rows[:, None], columns]  # [rows, own labels]
            label = ((own == 1) * (1 + depths[columns])).argmax(dim=1)
            rivals = (own == 0).scatter(1, label[:, None], True)
            scores = logits[rows[:, None], columns].masked_fill(~rivals, -torch.inf)
            loss = loss + F.cross_entropy(scores, label, reduction="sum")
    return loss / len(logits)


def balanced_weights(data: TaggingData, problem_type: ProblemType) -> Tensor:
    """Return float32 [num_labels]: inverse frequency for cross-entropy, negatives to positives for BCE; 0.1..10."""
    targets = np.stack([data.targets(example) for example in data.splits["train"]])  # [N, num_labels]
    positives = (targets == 1).sum(0).clip(1)
    other = (targets == 0).sum(0) if problem_type == "multi_label_classification" else positives.mean()
    return torch.from_numpy((other / positives).clip(0.1, 10.0).astype(np.float32))
