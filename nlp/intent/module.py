"""The Lightning module of intents: any encoder, or one from scratch, fine-tuned to tell intents and to reject the rest.

A plain method leaves the network as it is, and finds its head at once.

One `_shared_step` serves training and validation; the losses that it adds up are below.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nlp.distilling import check_teaching, soft_cross_entropy, started_from
from nlp.encoders import MINILM, make_optimizer
from nlp.intent.data import NAMES, UNTAGGED, Batch, IntentData
from nlp.intent.entities import ENTITY_LOGITS, Kind, fitted, found_spans, num_tags, read_entities, span_counts
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
from shared.bundle.layout import ONNX, WEIGHTS
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.training import plain
from shared.training.heads import SCALE, carried_rows, imprint
from shared.training.int8 import dequantise
from shared.training.module import Row, Trained, columns, with_schedule
from shared.training.plain import Examples, Method, PlainModule

logger = logging.getLogger(__name__)
GOLDEN_UTTERANCES = ("Where is my parcel?", "please wake me at half past six tomorrow morning", "thanks")
"""Written for this: checked whenever a service starts, padding included."""
KINDS = "percept_entities"
"""Entry of a checkpoint."""
SHOWN = 3
OF_EACH = 0.4
"""What is learned of either intent of an utterance that wants two things: below a half, so that neither is sure."""
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
        entity_weight: of the loss of entities, where the data has any.
        hidden_size: of "bilstm".
        detector: what finds utterances that belong to no intent; "auto" compares all on the validation utterances.
        acceptance: share of the utterances with an intent for which one must be named.
        languages: ISO 639 codes of the languages that it knows; an utterance that is clearly in another one is out of
            scope. Found in the training utterances if not given; [] for a model that may be asked in any language.
        teacher: the folder of a bundle whose network is larger and which knows the same intents, or more: its doubts
            are learned as well as the labels. It is asked once about each training utterance.
        teacher_weight: share of the intents' loss that comes from the teacher.
        teacher_temperature: evens out what teacher and student say before they are compared.
        entity_kinds: entity, role and group of each kind of entity, in the order of their tags; from the data. Plain
            methods find none.

    Source of learning from a teacher: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
    """

    FROM_DATA: ClassVar[tuple[str, ...]] = ("labels", "entity_kinds", "vocabulary_size", "seed")
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
        entity_weight: float = 1.0,
        hidden_size: int = 192,
        detector: Literal[
            "auto", "max_softmax", "energy", "rejection", "mahalanobis", "knn", "gaussian_process"
        ] = "auto",
        acceptance: float = 0.95,
        languages: list[str] | None = None,
        teacher: str | None = None,
        teacher_weight: float = 0.5,
        teacher_temperature: float = 2.0,
        entity_kinds: list[list[str | None]] | None = None,
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
        if entity_kinds and self.is_plain:
            logger.warning(
                "entities are not learned: %s. Choose an encoder and model.method fine_tune for them.",
                "tfidf counts words" if encoder == TFIDF else f"model.method {method} learns intents alone",
            )
        elif entity_kinds:
            self.network.add_entity_head(num_tags(len(entity_kinds)))
        self.new_rows = list(range(len(labels)))
        """Rows of the head that no earlier bundle has learned."""
        if start is not None:
            is_alike = (start.config.model_extra or {}).get("head") == head and not self.is_plain
            self.new_rows = load_start(self.network, start, self.network.head, labels if is_alike else ())
            self.new_rows = self.new_rows if is_alike else list(range(len(labels)))
            if self.network.entity_head is not None:
                start_entity_head(self.network.entity_head, self.kinds, start)
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

    @property
    def kinds(self) -> list[Kind]:
        """Kinds of entities in the order of their tags; none where none are learned."""
        return [] if self.is_plain else kinds_of(self._kinds)

    def forward(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return logits [N, C], features [N, D] and, if there are any, logits of tags [N, T, E]; float32."""
        return tuple(found.float() for found in self.network(batch[INPUT_IDS], batch[ATTENTION_MASK]))

    def _shared_step(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return (loss, logits [N, C], logit of "none" less those of the intents [N], logits of tags [N, T, E])."""
        values = self.hparams
        twice = bool(self.training and values["consistency_weight"])
        if twice:
            batch = {name: torch.cat([value, value]) for name, value in batch.items()}  # [2 * N, …]
        logits, features, *tags = self(batch)
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
            known = (targets >= 0) & (batch["teacher_logits"] != 0).any(dim=1)  # nobody asked about some that are made
            temperature = values["teacher_temperature"]
            said = (batch["teacher_logits"][known] / temperature).softmax(dim=1)
            taught = soft_cross_entropy(logits[known], said, temperature).mean()
            inside = (1 - values["teacher_weight"]) * inside + values["teacher_weight"] * taught
        weight = 0.0 if values["out_of_scope"] == "none" or self.is_plain else values["out_of_scope_weight"]
        if "both" in batch:
            loss = loss + values["out_of_scope_weight"] * two_wishes_loss(logits, batch["both"])
        if tags and "tags" in batch:
            loss = loss + values["entity_weight"] * entity_loss(tags[0], batch["tags"])
        return loss + inside + weight * outside, logits, margin, tags[0] if tags else None

    def _head_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network.head(features)
        return logits.float()

    def learn(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch."""
        return self._shared_step(batch)[0]

    def examine(self, batch: Batch) -> tuple[Tensor, Iterable[Row]]:
        """Return the loss, and a row (place, logits [C], margin, target) per utterance.

        Where entities are learned, a row also has how many were found rightly, found, and marked, int [3].
        """
        loss, logits, margin, tags = self._shared_step(batch)
        kept = [values.cpu().numpy() for values in (batch["row"], logits, margin, batch["target"])]
        if tags is not None:
            kept.append(self._entity_counts(batch["row"].tolist(), tags.cpu().numpy()))
        return loss, zip(*kept, strict=True)

    def _entity_counts(self, rows: Sequence[int], tags: np.ndarray) -> np.ndarray:
        data: IntentData = self.data
        counts = []
        for row, logits in zip(rows, tags, strict=True):
            encoding, marked = data.val_encodings[row], data.splits["val"][row].entities
            if marked is None:
                counts.append((0, 0, 0))
                continue
            counts.append(span_counts(found_spans(logits, encoding, self.kinds), fitted(marked, encoding)))
        return np.array(counts)

    def summarise(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return accuracy, how well utterances that belong to no intent are told apart, and the F1 of entities."""
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
            outputs=(LOGITS, FEATURES, *([ENTITY_LOGITS] if network.entity_head is not None else [])),
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
        """Start what the head has not learned before at the mean of its intents, as the encoder sees them by now.

        All prototypes that are new do, and new rows of a linear head beside rows that a bundle has learned.
        """
        head, rows = self.network.head, self.new_rows
        if self.is_plain or self.global_step > 0 or not isinstance(head, nn.Linear | Classifier):
            return
        is_prototype = isinstance(head, Classifier) and head.is_prototype
        if not rows or not (is_prototype or len(rows) < len(head.weight)):
            return
        if self.hparams["encoder"] == BILSTM or self.hparams["weights"] == "none":
            return
        self.network.eval()
        examples = [example for example in self.data.splits["train"] if example.label is not None]
        sums = torch.zeros_like(head.weight)
        counts = torch.zeros(len(head.weight), 1, device=self.device)
        for batch in self.data.plain_dataloader(examples):
            _, features, *_ = self({name: value.to(self.device) for name, value in batch.items()})
            targets = batch["target"].to(self.device)
            sums.index_add_(0, targets, F.normalize(features) if is_prototype else features)
            counts.index_add_(0, targets, torch.ones(len(targets), 1, device=self.device))
        if is_prototype:
            head.weight[rows] = F.normalize(sums[rows])
        else:
            imprint(head.weight, head.bias, rows, sums / counts.clamp_min(1), sums.sum(dim=0) / counts.sum())
        self.network.train()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep labels and kinds of entities with the weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[KINDS] = self._kinds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with other labels or other kinds of entities, even as many.

        Raises:
            ConfigError: names some.
        """
        super().on_load_checkpoint(checkpoint)
        before, now = ([kind.name for kind in kinds_of(each)] for each in (checkpoint.get(KINDS), self._kinds))
        if before != now:
            raise ConfigError(
                f"the checkpoint was trained with other entities: {', '.join(before[:SHOWN]) or 'none'} then, "
                f"{', '.join(now[:SHOWN]) or 'none'} now. Resume with the data that it was trained on, or leave out "
                "--ckpt_path to start anew."
            )

    @property
    def _kinds(self) -> list[list[str | None]] | None:
        kinds: list[list[str | None]] | None = self.hparams["entity_kinds"]
        return kinds

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a rate for the encoder and one for the head, warm-up and linear decay over all steps."""
        if self.is_plain:
            return self.no_optimizer()
        values = self.hparams
        heads = (self.network.head, self.rejection, self.network.entity_head)
        fresh = nn.ModuleList([head for head in heads if head is not None])
        optimizer = make_optimizer(
            nn.ModuleList([self.network, *fresh]),
            fresh,
            lr=values["head_lr"] if values["encoder"] == BILSTM else values["lr"],
            head_lr=values["head_lr"],
            weight_decay=values["weight_decay"],
        )
        return with_schedule(optimizer, self.trainer.estimated_stepping_batches, values["warmup_share"], "line")


def kinds_of(settings: Sequence[Sequence[str | None]] | None) -> list[Kind]:
    """Return the kinds that settings hold as entity, role and group."""
    return [Kind(str(entity), role, group) for entity, role, group in settings or ()]


def two_wishes_loss(logits: Tensor, both: Tensor) -> Tensor:
    """Return the cross-entropy of utterances that want two things with `OF_EACH` for both, and the rest for all.

    Args:
        logits: float32 [N, C].
        both: int64 [N, 2], the two intents; -1 for other utterances.
    """
    rows = both[:, 0] >= 0
    if not rows.any():
        return 0.0 * logits.sum()
    chances = logits[rows].log_softmax(dim=1)  # [M, C]
    return -(OF_EACH * chances.gather(1, both[rows]).sum(dim=1) + (1 - 2 * OF_EACH) * chances.mean(dim=1)).mean()


def entity_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Return the cross-entropy of the words' tags; 0 if no word has one.

    Args:
        logits: float32 [N, T, E].
        tags: int64 [N, T], `UNTAGGED` where a token begins no word, or nobody marked entities.
    """
    if not (tags != UNTAGGED).any():
        return 0.0 * logits.sum()  # with several processes all must have a gradient
    return F.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=UNTAGGED)


@torch.no_grad()
def start_entity_head(head: Classifier, kinds: Sequence[Kind], start: Bundle) -> None:
    """Keep in a head the tags of the kinds that a bundle knows, and start the others anew.

    Args:
        head: with the bundle's weights, if they are as many.
        kinds: of the head's tags.
        start: the bundle.
    """
    rule = read_entities(start)
    if rule is None or list(rule.kinds) == list(kinds):
        return
    state = load_file(start.file(WEIGHTS)) if WEIGHTS in start.config.files else dequantise(start.file(ONNX))
    names = [["", *(f"{kind.name} {part}" for kind in each for part in "BI")] for each in (kinds, rule.kinds)]
    for part, own in head.named_parameters():
        found = next((value for name, value in state.items() if name.endswith(f"entity_head.{part}")), None)
        nn.init.normal_(own, std=0.02) if own.ndim > 1 else nn.init.zeros_(own)
        carried = None if found is None else carried_rows(own, torch.from_numpy(np.array(found)), *names)
        if carried is not None:
            own.copy_(carried[0])


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
