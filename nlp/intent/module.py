"""The Lightning module of intents: any encoder, or one from scratch, fine-tuned to tell intents and to reject the rest.

A plain method leaves the network as it is, and finds its head at once.

One `_shared_step` serves training and validation; the losses that it adds up are below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from nlp.distilling import check_teaching, soft_cross_entropy, started_from
from nlp.encoders import MINILM, make_optimizer
from nlp.intent.data import NAMES, Batch, IntentData
from nlp.intent.evaluation import validation_summary
from nlp.intent.network import (
    BILSTM,
    FROM_NOTHING,
    TFIDF,
    Classifier,
    FirstTokenEncoder,
    Head,
    MeanEncoder,
    Pooling,
    TfIdf,
    build_network,
)
from nlp.intent.plain import intent_examples, weigh_words
from nlp.intent.predictor import FEATURES, LOGITS, Detector
from nlp.starting import load_start, start_bundle, start_from_bundle
from nlp.text import ATTENTION_MASK, INPUT_IDS
from shared.bundle.calibration import fit_temperature
from shared.errors import ConfigError
from shared.training import plain
from shared.training.heads import SCALE
from shared.training.module import Row, Trained, columns, with_schedule
from shared.training.plain import Examples, Method, PlainModule

GOLDEN_UTTERANCES = ("Where is my parcel?", "please wake me at half past six tomorrow morning", "thanks")
"""Written for this: checked whenever a service starts, padding included."""
LOWEST_MIX, HIGHEST_MIX = 0.3, 0.7
"""Share of one utterance in a mixed one: beyond, it would still be the other's intent."""


class IntentModule(PlainModule):
    """An intent classifier that learns.

    Args:
        labels: intents in the order of the logits; the command line fills it in from the data.
        vocabulary_size: of the tokenizer; from the data.
        seed: fixes dropout and mixing; from the data.
        encoder: a Hugging Face encoder by its name on the hub or by a local folder, "bilstm", which starts from nothing
            with a tokenizer of its own, or "tfidf", which counts words and pairs of them.
        method: "fine_tune", or a plain method that takes seconds: "logistic_regression", "linear_svm",
            "nearest_centroid" or "knn" on what the encoder says without learning, for which settings of learning, of
            what is out of scope, and `head` are ignored. "fine_tune" if none is given; with "tfidf"
            "logistic_regression".
        pooling: "mean" averages the encoder's states over the tokens; "cls" is Hugging Face's own classifier of the
            architecture, so that AutoModelForSequenceClassification loads the bundle.
        head: "linear", or "prototype": one point per intent, compared by cosine, that starts at the mean of its
            utterances; for few utterances per intent.
        weights: "DEFAULT" for the encoder's own, "none" for random ones, or a bundle's folder, such as models/intent:
            its encoder and tokenizer come with them.
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
        detector: what finds utterances that belong to no intent; "auto" compares all on the validation utterances.
        acceptance: share of the utterances with an intent for which one must be named.
        teacher: the folder of a bundle whose network is larger and which knows the same intents, or more: its doubts
            are learned as well as the labels. It is asked once about each training utterance.
        teacher_weight: share of the intents' loss that comes from the teacher.
        teacher_temperature: evens out what teacher and student say before they are compared.

    Source of learning from a teacher: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("labels", "vocabulary_size", "seed")
    TO_DATA: ClassVar[tuple[str, ...]] = ("encoder", "teacher")

    def __init__(
        self,
        labels: list[str],
        vocabulary_size: int = 0,
        seed: int = 42,
        encoder: str = MINILM,
        method: Method | None = None,
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
        teacher: str | None = None,
        teacher_weight: float = 0.5,
        teacher_temperature: float = 2.0,
    ) -> None:
        super().__init__()
        check_teaching(teacher_weight, teacher_temperature)
        if detector == "rejection" and out_of_scope != "reject":
            raise ConfigError("model.detector rejection must be learned: set model.out_of_scope to reject.")
        if not 0 < acceptance <= 1:
            raise ConfigError(f"model.acceptance must be above 0 and at most 1; came {acceptance}.")
        method = method or default_method(encoder)
        self.save_hyperparameters()
        self.hparams["method"] = method
        if encoder == TFIDF or self.is_plain:
            check_plain(method, encoder, weights, pooling, detector, teacher)
        start = start_bundle(weights)
        self.network = build_network(
            encoder, len(labels), pooling=pooling, head="linear" if self.is_plain else head,
            weights="none" if start else weights, dropout=dropout, vocabulary_size=vocabulary_size, size=hidden_size,
        )  # fmt: skip
        if start is not None:
            load_start(self.network, start)
        if freeze_embeddings and encoder not in FROM_NOTHING:
            self.network.embeddings.requires_grad_(False)
        # Of the head's kind: a linear layer beside prototypes would only look at the features' lengths, in which mixed
        # features differ from real ones, and the directions would learn nothing.
        rejects = out_of_scope == "reject" and not self.is_plain
        self.rejection = Classifier(self.network.width, 1, head) if rejects else None

    @classmethod
    def complete(cls, settings: Any) -> None:
        """Take the encoder from the bundle that is named as weights, and the method that goes with the encoder."""
        start_from_bundle(settings)
        settings.method = settings.method or default_method(settings.encoder)

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
        if "teacher_logits" in batch:
            known = targets >= 0
            temperature = values["teacher_temperature"]
            said = (batch["teacher_logits"][known] / temperature).softmax(dim=1)
            taught = soft_cross_entropy(logits[known], said, temperature).mean()
            inside = (1 - values["teacher_weight"]) * inside + values["teacher_weight"] * taught
        weight = 0.0 if values["out_of_scope"] == "none" or self.is_plain else values["out_of_scope_weight"]
        return loss + inside + weight * outside, logits, margin

    def _head_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network.head(features)
        return logits.float()

    def learn(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch."""
        return self._shared_step(batch)[0]

    def examine(self, batch: Batch) -> tuple[Tensor, Iterable[Row]]:
        """Return the loss, and a row (place, logits [C], margin, target) per utterance."""
        loss, logits, margin = self._shared_step(batch)
        kept = (batch["row"], logits, margin, batch["target"])
        return loss, zip(*(values.cpu().numpy() for values in kept), strict=True)

    def summarise(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return accuracy, and how well utterances that belong to no intent are told apart."""
        return validation_summary(*columns(rows))

    def trained(self, data: IntentData) -> Trained:
        """Return the network, ready to be exported."""
        network, encoder = self.network, data.encoder
        if isinstance(network, MeanEncoder | FirstTokenEncoder):
            network.model.set_attn_implementation("eager")  # a graph that every runtime knows and may fuse
        if self.folds_temperature:
            self._fold_temperature(data)
        inner = getattr(network, "model", network)
        return Trained(
            network=network,
            model=inner if isinstance(network, FirstTokenEncoder) else network,
            example=encoder.batch(encoder.encode_batch(GOLDEN_UTTERANCES), NAMES),
            outputs=(LOGITS, FEATURES),
            dynamic={name: {0: "batch", 1: "sequence"} for name in NAMES},
            labels=data.labels,
            fields={
                **network.fields(),
                **(self.plain_fields() if self.is_plain else {}),
                "architectures": [type(inner).__name__],
                "problem_type": "single_label_classification",
            },
            start_weights=started_from(self.hparams["encoder"], data.teacher_name and Path(data.teacher_name).name),
            files=encoder.files(data.tokenizer_settings),
        )

    @property
    def folds_temperature(self) -> bool:
        """Whether the head makes honest confidences of its own: other programs read networks of Hugging Face's."""
        return isinstance(self.network, FirstTokenEncoder)

    @torch.no_grad()
    def _fold_temperature(self, data: IntentData) -> None:
        """Divide the head by the temperature that makes its confidences honest on validation utterances."""
        examples = [example for example in data.splits["val"] if example.label is not None]
        rows = [(self(batch)[0], batch["target"]) for batch in data.plain_dataloader(examples)]
        logits, targets = (torch.cat(part).numpy() for part in zip(*rows, strict=True))
        temperature = fit_temperature(logits, targets, "single_label_classification")
        for head in (self.network.head, self.rejection):
            for values in head.parameters() if head is not None else ():
                values.div_(temperature)

    def learned_detector(self) -> Detector | None:
        """Return the logit of "none" as a detector; None where there is none."""
        if self.rejection is None:
            return None
        weight = self.rejection.weight[0].detach().numpy()
        bias = np.zeros(1) if self.rejection.bias is None else self.rejection.bias.detach().numpy()
        if self.rejection.is_prototype:
            weight = SCALE * weight / np.linalg.norm(weight)
        arrays: dict[str, np.ndarray] = {
            "weight": weight.astype(np.float32),
            "bias": bias.astype(np.float32),
            "is_cosine": np.array([self.rejection.is_prototype], dtype=np.uint8),
        }
        return Detector("rejection", arrays)

    def prepare_features(self) -> None:
        """Weigh the words, if the features are of words.

        Raises:
            DataError: nothing validates, so that no strength could be chosen.
        """
        self.data.check_validation()
        if isinstance(self.network, TfIdf):
            weigh_words(self.network, self.data)

    def features_of(self, split: str) -> Examples:
        """Return the utterances of a split that have an intent, as the frozen network sees them."""
        return intent_examples(self.network, self.data, split, sparse=self.hparams["method"] != "knn")

    def take_head(self, head: plain.Head) -> None:
        """Put a head that was found into the network."""
        if head.kind == "knn":
            self.network.take_head(head.voters(len(self.hparams["labels"])), head.kind)
            return
        module = Classifier(head.weight.shape[1], len(head.weight), head.kind)
        module.weight.copy_(torch.from_numpy(head.weight))
        if module.bias is not None:
            module.bias.copy_(torch.from_numpy(head.bias))
        self.network.take_head(module, head.kind)

    @torch.no_grad()
    def on_train_start(self) -> None:
        """Put each prototype at the mean of its intent's utterances, as the encoder sees them before it learns."""
        head = self.network.head
        if self.is_plain or self.global_step > 0 or not (isinstance(head, Classifier) and head.is_prototype):
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
        if self.is_plain:
            return self.no_optimizer()
        values = self.hparams
        fresh = nn.ModuleList([self.network.head, *([self.rejection] if self.rejection is not None else [])])
        optimizer = make_optimizer(
            nn.ModuleList([self.network, *fresh]),
            fresh,
            lr=values["head_lr"] if values["encoder"] == BILSTM else values["lr"],
            head_lr=values["head_lr"],
            weight_decay=values["weight_decay"],
        )
        return with_schedule(optimizer, self.trainer.estimated_stepping_batches, values["warmup_share"], "line")


def default_method(encoder: str) -> Method:
    """Return the method of an encoder for which none is named.

    >>> default_method("weights/minilm"), default_method("tfidf")
    ('fine_tune', 'logistic_regression')
    """
    return "logistic_regression" if encoder == TFIDF else "fine_tune"


def check_plain(
    method: Method, encoder: str, weights: str, pooling: Pooling, detector: str, teacher: str | None
) -> None:
    """Refuse settings of a plain method that do not go together.

    Raises:
        ConfigError: says which.
    """
    if method == "fine_tune":
        raise ConfigError(
            "model.encoder tfidf counts words, so there is nothing to fine-tune: model.method must be "
            "logistic_regression, linear_svm, nearest_centroid or knn; came fine_tune. Leave it out for the first."
        )
    if encoder == BILSTM or (weights == "none" and encoder != TFIDF):
        raise ConfigError(
            f"model.method {method} leaves the network as it is, so it must have learned before; came "
            f"{'model.encoder bilstm, which starts from nothing' if encoder == BILSTM else 'model.weights none'}. Name "
            "a pretrained encoder, a bundle's folder as model.weights, or --model.encoder tfidf."
        )
    if pooling == "cls" and encoder != TFIDF:
        raise ConfigError(f"model.method {method} reads the mean over the tokens: set model.pooling to mean.")
    if detector == "rejection":
        raise ConfigError(
            f"model.detector rejection must be learned, which model.method {method} does not: set it to auto."
        )
    if teacher is not None:
        raise ConfigError(f"model.teacher needs a network that learns: leave it out, or model.method {method}.")


def rejecting_loss(logits: Tensor, rejection: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return (loss of the intents, loss of what belongs to none): cross-entropy with "none" as one more class.

    Args:
        logits: float32 [N, C].
        rejection: float32 [N, 1], the logit of "none".
        targets: int64 [N], -1 for none.
        smoothing: moves the targets of intents towards chance.
    """
    joint = torch.cat([logits, rejection], dim=1)  # [N, C + 1]
    inside = targets >= 0
    none = torch.full_like(targets[~inside], logits.shape[1])
    return (
        F.cross_entropy(joint[inside], targets[inside], label_smoothing=smoothing),
        F.cross_entropy(joint[~inside], none) if len(none) else logits.new_zeros(()),
    )


def uniform_loss(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return (loss of the intents, loss of what belongs to none): the latter should look like every intent a little.

    Arguments as for `rejecting_loss`. Source: Hendrycks et al. 2019, "Deep Anomaly Detection with Outlier Exposure",
    section 3.
    """
    inside = targets >= 0
    return (
        F.cross_entropy(logits[inside], targets[inside], label_smoothing=smoothing),
        -logits[~inside].log_softmax(dim=1).mean() if (~inside).any() else logits.new_zeros(()),
    )


def mixed_outliers(features: Tensor, targets: Tensor, count: int) -> Tensor:
    """Return at most `count` rows [M, D] between two utterances of different intents: they belong to neither.

    Args:
        features: [N, D].
        targets: int64 [N], -1 for none; those are not mixed.

    Source: Zhan et al. 2021, "Out-of-Scope Intent Detection with Self-Supervision and Discriminative Training".
    """
    inside = (targets >= 0).nonzero()[:, 0]
    left = inside[torch.randint(len(inside), (2 * count,), device=inside.device)]
    right = inside[torch.randint(len(inside), (2 * count,), device=inside.device)]
    differ = (targets[left] != targets[right]).nonzero()[:count, 0]
    share = LOWEST_MIX + (HIGHEST_MIX - LOWEST_MIX) * torch.rand(len(differ), 1, device=features.device)
    return share * features[left[differ]] + (1 - share) * features[right[differ]]


def consistency_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return how far apart two passes with different dropout are: the mean of both Kullback-Leibler divergences.

    Args:
        first: float32 [N, C], logits.
        second: likewise, of the same utterances.

    Source: Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", equation 2.
    """
    left, right = first.log_softmax(dim=1), second.log_softmax(dim=1)
    both = F.kl_div(left, right, reduction="batchmean", log_target=True)
    return (both + F.kl_div(right, left, reduction="batchmean", log_target=True)) / 2


def contrastive_loss(features: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss: utterances of one intent near, others far, by cosine.

    Args:
        features: float32 [N, D].
        targets: int64 [N], -1 for none: those are far from all.
        temperature: divides the cosines.

    Source: Khosla et al. 2020, "Supervised Contrastive Learning", equation 2.
    """
    unit = F.normalize(features)
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T / temperature).masked_fill(own, -torch.inf)  # [N, N]
    together = (targets[:, None] == targets) & ~own & (targets >= 0)
    counts = together.sum(dim=1)
    if not counts.any():
        return features.new_zeros(())
    chances = cosines.log_softmax(dim=1).masked_fill(~together, 0.0).sum(dim=1)  # [N]
    return -(chances[counts > 0] / counts[counts > 0]).mean()
