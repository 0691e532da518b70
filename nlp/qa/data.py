"""The Lightning data module of question answering: sets of questions in, batches of windows out.

Questions without an answer are made where a set has none, by crossing a question with another passage: one of the same
title where there is one, which is the harder kind, else any. Every random choice follows from (seed, epoch, question).
Neighbours: `sources` reads, `windows` cuts and batches, `module` trains.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from nlp.encoders import load_tokenizer
from nlp.qa.sources import Example, LoadedSource, Source, load_source
from nlp.qa.windows import Batch, WindowBatches, Windowed, collate, cut
from nlp.text import TextEncoder
from shared.errors import ConfigError, DataError
from shared.training.splits import check_names, check_shares

SPLITS = ("train", "val", "test")


class AnswerData(LightningDataModule):
    """Questions with passages.

    Args:
        source: a file in SQuAD's JSON, JSON lines or parquet, a folder of such files, the name of a Hugging Face
            dataset, or a list of such sets with their options.
        encoder: name or folder of the encoder whose tokenizer is used; the command line fills it in from the model.
        max_length: most tokens of a window, question included.
        stride: tokens that neighbouring windows of one passage share.
        batch_tokens: tokens in a step, padding included; windows of like length go together.
        unanswerable_share: share of the training questions that are also asked of a passage that does not hold their
            answer; 0 for none. Sets that bring unanswerable questions keep them all.
        same_title_share: of the crossed passages, how many come from the same title, where it has others.
        empty_window_share: of the windows without the answer that a long passage is cut into, how many are learned
        max_answer_tokens: answers given are no longer.
        max_windows: when a finished bundle is measured, only the first so many windows of a context are read; 1 shows
            what a reader that truncates would find. None for all.
        val_share: share of the contexts or titles that validates, where a set brings no validation split.
        test_share: share held back for the final test, where a set brings no test split.
        num_workers: processes that cut windows; tokenising is quick, so none is the default.
        seed: fixes splits, crossing and order.
        cache_dir: where `datasets` keeps its tables; its own default if not given.
    """

    def __init__(
        self,
        source: str | list[Source],
        encoder: str = "sentence-transformers/all-MiniLM-L6-v2",
        max_length: int = 384,
        stride: int = 128,
        batch_tokens: int = 6144,
        unanswerable_share: float = 0.25,
        same_title_share: float = 0.5,
        empty_window_share: float = 0.25,
        max_answer_tokens: int = 60,
        max_windows: int | None = None,
        val_share: float = 0.05,
        test_share: float = 0.05,
        num_workers: int = 0,
        seed: int = 42,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        check_shares(val_share, test_share)
        if not 0 <= stride < max_length // 2:
            raise ConfigError(f"stride must be from 0 to less than half of max_length {max_length}; came {stride}.")
        self.options = [Source(source)] if isinstance(source, str) else list(source)
        if not self.options:
            raise ConfigError("data.source is an empty list: name at least one set of questions.")
        self.encoder_name = encoder
        self.max_length = max_length
        self.stride = stride
        self.batch_tokens = batch_tokens
        self.unanswerable_share = unanswerable_share
        self.same_title_share = same_title_share
        self.empty_window_share = empty_window_share
        self.max_answer_tokens = max_answer_tokens
        self.max_windows = max_windows
        self.shares = {"val_share": val_share, "test_share": test_share}
        self.num_workers = num_workers
        self.seed = seed
        self.cache_dir = cache_dir
        self.sources: list[LoadedSource] = []
        self.splits: dict[str, list[Example]] = {}
        self._windows: dict[str, list[Windowed]] = {}

    def windows(self, split: str) -> list[Windowed]:
        """Return all windows of a split's questions; cut once."""
        if split not in self._windows:
            self._windows[split] = cut(self.splits[split], self.encoder)
        return self._windows[split]

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the questions; done once, whatever the stage."""
        if self.splits:
            return
        self.sources = [load_source(options, i, self.cache_dir) for i, options in enumerate(self.options)]
        check_names(source.name for source in self.sources)
        tokenizer, self.tokenizer_settings = load_tokenizer(self.encoder_name)
        self.encoder = TextEncoder(tokenizer, self.max_length, self.stride)
        self.splits = {name: [] for name in SPLITS}
        for source in self.sources:
            for name, part in self._split(source).items():
                self.splits[name] += part
        self._drop_leaks()
        for name in ("val", "test"):
            self.splits[name] += crossed(self.splits[name], 1.0, self.same_title_share, f"{self.seed}-{name}")

    def _split(self, source: LoadedSource) -> dict[str, list[Example]]:
        """Return split -> examples: stored splits stay, and whole titles or contexts of "train" go to val and test."""
        splits = {name: list(source.splits.get(name, ())) for name in SPLITS}
        options = source.options
        for name, own in (("test", options.test_share), ("val", options.val_share)):
            share = self.shares[f"{name}_share"] if own is None else own
            if splits[name] or not share or not splits["train"]:
                continue
            groups: dict[str, list[Example]] = defaultdict(list)
            for example in splits["train"]:
                groups[example.title if options.split_by == "title" else example.context].append(example)
            keys = sorted(groups)
            random.Random(f"{self.seed}-{name}").shuffle(keys)
            chosen = set(keys[: min(max(1, round(share * len(keys))), len(keys) - 1)])
            splits[name] = [e for key in keys if key in chosen for e in groups[key]]
            splits["train"] = [e for key in keys if key not in chosen for e in groups[key]]
        return splits

    def _drop_leaks(self) -> None:
        """Of a context that lies in two sets, leave out what would be trained on here and tested on there."""
        seen: dict[str, str] = {}
        for name in ("test", "val", "train"):
            for example in self.splits[name]:
                seen.setdefault(example.context, name)
            kept = [example for example in self.splits[name] if seen[example.context] == name]
            for example in self.splits[name]:
                if seen[example.context] != name:
                    line = f"{example.id}: its context is also in the {seen[example.context]} part"
                    self.sources[example.source].skipped.append(line)
            self.splits[name] = kept

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this epoch's batches; the trainer asks anew each epoch, and gets other crossings."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        if not self.splits["train"]:
            raise DataError("no question is left to train on: lower val_share and test_share or add questions.")
        if not self.splits["val"]:
            raise DataError("no question validates, so that no checkpoint could be chosen and no score calibrated: "
                            "raise val_share above 0, or add questions on other contexts.")  # fmt: skip
        key = f"{self.seed}-{epoch}"
        examples = self.splits["train"]
        examples = examples + crossed(examples, self.unanswerable_share, self.same_title_share, key)
        windows = self._learned_from(cut(examples, self.encoder), random.Random(key))
        return self._loader(windows, shuffle_key=key)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return all windows of the validation questions."""
        return self._loader(self.windows("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return all windows of the questions held back."""
        return self._loader(self.windows("test"))

    def _learned_from(self, windows: Sequence[Windowed], rng: random.Random) -> list[Windowed]:
        """Leave out most of the windows that are empty only because a long passage was cut."""
        return [
            window
            for window in windows
            if window.is_whole or window.start_token > 0 or rng.random() < self.empty_window_share
        ]

    def _loader(self, windows: Sequence[Windowed], shuffle_key: str | None = None) -> DataLoader[Batch]:
        batches = WindowBatches(windows, self.batch_tokens, shuffle_key)
        return DataLoader(
            cast("Dataset[Batch]", batches),  # as its items leave `collate`
            batch_size=None,
            shuffle=False,
            num_workers=self.num_workers,
            collate_fn=lambda items: collate(items, self.encoder),
            pin_memory=torch.cuda.is_available(),
        )


def crossed(examples: Sequence[Example], share: float, same_title_share: float, key: str) -> list[Example]:
    """Return questions asked of passages that do not hold their answers, with ids that end in "-crossed".

    Args:
        examples: answerable and other; only answerable ones are crossed, within their own set.
        share: how many of them.
        same_title_share: of these, how many get a passage of the same title, where it has one that does not hold an
            answer; the others get any passage of the set.
        key: fixes the choice.
    """
    rng = random.Random(f"crossed-{key}")
    contexts: dict[tuple[int, str | None], list[str]] = defaultdict(list)
    for source, context in dict.fromkeys((e.source, e.context) for e in examples):
        contexts[source, None].append(context)
    for source, title, text in dict.fromkeys((e.source, e.title, e.context) for e in examples):
        contexts[source, title].append(text)
    found = []
    for example in examples:
        if not example.is_answerable or rng.random() >= share:
            continue
        pools = [contexts[example.source, None]]
        if example.title and rng.random() < same_title_share:
            pools.insert(0, contexts[example.source, example.title])
        other = next((c for pool in pools if (c := _without_answer(example, pool, rng)) is not None), None)
        if other is not None:
            found.append(replace(example, id=f"{example.id}-crossed", context=other, texts=(), starts=()))
    return found


def _without_answer(example: Example, pool: Sequence[str], rng: random.Random, tries: int = 5) -> str | None:
    for _ in range(tries):
        context = rng.choice(pool)
        if context != example.context and not any(text in context for text in example.texts):
            return context
    return None
