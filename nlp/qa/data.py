"""The Lightning data module of question answering: sets of questions in, batches of windows out.

Questions without an answer are made where a set has none, by crossing a question with another passage: one with the
same title where there is one, which is harder, else any. Every random choice follows from (seed, epoch, question).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nlp.encoders import MINILM, check_max_length, load_tokenizer
from nlp.qa.sources import Example, LoadedSource, Source, load_source
from nlp.qa.spans import NO_ANSWER
from nlp.qa.teaching import SUFFIX, Said, Teacher
from nlp.qa.windows import PAD_TO, WindowBatches, Windowed, cut
from nlp.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, TextEncoder
from shared.bundle.read import sha256_of
from shared.errors import ConfigError, DataError
from shared.sources.splits import SPLITS
from shared.training.data import TaskData, whole_groups

NAMES = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
TEACHER_FILE = f"teacher{SUFFIX}"
"""In the run's folder: what the teacher said."""
Batch = dict[str, torch.Tensor]


class AnswerData(TaskData):
    """Questions with passages.

    Args:
        source: a file in SQuAD's JSON, JSON lines or parquet, a folder of such files, the name of a Hugging Face
            dataset, or a list of such sets with their options.
        encoder: name or folder of the encoder whose tokenizer is used; the command line fills it in from the model.
        teacher: the folder of a bundle, or what one said in an earlier run; filled in from the model as well.
        teacher_temperature: divides what it says, as the model divides its own; filled in from the model as well.
        max_length: most tokens of a window, question included.
        stride: tokens that neighbouring windows of one passage share.
        batch_tokens: tokens in a step, padding included; windows of similar length go together.
        unanswerable_share: share of the training questions that are also asked of a passage that does not hold their
            answer; 0 for none. Sets that bring unanswerable questions keep them all.
        same_title_share: of the crossed passages, how many come from the same title, where it has others.
        empty_window_share: of the windows without the answer that a long passage is cut into, how many are trained on.
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
        encoder: str = MINILM,
        teacher: str | None = None,
        teacher_temperature: float = 1.0,
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
        options = [Source(source)] if isinstance(source, str) else source
        super().__init__(options, val_share=val_share, test_share=test_share, seed=seed, cache_dir=cache_dir)
        if not 0 <= stride < max_length // 2:
            raise ConfigError(f"stride must be from 0 to less than half of max_length {max_length}; came {stride}.")
        self.encoder_name = encoder
        self.max_length = max_length
        self.stride = stride
        self.batch_tokens = batch_tokens
        self.unanswerable_share = unanswerable_share
        self.same_title_share = same_title_share
        self.empty_window_share = empty_window_share
        self.max_answer_tokens = max_answer_tokens
        self.max_windows = max_windows
        self.num_workers = num_workers
        self.teacher = None if teacher is None else Teacher(teacher, torch.get_num_threads())
        self.teacher_temperature = teacher_temperature
        self._windows: dict[str, list[Windowed]] = {}

    def windows(self, split: str) -> list[Windowed]:
        """Return all windows of a split's questions; cut once."""
        if split not in self._windows:
            self._windows[split] = cut(self.splits[split], self.encoder)
        return self._windows[split]

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the questions, and load the tokenizer; done once, whatever the stage."""
        if hasattr(self, "encoder"):
            return
        self.read()
        check_max_length(self.encoder_name, self.max_length)
        tokenizer, self.tokenizer_settings = load_tokenizer(self.encoder_name)
        self.encoder = TextEncoder(tokenizer, self.max_length, self.stride)

    def load(self, options: Source, index: int) -> LoadedSource:
        """Return a set, read and checked."""
        return load_source(options, index, self.cache_dir)

    def digest(self, example: Example) -> str:
        """Return the digest of the context: a model that has read it knows it, whatever it was asked."""
        return sha256_of(example.context.encode())

    def settle(self) -> None:
        """Drop contexts that several splits share, and ask the held-out questions of other contexts too."""
        self.drop_leaks(lambda e: e.context, lambda e, kept: f"{e.id}: its context is also in the {kept} part")
        for name in ("val", "test"):
            self.splits[name] += crossed(self.splits[name], 1.0, self.same_title_share, f"{self.seed}-{name}")

    def ties(self, example: Example) -> Sequence[str]:
        """Return the title or context of a question: it stays whole."""
        together = attrgetter(self.sources[example.source].options.split_by)(example)
        return (f"{example.source} {together}",)

    def divide(self, source: LoadedSource) -> dict[str, list[Example]]:
        """Return split -> examples: stored splits stay, and whole titles or contexts of "train" go to val and test."""
        splits = {name: list(source.splits.get(name, ())) for name in SPLITS}
        options = source.options
        for name, own in (("test", options.test_share), ("val", options.val_share)):
            share = self.shares[f"{name}_share"] if own is None else own
            if splits[name] or not share or not splits["train"]:
                continue
            rng = random.Random(f"{self.seed}-{name}")
            splits[name], splits["train"] = whole_groups(splits["train"], attrgetter(options.split_by), share, rng)
        return splits

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this epoch's batches; the trainer asks again each epoch, and gets other crossings."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        if not self.splits["train"]:
            raise DataError("no question is left to train on: lower val_share and test_share or add questions.")
        if not self.splits["val"]:
            raise DataError("no question validates, so that no checkpoint could be chosen and no score calibrated: "
                            "raise val_share above 0, or add questions on other contexts.")  # fmt: skip
        key = f"{self.seed}-{epoch}"
        examples = self._drawn(key)
        if self.teacher is not None:
            folder = Path(self.trainer.default_root_dir) if self.trainer else None
            self.teacher.ask(self.splits["train"], kept=folder / TEACHER_FILE if folder else None)
        examples = examples + crossed(examples, self.unanswerable_share, self.same_title_share, key)
        windows = self._learned_from(cut(examples, self.encoder), random.Random(key))
        teacher = self.teacher
        return self._loader(windows, key, None if teacher is None else [teacher.of(example) for example in examples])

    def _drawn(self, key: str) -> list[Example]:
        """Return an epoch's questions: of each set as many as it is to give."""
        shares = [source.options.epoch_share for source in self.sources]
        rng = random.Random(f"drawn-{key}")
        return [example for example in self.splits["train"] if rng.random() < shares[example.source]]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return all windows of the validation questions."""
        return self._loader(self.windows("val"))

    def _learned_from(self, windows: Sequence[Windowed], rng: random.Random) -> list[Windowed]:
        """Leave out most of the windows that have no answer only because a long passage was cut."""
        return [
            window
            for window in windows
            if window.is_whole or window.start_token > 0 or rng.random() < self.empty_window_share
        ]

    def _loader(
        self, windows: Sequence[Windowed], shuffle_key: str | None = None, said: Sequence[Said | None] | None = None
    ) -> DataLoader[Batch]:
        batches = WindowBatches(windows, self.batch_tokens, shuffle_key)

        def collated(items: list[Windowed]) -> Batch:
            batch = collate(items, self.encoder)
            return batch if said is None else batch | self._taught(items, said, batch[INPUT_IDS].shape[1])

        return DataLoader(
            cast("Dataset[Batch]", batches),  # as its items leave `collate`
            batch_size=None,
            shuffle=False,
            num_workers=self.num_workers,
            collate_fn=collated,
            pin_memory=torch.cuda.is_available(),
        )

    def _taught(self, windows: Sequence[Windowed], said: Sequence[Said | None], length: int) -> Batch:
        """Return `teacher_targets`, float32 [N, 2, T] (start, end), and `is_taught`, bool [N]: where there are any."""
        targets = np.zeros((len(windows), 2, length), dtype=np.float32)
        is_taught = np.zeros(len(windows), dtype=bool)
        for row, window in enumerate(windows):
            found = said[window.example]
            if found is not None:
                targets[row, :, : len(window.encoding)] = found.targets(window.encoding, self.teacher_temperature)
                is_taught[row] = True
        return {"teacher_targets": torch.from_numpy(targets), "is_taught": torch.from_numpy(is_taught)}


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


def collate(windows: Sequence[Windowed], encoder: TextEncoder) -> Batch:
    """Return int64 tensors: the network's inputs [N, T], start_positions and end_positions [N], window [N].

    `context_mask`, bool [N, T], marks what an answer may start and end at: the context's tokens and `NO_ANSWER`.
    `window` is each one's place among those that were cut together.
    """
    arrays = encoder.batch([window.encoding for window in windows], NAMES, multiple=PAD_TO)
    mask = np.zeros(arrays[INPUT_IDS].shape, dtype=bool)
    for row, window in enumerate(windows):
        mask[row, : len(window.encoding)] = window.encoding.is_text
    mask[:, NO_ANSWER] = True
    return {
        **{name: torch.from_numpy(array) for name, array in arrays.items()},
        "window": torch.tensor([window.index for window in windows]),
        "context_mask": torch.from_numpy(mask),
        "start_positions": torch.tensor([window.start_token for window in windows]),
        "end_positions": torch.tensor([window.end_token for window in windows]),
    }
