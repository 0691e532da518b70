"""The network that points: an encoder of words, and a decoder whose next word is one of them or a symbol."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from nlp.writing.units import CASES, MAX_WRITTEN, PADDING, PIECES, START, SYMBOLS, Read, Target, arrays
from shared.bundle.layout import CONFIG, TOKENIZER, WEIGHTS
from shared.errors import ConfigError

POINTER = "pointer"
"""The writer that starts from nothing and copies whole words: small enough to come with a service."""
ARCHITECTURE = "PointerNetwork"
_PAD, _UNKNOWN = "<pad>", "<unknown>"
_MAX_PLACES = 128
_NEVER = -1e9
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Pointed:
    """One answer with its sentence, as the pointing network sees them."""

    index: int
    """Its place among the examples."""
    pieces: np.ndarray
    cases: np.ndarray
    kinds: Sequence[int]
    count: int
    targets: Sequence[Target]
    written_pieces: np.ndarray
    written_cases: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds) + len(self.targets)


class PointerNetwork(nn.Module):
    """Gives the logits of the next word, [N, symbols + S], of words read [N, S] and words written [N, T].

    Source: See et al. 2017, "Get to the point", and Gu et al. 2016, "Incorporating copying mechanism in
    sequence-to-sequence learning": the decoder is told where it copied last.

    Args:
        vocabulary_size: pieces of words.
        size: width, a multiple of 64.
        layers: of the encoder, and of the decoder.
        dropout: while it learns.
    """

    def __init__(self, vocabulary_size: int, size: int, layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.size = size
        self.piece = nn.Embedding(vocabulary_size, size, padding_idx=0)
        self.order = nn.Parameter(1 + 0.1 * torch.randn(PIECES, size))
        self.case = nn.Embedding(CASES, size)
        self.kind = nn.Embedding(PADDING + 1, size)
        self.place = nn.Embedding(_MAX_PLACES, size)
        self.step = nn.Embedding(MAX_WRITTEN + 1, size)
        self.encoder = nn.ModuleList(_Layer(size, dropout, looks_back=False) for _ in range(layers))
        self.decoder = nn.ModuleList(_Layer(size, dropout, looks_back=True) for _ in range(layers))
        self.read_norm, self.written_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.copied_from = nn.Linear(size, size)
        self.symbol = nn.Embedding(len(SYMBOLS), size)
        self.symbol_key, self.word_key, self.query = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, size)

    def forward(
        self,
        pieces: Tensor,
        cases: Tensor,
        kinds: Tensor,
        written_pieces: Tensor,
        written_cases: Tensor,
        copied: Tensor,
    ) -> Tensor:
        """Return the logits of the word that follows, float32 [N, symbols + S].

        Args:
            pieces: int64 [N, S, PIECES] of the words read.
            cases: int64 [N, S].
            kinds: int64 [N, S].
            written_pieces: int64 [N, T, PIECES]; the first word is that before the sentence.
            written_cases: int64 [N, T].
            copied: float32 [N, T, S]; 1 at the word that each was copied from.
        """
        return self.all_steps((pieces, cases, kinds), (written_pieces, written_cases, copied))[:, -1]

    def all_steps(self, read: tuple[Tensor, ...], written: tuple[Tensor, ...]) -> Tensor:
        """Return the logits after each word written, [N, T, symbols + S]; what was read and written is `forward`'s."""
        (pieces, cases, kinds), (written_pieces, written_cases, copied) = read, written
        hidden = (kinds == PADDING)[:, None, None, :]  # [N, 1, 1, S]
        seen = self._word(pieces, cases) + self.kind(kinds) + self.place.weight[: kinds.shape[1]]
        for layer in self.encoder:
            seen = layer(seen, None, hidden)
        seen = self.read_norm(seen)
        length = written_cases.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=kinds.device).triu(1)[None, None]
        said = self._word(written_pieces, written_cases) + self.copied_from(copied @ seen) + self.step.weight[:length]
        for layer in self.decoder:
            said = layer(said, seen, later, hidden)
        asked = self.query(self.written_norm(said)) / math.sqrt(self.size)
        symbols = asked @ self.symbol_key(self.symbol.weight).T
        words = asked @ self.word_key(seen).transpose(1, 2)
        return torch.cat([symbols, words], dim=-1).float()

    def _word(self, pieces: Tensor, cases: Tensor) -> Tensor:
        count = (pieces > 0).sum(-1, keepdim=True).clamp(min=1).float()
        word: Tensor = (self.piece(pieces) * self.order).sum(-2) / count.sqrt() + self.case(cases)
        return word


class _Layer(nn.Module):
    """Attention among one's own, to what was read where there is something to look at, and two linear layers."""

    def __init__(self, size: int, dropout: float, *, looks_back: bool) -> None:
        super().__init__()
        self.own = _Attention(size)
        self.other = _Attention(size) if looks_back else None
        self.wide, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None, hidden: Tensor, seen_hidden: Tensor | None = None) -> Tensor:
        """Return [N, T, D]; True in `hidden` is not looked at."""
        own = self.norms[0](x)
        x = x + self.dropout(self.own(own, own, hidden))
        if self.other is not None and seen is not None and seen_hidden is not None:
            x = x + self.dropout(self.other(self.norms[1](x), seen, seen_hidden))
        wide: Tensor = self.narrow(self.dropout(F.gelu(self.wide(self.norms[2](x)))))
        found: Tensor = x + self.dropout(wide)
        return found


class _Attention(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.heads = size // 64 if size >= 128 else 1
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
        query, key, value = self._split(self.query(x)), self._split(self.key(seen)), self._split(self.value(seen))
        weights = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        found = weights.masked_fill(hidden, _NEVER).softmax(-1) @ value  # [N, H, T, D / H]
        joined: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


def is_pointer(language_model: str) -> bool:
    """Whether this names a pointing writer: a new one, or the folder of one."""
    if language_model == POINTER:
        return True
    try:
        fields = json.loads((Path(language_model) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and fields.get("architectures") == [ARCHITECTURE]


def build_pointer(language_model: str, vocabulary_size: int, size: int, layers: int) -> PointerNetwork:
    """Return a new pointing network, or the one in a folder with its weights.

    Raises:
        ConfigError: the folder's weights are not those of the network that its config.json names.
    """
    if language_model == POINTER:
        network = PointerNetwork(vocabulary_size, size, layers)
        for module in network.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=size**-0.5)
        return network
    folder = Path(language_model)
    fields = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    try:
        network = PointerNetwork(*(fields["pointer"][name] for name in ("vocabulary_size", "size", "layers")))
        network.load_state_dict({name: value.float() for name, value in load_file(str(folder / WEIGHTS)).items()})
    except (KeyError, TypeError, OSError, RuntimeError) as error:
        raise ConfigError(f"{folder} has no weights of the pointing network that it describes: {error}") from error
    return network


def fields_of(network: PointerNetwork) -> dict[str, Any]:
    """Return what config.json says of a pointing network."""
    return {
        "architectures": [ARCHITECTURE],
        "problem_type": None,
        "pointer": {
            "vocabulary_size": network.piece.num_embeddings, "size": network.size, "layers": len(network.encoder),
        },
    }  # fmt: skip


def pointer_tokenizer(language_model: str, words: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Return the pieces of words: learned from these, or those of a folder."""
    if language_model != POINTER:
        return Tokenizer.from_file(str(Path(language_model) / TOKENIZER))
    tokenizer = Tokenizer(models.BPE(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, min_frequency=2, special_tokens=[_PAD, _UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def pointed(tokenizer: Tokenizer, index: int, source: Read, wanted: Sequence[Target]) -> Pointed:
    """Return an example as arrays."""
    pieces, cases = arrays(tokenizer, source.words)
    written, written_cases = arrays(tokenizer, [target.word for target in wanted])
    return Pointed(index, pieces, cases, source.kinds, source.count, wanted, written, written_cases)


def collate_pointed(items: Sequence[Pointed]) -> Batch:
    """Return what the network takes, by its arguments' names, and `right`, bool [N, T, symbols + S]: the places that
    write each word, `is_written`, bool [N, T], and `row`, int64 [N]."""
    rows, words = len(items), max(len(each.kinds) for each in items)
    steps = max(len(each.targets) for each in items)
    pieces = torch.zeros(rows, words, PIECES, dtype=torch.long)
    cases = torch.zeros(rows, words, dtype=torch.long)
    kinds = torch.full((rows, words), PADDING)
    written_pieces = torch.zeros(rows, steps, PIECES, dtype=torch.long)
    written_cases = torch.full((rows, steps), START)
    copied = torch.zeros(rows, steps, words)
    right = torch.zeros(rows, steps, len(SYMBOLS) + words, dtype=torch.bool)
    is_written = torch.zeros(rows, steps, dtype=torch.bool)
    may_copy = torch.zeros(rows, words, dtype=torch.bool)
    for row, each in enumerate(items):
        length, count = len(each.kinds), len(each.targets)
        pieces[row, :length], cases[row, :length] = torch.from_numpy(each.pieces), torch.from_numpy(each.cases)
        kinds[row, :length] = torch.tensor(each.kinds)
        may_copy[row, : each.count] = True
        written_pieces[row, 1:count] = torch.from_numpy(each.written_pieces[:-1])
        written_cases[row, 1:count] = torch.from_numpy(each.written_cases[:-1])
        is_written[row, :count] = True
        last = -1
        for step, target in enumerate(each.targets):
            if target.symbol >= 0:
                right[row, step, target.symbol] = True
            for place in target.places:
                right[row, step, len(SYMBOLS) + place] = True
            if target.places:
                last = last + 1 if last + 1 in target.places else target.places[0]
                if step + 1 < count:
                    copied[row, step + 1, last] = 1
    return {
        "pieces": pieces, "cases": cases, "kinds": kinds, "written_pieces": written_pieces,
        "written_cases": written_cases, "copied": copied, "right": right, "is_written": is_written,
        "may_copy": may_copy, "row": torch.tensor([each.index for each in items]),
    }  # fmt: skip


INPUTS = ("pieces", "cases", "kinds", "written_pieces", "written_cases", "copied")


def pointing_losses(network: PointerNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the loss of each word, float [N, T], and whether the likeliest word is right, bool [N, T]."""
    tensors = tuple(batch[name] for name in INPUTS)
    logits = network.all_steps(tensors[:3], tensors[3:])
    free = torch.ones(len(logits), len(SYMBOLS), dtype=torch.bool, device=logits.device)
    allowed = torch.cat([free, batch["may_copy"]], dim=1)[:, None]
    shares = logits.masked_fill(~allowed, _NEVER).log_softmax(-1)
    right = shares.masked_fill(~batch["right"], _NEVER).logsumexp(-1)
    best = batch["right"].gather(-1, shares.argmax(-1, keepdim=True)).squeeze(-1)
    return -right.masked_fill(~batch["is_written"], 0), best | ~batch["is_written"]
