"""The Lightning module of question answering: any encoder, fine-tuned to point at the start and end of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from nlp.distilling import check_teaching, soft_cross_entropy, started_from
from nlp.encoders import MINILM, freeze, hugging_face_fields, make_optimizer
from nlp.qa.data import AnswerData, Batch
from nlp.qa.evaluation import decode, summary
from nlp.qa.network import ID2LABEL, build_network
from nlp.qa.predictor import END_LOGITS, START_LOGITS
from nlp.starting import load_start, start_bundle, start_from_bundle
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from shared.training.module import Row, TaskModule, Trained, with_schedule

GOLDEN_QUESTIONS = (
    ("Who keeps the light?", "The light on the rock is kept by Ada Brandt, who has lived there since 1962."),
    (
        "How long does the ferry take?",
        "In summer a ferry leaves every morning at seven and takes forty minutes to the island. In winter it goes on "
        "Mondays alone, and only when the sea is calm.",
    ),
    ("What does a ticket cost?", "The museum opens at ten."),
)
"""Written for this: checked whenever a service starts; one of them has no answer."""


class AnswerModule(TaskModule):
    """A reader that learns.

    Args:
        encoder: a Hugging Face encoder, by its name on the hub or by a local folder.
        seed: fixes dropout; the command line fills it in from the data.
        weights: "DEFAULT" for the encoder's own, "none" for random ones, or a bundle's folder, such as models/qa; its
            encoder and tokenizer come with them.
        lr: learning rate of the encoder.
        head_lr: learning rate of the head, which starts from nothing.
        weight_decay: of AdamW; biases and norms have none.
        dropout: share of the features that are dropped, the same for all tokens of a sequence.
        freeze_embeddings: the word vectors stay as they are; they are half of a small encoder's weights.
        freeze_layers: so many of the lowest layers stay as they are, and the word vectors: each makes a step cheaper.
        warmup_share: share of all steps in which the learning rate rises, before it falls along a line.
        label_smoothing: moves targets towards every token that an answer may start or end at.
        teacher: the folder of a bundle whose network is larger, to learn its doubts as well as the labels. It is asked
            once about each training question; RUN_DIR/teacher.npz keeps what it said, and may be named here instead.
        teacher_weight: share of the loss that comes from the teacher, for the questions that it was asked.
        teacher_temperature: evens out what teacher and student say before they are compared.

    Source of learning from a teacher: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
    """

    TO_DATA: ClassVar[tuple[str, ...]] = ("encoder", "teacher", "teacher_temperature")

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
        freeze_layers: int = 0,
        warmup_share: float = 0.06,
        label_smoothing: float = 0.0,
        teacher: str | None = None,
        teacher_weight: float = 0.5,
        teacher_temperature: float = 2.0,
    ) -> None:
        super().__init__()
        check_teaching(teacher_weight, teacher_temperature)
        self.save_hyperparameters()
        start = start_bundle(weights)
        self.network = build_network(encoder, "none" if start else weights, dropout)
        if start is not None:
            load_start(self.network, start)
        freeze(self.network.model, embeddings=freeze_embeddings, layers=freeze_layers)

    @classmethod
    def complete(cls, settings: Any) -> None:
        """Take the encoder from the bundle that is named as weights."""
        start_from_bundle(settings)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return start and end logits, [N, T] each; very low where no answer can start or end."""
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
        loss = (losses[0] + losses[1]) / 2  # [N]
        if "teacher_targets" in batch:
            loss = self._with_teacher(loss, batch, torch.stack([start, end], dim=1))
        return loss.mean(), start, end

    def _with_teacher(self, loss: Tensor, batch: Batch, logits: Tensor) -> Tensor:
        """Return the losses [N], where the teacher was asked partly from what it said; logits are [N, 2, T]."""
        values = self.hparams
        share = values["teacher_weight"] * batch["is_taught"]  # [N]
        taught = soft_cross_entropy(logits, batch["teacher_targets"], values["teacher_temperature"]).mean(dim=1)
        mixed: Tensor = (1 - share) * loss + share * taught
        return mixed

    def learn(self, batch: Batch) -> Tensor:
        """Return the loss of a training batch."""
        return self._shared_step(batch)[0]

    def examine(self, batch: Batch) -> tuple[Tensor, Iterable[Row]]:
        """Return the loss, and a row (place, start logits [T], end logits [T]) per window, without padding."""
        loss, start, end = self._shared_step(batch)
        lengths = batch[ATTENTION_MASK].sum(1).tolist()
        kept = zip(batch["window"].tolist(), start.cpu().numpy(), end.cpu().numpy(), lengths, strict=True)
        return loss, [(place, first[:length], last[:length]) for place, first, last, length in kept]

    def summarise(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return exact match, F1, and how well unanswerable questions are found."""
        data = self.data
        examples = data.splits["val"]
        logits = {place: (start, end) for place, start, end in rows}
        predictions = decode(examples, data.windows("val"), logits, max_answer_tokens=data.max_answer_tokens)
        return summary(examples, predictions)

    def trained(self, data: AnswerData) -> Trained:
        """Return the network, ready to be exported."""
        model, encoder = self.network.model, data.encoder
        model.set_attn_implementation("eager")  # a graph that every runtime knows and may fuse
        names = [INPUT_IDS, ATTENTION_MASK, *([TOKEN_TYPE_IDS] if self.network.has_token_types else [])]
        windows = [encoder.windows(question, context)[0] for question, context in GOLDEN_QUESTIONS]
        return Trained(
            network=self.network,
            model=model,
            example=encoder.batch(windows, names),
            outputs=(START_LOGITS, END_LOGITS),
            dynamic={name: {0: "batch", 1: "sequence"} for name in names},
            labels=tuple(ID2LABEL.values()),
            fields={
                **hugging_face_fields(model.config),
                "architectures": [type(model).__name__],
                "problem_type": None,
            },
            start_weights=started_from(self.hparams["encoder"], data.teacher.name if data.teacher else None),
            files=encoder.files(data.tokenizer_settings),
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a rate for the encoder and one for the head, warm-up and linear decay over all steps."""
        values = self.hparams
        optimizer = make_optimizer(
            self.network,
            self.network.head,
            lr=values["lr"],
            head_lr=values["head_lr"],
            weight_decay=values["weight_decay"],
        )
        return with_schedule(optimizer, self.trainer.estimated_stepping_batches, values["warmup_share"], "line")


def _cross_entropy(logits: Tensor, targets: Tensor, allowed: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropies [N], smoothed over the allowed tokens alone."""
    loss = F.cross_entropy(logits, targets, reduction="none")
    if not smoothing:
        return loss
    uniform = -(logits.log_softmax(-1) * allowed).sum(-1) / allowed.sum(-1)  # [N]
    return (1 - smoothing) * loss + smoothing * uniform
