"""Networks that turn an utterance into logits and features: a Hugging Face encoder, a recurrent one, or TF-IDF."""

from __future__ import annotations

from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from nlp.encoders import (
    TokenDropout,
    hugging_face_fields,
    load_bundle_weights,
    load_config,
    load_weights,
    mean_of_tokens,
    set_dropout,
)
from shared.bundle.layout import CONFIG
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.training.heads import SCALE, Neighbours

BILSTM = "bilstm"
TFIDF = "tfidf"
FROM_NOTHING = (BILSTM, TFIDF)
"""Networks without pretrained weights, whose tokenizer is trained on the training utterances."""
Pooling = Literal["mean", "cls"]
Head = Literal["linear", "prototype"]
HeadKind = Literal["linear", "prototype", "knn"]
PAIR_BUCKETS = 2**14
"""Of pairs of neighbouring pieces: CLINC150's 15,000 utterances have about 40,000 different ones, most of them once."""
FIRST_FACTOR, SECOND_FACTOR = 2654435761, 2246822519
"""Source: xxHash's primes PRIME32_1 and PRIME32_2. Times any id, they stay far below 2^63."""


class Classifier(nn.Module):
    """Features to logits: a linear layer, or the cosine to one prototype per intent, times `SCALE`."""

    def __init__(self, width: int, num_labels: int, head: Head) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, width).normal_(std=0.02))
        self.is_prototype = head == "prototype"
        self.bias = None if self.is_prototype else nn.Parameter(torch.zeros(num_labels))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [N, C] of [N, D], in the features' precision whatever autocast says: 8 bits are too few."""
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self(features)  # type: ignore[no-any-return]
        if self.is_prototype:
            return SCALE * F.linear(F.normalize(features), F.normalize(self.weight))
        return F.linear(features, self.weight, self.bias)


class IntentNetwork(nn.Module):
    """Takes input_ids and attention_mask, int64 [N, T]; gives logits [N, C] and features [N, D].

    With a head for entities it also gives entity_logits [N, T, E].
    """

    width: int
    """D."""
    head: nn.Module
    """What was not pretrained."""

    kind: HeadKind = "linear"
    """Of the head."""

    entity_head: Classifier | None
    """Gives logits of the entities' tags for each token; None in networks that find none."""

    @property
    def embeddings(self) -> nn.Module:
        """The word vectors."""
        raise NotImplementedError

    def take_head(self, head: nn.Module, kind: HeadKind) -> None:
        """Replace the head."""
        self.head = head
        self.kind = kind

    def add_entity_head(self, num_tags: int) -> None:
        """Add a fresh head that tells for each token what entity it belongs to.

        Raises:
            ConfigError: the network has no states of single tokens.
        """
        raise ConfigError("this network reads no single words, so it cannot find entities: choose another encoder.")

    def head_fields(self) -> dict[str, Any]:
        """Return what config.json must say to build the heads again."""
        fields: dict[str, Any] = {"head": self.kind}
        if isinstance(self.head, Neighbours):
            fields |= {"bank": len(self.head.keys), "neighbours": self.head.neighbours}
        if self.entity_head is not None:
            fields["entity_tags"] = len(self.entity_head.weight)
        return fields

    def fields(self) -> dict[str, Any]:
        """Return what config.json must say to build the network again."""
        raise NotImplementedError


class _MeanNetwork(IntentNetwork):
    """States averaged over the tokens, and a head of ours."""

    def __init__(self, width: int, num_labels: int, head: Head, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.kind = head
        self.dropout = nn.Dropout(dropout)
        self.head = Classifier(width, num_labels, head)
        self.entity_head = None

    def add_entity_head(self, num_tags: int) -> None:
        """Add a fresh head that tells for each token what entity it belongs to."""
        self.entity_head = Classifier(self.width, num_tags, "linear")

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [N, T, D]."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return (logits [N, C], features [N, D]), and entity_logits [N, T, E] if there is a head for them."""
        states = self.states(input_ids, attention_mask)
        states = states.to(next(chain(self.head.parameters(), self.head.buffers())).dtype)  # out of autocast's type
        features = mean_of_tokens(states, attention_mask)
        logits = self.head(self.dropout(features))
        if self.entity_head is None:
            return logits, features
        return logits, features, self.entity_head(self.dropout(states))


class MeanEncoder(_MeanNetwork):
    """A Hugging Face encoder without its own pooling."""

    def __init__(self, model: PreTrainedModel, num_labels: int, head: Head, dropout: float) -> None:
        super().__init__(int(model.config.hidden_size), num_labels, head, dropout)
        if getattr(model, "pooler", None) is not None:
            setattr(model, "pooler", None)  # noqa: B010 of the first token: nothing would read it
        self.model = model

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the encoder's last states, [N, T, D]."""
        found: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return found

    @property
    def embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def fields(self) -> dict[str, Any]:
        # Under a name of its own: with `model_type` at the top, transformers would load it and pool the first token.
        inner = hugging_face_fields(self.model.config) | {"architectures": [type(self.model).__name__]}
        return {"pooling": "mean", **self.head_fields(), "encoder_config": inner}


class FirstTokenEncoder(IntentNetwork):
    """Hugging Face's own classifier of the architecture, which reads the first token; AutoModel… loads its bundle.

    Features are what its last linear layer takes.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        self._parts = [last]  # in a list, so that it is not registered twice
        self.width = last.in_features
        last.taken = []  # type: ignore[assignment]
        last.register_forward_pre_hook(_take_input)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return (logits [N, C], features [N, D]), and entity_logits [N, T, E] if there is a head for them."""
        taken: list[Tensor] = self._parts[0].taken  # type: ignore[assignment]
        taken.clear()
        finds_entities = self.entity_head is not None
        said = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=finds_entities)
        if self.entity_head is None:
            return said.logits, taken.pop()
        states = said.hidden_states[-1].to(self.entity_head.weight.dtype)
        return said.logits, taken.pop(), self.entity_head(states)

    def add_entity_head(self, num_tags: int) -> None:
        """Add a fresh head that tells for each token what entity it belongs to."""
        # In the model itself, whose state is what the bundle holds; Hugging Face's own classes pass it over.
        self.model.entity_head = Classifier(int(self.model.config.hidden_size), num_tags, "linear")

    @property
    def entity_head(self) -> Classifier | None:  # type: ignore[override]
        return getattr(self.model, "entity_head", None)

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        return self._parts[0]

    @property
    def embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def fields(self) -> dict[str, Any]:
        return {**hugging_face_fields(self.model.config), "pooling": "cls", **self.head_fields()}


class Bilstm(_MeanNetwork):
    """Word vectors and one recurrent layer in each direction: a baseline that starts from nothing.

    The way back reads each utterance turned around within its own length, so that padding never matters.
    """

    def __init__(self, vocabulary_size: int, num_labels: int, head: Head, dropout: float, size: int) -> None:
        super().__init__(2 * size, num_labels, head, dropout)
        self.vocabulary_size = vocabulary_size
        self.size = size
        self.words = nn.Embedding(vocabulary_size, size)
        self.word_dropout = TokenDropout(dropout)
        self.forwards = nn.LSTM(size, size, batch_first=True)
        self.backwards = nn.LSTM(size, size, batch_first=True)

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the states of both directions side by side, [N, T, 2 * size]."""
        words = self.word_dropout(self.words(input_ids))  # [N, T, size]
        lengths = attention_mask.sum(dim=1, keepdim=True)  # [N, 1]
        places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)  # [1, T]
        turned = torch.where(places < lengths, lengths - 1 - places, places).unsqueeze(-1)  # [N, T, 1]
        turned = turned.expand(-1, -1, self.size)
        ahead, _ = self.forwards(words)
        back, _ = self.backwards(words.gather(1, turned))
        return torch.cat([ahead, back.gather(1, turned)], dim=-1)

    @property
    def embeddings(self) -> nn.Module:
        return self.words

    def fields(self) -> dict[str, Any]:
        sizes = {"vocabulary_size": self.vocabulary_size, "hidden_size": self.size}
        return {"pooling": "mean", **self.head_fields(), **sizes}


class TfIdf(IntentNetwork):
    """TF-IDF of pieces of words and of pairs of neighbours among them, and a head that reads the whole vector.

    A baseline without word vectors, and without any order beyond the pairs, which share `pair_buckets` places. Counts
    are sublinear, weighed by how rare a piece or pair is in the training utterances, and scaled to length 1 together.
    Special tokens do not count, and neither do pieces and pairs that no training utterance has. Features are a
    projection of the vector to its main directions; the neighbours of "knn" are found among them.

    Source: Salton and Buckley 1988, "Term-weighting approaches in automatic text retrieval"; Weinberger et al. 2009,
    "Feature Hashing for Large Scale Multitask Learning", without its signs.
    """

    def __init__(self, vocabulary_size: int, num_labels: int, pair_buckets: int = PAIR_BUCKETS, width: int = 1) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.pair_buckets = pair_buckets
        self.width = width
        places = vocabulary_size + pair_buckets
        self.is_piece: Tensor
        self.idf: Tensor
        self.projection: Tensor
        self.register_buffer("is_piece", torch.ones(vocabulary_size))
        self.register_buffer("idf", torch.zeros(places))
        self.register_buffer("projection", torch.zeros(places, width))
        self.head = Classifier(places, num_labels, "linear")
        self.entity_head = None

    def places(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return where each piece and pair is counted, int64 [N, 2 * T - 1], and how often: 1, or 0 for padding."""
        counted = self.is_piece[input_ids] * attention_mask  # [N, T]
        if not self.pair_buckets:
            return input_ids, counted
        hashed = (FIRST_FACTOR * input_ids[:, :-1] + SECOND_FACTOR * input_ids[:, 1:]) % 2**32
        pairs = self.vocabulary_size + hashed // (2**32 // self.pair_buckets)  # the upper bits are the mixed ones
        return torch.cat([input_ids, pairs], dim=1), torch.cat([counted, counted[:, :-1] * counted[:, 1:]], dim=1)

    def vectors(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [N, vocabulary_size + pair_buckets], each of length 1; 0 for an utterance without a known piece."""
        places, counted = self.places(input_ids, attention_mask)
        counts = self.idf.new_zeros(input_ids.shape[0], len(self.idf)).scatter_add(1, places, counted)
        return F.normalize((counts > 0) * (1 + counts.clamp_min(1).log()) * self.idf)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return (logits [N, C], features [N, D]), in full precision whatever autocast says."""
        if torch.is_autocast_enabled(input_ids.device.type):
            with torch.autocast(input_ids.device.type, enabled=False):
                return self(input_ids, attention_mask)  # type: ignore[no-any-return]
        vectors = self.vectors(input_ids, attention_mask)
        features = vectors @ self.projection
        return self.head(features if self.kind == "knn" else vectors), features

    def fields(self) -> dict[str, Any]:
        sizes = {"vocabulary_size": self.vocabulary_size, "pair_buckets": self.pair_buckets, "width": self.width}
        return {"pooling": TFIDF, **self.head_fields(), **sizes}


def _take_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Keep what a layer takes; with the layer itself, so that a copy of the network keeps its own."""
    module.taken.append(inputs[0])  # type: ignore[union-attr, operator]


def build_network(
    encoder: str,
    num_labels: int,
    *,
    pooling: Pooling = "mean",
    head: Head = "linear",
    weights: str = "DEFAULT",
    dropout: float = 0.1,
    vocabulary_size: int = 0,
    size: int = 192,
) -> IntentNetwork:
    """Return a network with a fresh head.

    Args:
        encoder: a Hugging Face encoder's name or folder, "bilstm" or "tfidf".
        num_labels: intents.
        pooling: of a Hugging Face encoder.
        head: "prototype" goes with mean pooling alone.
        weights: "DEFAULT" for the encoder's own, "none" for random ones; ignored for "bilstm" and "tfidf".
        dropout: share of the features that are dropped.
        vocabulary_size: of "bilstm" and "tfidf".
        size: of word vectors and of each direction of "bilstm".

    Raises:
        ConfigError: the encoder or its weights cannot be loaded, or the values do not go together.
    """
    if encoder == TFIDF:
        return TfIdf(vocabulary_size, num_labels).train()
    if encoder == BILSTM:
        return Bilstm(vocabulary_size, num_labels, head, dropout, size).train()
    if pooling == "cls" and head != "linear":
        raise ConfigError("pooling cls is Hugging Face's own classifier, whose head is linear: use pooling mean, or "
                          "head linear.")  # fmt: skip
    network: IntentNetwork
    if pooling == "cls":
        config = load_config(encoder, num_labels=num_labels)
        network = FirstTokenEncoder(load_weights(AutoModelForSequenceClassification, encoder, config, weights))
    else:
        model = load_weights(AutoModel, encoder, load_config(encoder), weights)
        network = MeanEncoder(model, num_labels, head, dropout)
    set_dropout(network.model, dropout)
    return network.train()  # Hugging Face hands models out in eval mode, in which no dropout acts


def load_network(bundle: Bundle) -> nn.Module:
    """Return the bundle's network in eval mode with its weights.

    Raises:
        BundleError: config.json does not say how to build it, or the weights are not those of that network.
    """
    try:
        network = _from_fields(bundle)
        if num_tags := (bundle.config.model_extra or {}).get("entity_tags"):
            network.add_entity_head(num_tags)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{bundle.path}/{CONFIG} describes no network: {error!r}") from error
    load_bundle_weights(network.model if isinstance(network, FirstTokenEncoder) else network, bundle)
    return network.eval()


def _from_fields(bundle: Bundle) -> IntentNetwork:
    fields = bundle.config.model_extra or {}
    num_labels = len(bundle.labels)
    if fields["pooling"] == "cls":
        config = AutoConfig.from_pretrained(str(bundle.file(CONFIG)), attn_implementation="eager")
        return FirstTokenEncoder(AutoModelForSequenceClassification.from_config(config))  # type: ignore[no-untyped-call]
    kind: HeadKind = fields["head"]
    start: Head = "linear" if kind == "knn" else kind
    network: IntentNetwork
    if fields["pooling"] == TFIDF:
        network = TfIdf(fields["vocabulary_size"], num_labels, fields["pair_buckets"], fields["width"])
        if kind == "prototype":
            network.take_head(Classifier(len(network.idf), num_labels, kind), kind)
    elif "encoder_config" not in fields:
        network = Bilstm(fields["vocabulary_size"], num_labels, start, 0.0, fields["hidden_size"])
    else:
        inner = dict(fields["encoder_config"])
        config = AutoConfig.for_model(inner.pop("model_type"), **inner, attn_implementation="eager")
        network = MeanEncoder(AutoModel.from_config(config), num_labels, start, 0.0)  # type: ignore[no-untyped-call]
    if kind == "knn":
        network.take_head(Neighbours(network.width, num_labels, fields["bank"], fields["neighbours"]), kind)
    return network
