"""The Lightning data module of writers: answers with sentences in, batches of token ids out."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import compress
from operator import attrgetter, not_
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset

from nlp.writing.network import SMALL, load_tokenizer, train_tokenizer
from nlp.writing.pointer import POINTER, collate_pointed, is_pointer, pointed, pointer_tokenizer
from nlp.writing.predictor import EOS
from nlp.writing.sources import Example, LoadedSource, Source, load_source
from nlp.writing.units import read, targets
from nlp.writing.wording import END
from shared.bundle.read import sha256_of
from shared.errors import ConfigError, DataError
from shared.sources.splits import SPLITS
from shared.training.data import TaskData, whole_groups

UNLEARNED = -100
"""Target of tokens that are read and not written; torch's cross-entropy leaves it out."""
SHUFFLED_TOGETHER = 32
"""So many batches' worth of sentences are sorted by length at a time; more pad less, fewer mix better."""
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Encoded:
    """One answer with its sentence."""

    index: int
    """Its place among the examples."""
    read: list[int]
    written: list[int]

    def __len__(self) -> int:
        return len(self.read) + len(self.written)


class WriterData(TaskData):
    """Answers with the sentences that they should become.

    Args:
        source: a table with question, context with the answer between two pairs of asterisks, and sentence; or with
            answers {text, answer_start} as in SQuAD instead of the asterisks. A file, a folder of files, the name of a
            Hugging Face dataset, or a list of such sets with their options.
        language_model: whose tokenizer is used; one for "pointer" and "small" is trained on the sentences. The command
            line fills it in from the model.
        max_length: tokens of question, text and sentence that a language model learns; longer ones are left out. The
            pointing writer reads 30 words of the question and 60 of the text.
        batch_tokens: tokens in a step, padding included; sentences of similar length go together.
        vocabulary_size: most pieces of a tokenizer that is trained.
        val_share: share of the contexts that validates, where a set brings no validation split.
        test_share: share held back for the final test, where a set brings no test split.
        seed: fixes splits and order.
        cache_dir: where `datasets` keeps its tables; its own default if not given.
    """

    def __init__(
        self,
        source: str | list[Source],
        language_model: str = POINTER,
        max_length: int = 256,
        batch_tokens: int = 4096,
        vocabulary_size: int = 6000,
        val_share: float = 0.05,
        test_share: float = 0.05,
        seed: int = 42,
        cache_dir: str | None = None,
    ) -> None:
        options = [Source(source)] if isinstance(source, str) else source
        super().__init__(options, val_share=val_share, test_share=test_share, seed=seed, cache_dir=cache_dir)
        if max_length < 32:
            raise ConfigError(f"max_length must be 32 or more; came {max_length}.")
        self.language_model = language_model
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.max_vocabulary = vocabulary_size
        self.encoded: dict[str, list[Any]] = {}
        """Split -> the token ids of its examples, in their order."""

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the sentences, and load or train the tokenizer; done once, whatever the stage."""
        if hasattr(self, "tokenizer"):
            return
        self.read()
        if is_pointer(self.language_model):
            self._point()
            return
        if self.language_model == SMALL:
            texts = [f"{e.ask.prompt} {e.written}{END}" for e in self.splits["train"]]
            self.tokenizer, self.tokenizer_settings = train_tokenizer(texts, self.max_vocabulary)
        else:
            self.tokenizer, self.tokenizer_settings = load_tokenizer(self.language_model)
        self.vocabulary_size = self.tokenizer.get_vocab_size(with_added_tokens=True)
        for split in SPLITS:
            examples, coded = self.splits[split], self._encode(split)
            fits = [len(each) <= self.max_length for each in coded]
            for example in compress(examples, map(not_, fits)):
                self.sources[example.source].skip("that are too long", f"{split}: {example.sentence!r}")
            self.splits[split] = list(compress(examples, fits))
            self.encoded[split] = [replace(each, index=i) for i, each in enumerate(compress(coded, fits))]

    def _point(self) -> None:
        """Prepare examples for the network that points at words."""
        reads = {split: [read(example.ask) for example in examples] for split, examples in self.splits.items()}
        words = (word for each in reads["train"] for word in each.words)
        self.tokenizer = pointer_tokenizer(self.language_model, words, self.max_vocabulary)
        self.tokenizer_settings = {"tokenizer_class": "PreTrainedTokenizerFast", EOS: None}
        self.vocabulary_size = self.tokenizer.get_vocab_size()
        for split, sources in reads.items():
            kept: list[Example] = []
            coded: list[Any] = []
            for example, source in zip(self.splits[split], sources, strict=True):
                wanted = targets(source, example.written)
                if wanted is None:
                    reason = "with a word that is no form of one in the question or the text"
                    self.sources[example.source].skip(reason, f"{split}: {example.sentence!r}")
                    continue
                coded.append(pointed(self.tokenizer, len(kept), source, wanted))
                kept.append(example)
            self.splits[split], self.encoded[split] = kept, coded

    def load(self, options: Source, index: int) -> LoadedSource:
        """Return a set, read and checked."""
        return load_source(options, index, self.cache_dir)

    def digest(self, example: Example) -> str:
        """Return the digest of the context, which is never in two splits."""
        return sha256_of(example.context.encode())

    def settle(self) -> None:
        """Drop contexts that several splits share."""
        self.drop_leaks(lambda e: e.context, lambda e, kept: f"{e.ask.question}: also in the {kept} part")

    def divide(self, source: LoadedSource) -> dict[str, list[Example]]:
        """Return split -> examples: stored splits stay, and whole contexts of "train" go to val and test."""
        splits = {name: list(source.splits.get(name, ())) for name in SPLITS}
        for name in ("test", "val"):
            share = self.shares[f"{name}_share"]
            if splits[name] or not share or not splits["train"]:
                continue
            rng = random.Random(f"{self.seed}-{name}")
            splits[name], splits["train"] = whole_groups(splits["train"], attrgetter("context"), share, rng)
        return splits

    def _encode(self, split: str) -> list[Encoded]:
        """Return the token ids of a split's examples, in their order."""
        examples = self.splits[split]
        read = self.tokenizer.encode_batch([example.ask.prompt for example in examples])
        written = self.tokenizer.encode_batch([f" {e.written}{END}" for e in examples], add_special_tokens=False)
        return [Encoded(i, r.ids, w.ids) for i, (r, w) in enumerate(zip(read, written, strict=True))]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this epoch's batches; the trainer asks again each epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        if not self.splits["train"]:
            raise DataError("no sentence is left to train on: lower val_share and test_share or add sentences.")
        if not self.splits["val"]:
            raise DataError("no sentence validates, so that no checkpoint could be chosen: raise val_share above 0.")
        return self._loader("train", random.Random(f"{self.seed}-{epoch}"))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation sentences."""
        return self._loader("val", None)

    def _loader(self, split: str, rng: random.Random | None) -> DataLoader[Batch]:
        encoded = self.encoded[split]
        order = list(range(len(encoded)))
        if rng is not None:
            rng.shuffle(order)
        chunk = SHUFFLED_TOGETHER * max(1, self.batch_tokens // self.max_length) if rng else max(1, len(order))
        batches: list[list[Any]] = []
        for start in range(0, len(order), chunk):
            part = sorted((encoded[i] for i in order[start : start + chunk]), key=len)
            batches.append([])
            for each in part:
                if batches[-1] and (len(batches[-1]) + 1) * len(each) > self.batch_tokens:
                    batches.append([])
                batches[-1].append(each)
        if rng is not None:
            rng.shuffle(batches)
        together = collate_pointed if is_pointer(self.language_model) else collate
        return DataLoader(
            cast("Dataset[Batch]", batches), batch_size=None, shuffle=False, collate_fn=together,
            pin_memory=torch.cuda.is_available(),
        )  # fmt: skip


def collate(items: list[Encoded]) -> Batch:
    """Return int64 [N, T] input_ids, attention_mask and labels (`UNLEARNED` for what is only read), and row [N]."""
    length = max(map(len, items))
    ids = torch.zeros(len(items), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, UNLEARNED)
    for row, each in enumerate(items):
        ids[row, : len(each)] = torch.tensor(each.read + each.written)
        mask[row, : len(each)] = 1
        labels[row, len(each.read) : len(each)] = torch.tensor(each.written)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "row": torch.tensor([e.index for e in items])}
