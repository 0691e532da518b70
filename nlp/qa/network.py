"""Any Hugging Face encoder with a start and an end logit per token."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, PreTrainedModel

from nlp.encoders import bundle_model, load_config, load_weights, set_dropout
from shared.bundle.read import Bundle

ID2LABEL = {0: "start", 1: "end"}
"""Hugging Face's classes take the number of logits per token from here: two."""


class AnswerNetwork(nn.Module):
    """A Hugging Face model for question answering, with tensors in and tensors out.

    `model` is the Hugging Face model itself: its state is what AutoModelForQuestionAnswering loads.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: PreTrainedModel = model

    @property
    def has_token_types(self) -> bool:
        """Whether the network tells the question from the context by token_type_ids."""
        return int(getattr(self.model.config, "type_vocab_size", 0) or 0) > 1

    @property
    def head(self) -> nn.Module:
        """What was not pretrained."""
        found = self.model.qa_outputs
        assert isinstance(found, nn.Module)
        return found

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return start and end logits, [N, T] each, of int64 [N, T]."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **types)
        return found.start_logits, found.end_logits


def build_network(encoder: str, weights: str = "DEFAULT", dropout: float = 0.1) -> AnswerNetwork:
    """Return an encoder with a fresh head.

    Raises:
        ConfigError: the encoder or its weights cannot be loaded.
    """
    config = load_config(encoder, num_labels=2)
    config.id2label = dict(ID2LABEL)
    config.label2id = {name: index for index, name in ID2LABEL.items()}
    model = load_weights(AutoModelForQuestionAnswering, encoder, config, weights)
    set_dropout(model, dropout)
    return AnswerNetwork(model).train()  # Hugging Face hands models out in eval mode, in which no dropout acts


def load_network(bundle: Bundle) -> nn.Module:
    """Return the bundle's network in eval mode with its weights.

    Raises:
        BundleError: the weights are not those of the network that config.json names.
    """
    return AnswerNetwork(bundle_model(AutoModelForQuestionAnswering, bundle)).eval()
