"""The Lightning data module of sentence encoders: questions with their answers and other words for them in, pairs out.

Every random choice follows from (seed, epoch, place), so that a resumed run sees what the uninterrupted one would have.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nlp.embedding.evaluation import Search
from nlp.embedding.packing import INPUTS, max_length_of
from nlp.embedding.sources import Example, LoadedSource, Source, load_source
from nlp.encoders import MINILM, load_config, load_tokenizer
from nlp.text import ATTENTION_MASK, INPUT_IDS, TextEncoder
from shared.bundle.read import sha256_of
from shared.errors import ConfigError, DataError
from shared.sources.splits import GUARDED, SPLITS
from shared.sources.tables import normalised
from shared.training.data import TaskData, whole_groups

Batch = dict[str, torch.Tensor]
T = TypeVar("T")
POSITIVE_IDS, POSITIVE_MASK = "positive_ids", "positive_mask"
ALIKE = "alike"
ANCHOR_START, POSITIVE_START = "anchor_start", "positive_start"
PLAIN_BATCH = 64
SPLIT_PARTS = 3
"""Groups that a set must have so that whole ones can validate and test: fewer leave nothing to train on."""


@dataclass(frozen=True)
class Pair:
    """A question in other words with all that it may be paired with; texts are places in `PairData.texts`."""

    anchor: int
    question: int
    passage: int
    others: tuple[int, ...]
    """The same question in still other words."""


class PairData(TaskData):
    """Questions with their answers, and other words in which people ask them.

    Args:
        source: a CSV, JSON lines or parquet file with `question`, `answer`, `paraphrases` (a list of texts) or
            `paraphrase` (one text in each row), and `group` where there are several FAQs; a folder of such files; the
            name of a Hugging Face dataset; or a list of such sets with their options.
        encoder: name or folder of the encoder whose tokenizer is used; the command line fills it in from the model.
        max_length: most tokens of a text, in training and in the bundle; as many as the encoder says if not given.
        batch_size: pairs in a step. Each is told from the others of its step, so that more pairs teach more.
        groups_per_batch: so many groups share a step, half of it each if there are two: neighbouring questions of one
            FAQ are the ones that are hard to tell apart.
        passage_share: how often a question in other words is paired with question and answer together, as the knowledge
            base embeds them.
        question_share: how often it is paired with the question alone. Otherwise it is paired with still other words.
        val_share: share of the groups that validates, where a set brings no validation split; without groups, or with
            fewer than three, of the questions.
        test_share: share held back for the final test, where a set brings no test split.
        seed: fixes splits, order and pairs.
        cache_dir: where `datasets` keeps its tables; its own default if not given.
    """

    def __init__(
        self,
        source: str | list[Source],
        encoder: str = MINILM,
        max_length: int | None = None,
        batch_size: int = 64,
        groups_per_batch: int = 2,
        passage_share: float = 0.5,
        question_share: float = 0.25,
        val_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 42,
        cache_dir: str | None = None,
    ) -> None:
        options = [Source(source)] if isinstance(source, str) else source
        super().__init__(options, val_share=val_share, test_share=test_share, seed=seed, cache_dir=cache_dir)
        if not 1 <= groups_per_batch <= batch_size // 2:
            raise ConfigError(
                "groups_per_batch must be from 1 to half of batch_size, so that at least two pairs of a group meet; "
                f"came {groups_per_batch} and {batch_size}."
            )
        if passage_share < 0 or question_share < 0 or not 0 < passage_share + question_share <= 1:
            raise ConfigError(
                "passage_share and question_share must add up to more than 0 and at most 1; came "
                f"{passage_share} + {question_share}."
            )
        if max_length is not None and max_length < 8:
            raise ConfigError(f"max_length must be 8 or more; came {max_length}.")
        self.encoder_name = encoder
        self.max_length = max_length
        self.batch_size = batch_size
        self.groups_per_batch = groups_per_batch
        self.passage_share = passage_share
        self.question_share = question_share
        self.passages: dict[tuple[int, str], list[str]] = {}
        """Group -> the passages of all its questions, in whatever split they are: a user's FAQ has them all."""
        self.found_before: dict[Example, bool] = {}
        """Held-out example -> whether the encoder found it first before it was trained; the module fills it in."""
        self.start_embeddings: np.ndarray | None = None
        """float32 [len(texts), d]: what the encoder made of the training texts before; if the module keeps near it."""

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the questions, and load the tokenizer; done once, whatever the stage."""
        if hasattr(self, "encoder"):
            return
        self.read()
        tokenizer, self.tokenizer_settings = load_tokenizer(self.encoder_name)
        length = self.max_length or max_length_of(self.encoder_name, load_config(self.encoder_name))
        self.encoder = TextEncoder(tokenizer, length)
        self._number_texts()

    def load(self, options: Source, index: int) -> LoadedSource:
        """Return a set, read and checked."""
        return load_source(options, index, self.cache_dir)

    def digest(self, example: Example) -> str:
        """Return the digest of the words that find the question, whatever their case and spaces."""
        return sha256_of(normalised(example.paraphrase).encode())

    def divide(self, source: LoadedSource) -> dict[str, list[Example]]:
        """Return split -> examples: stored splits stay; whole groups or questions of "train" go to the others."""
        splits = {name: list(source.splits.get(name, ())) for name in SPLITS}
        groups = {example.group for example in splits["train"]}
        if source.has_groups and 1 < len(groups) < SPLIT_PARTS:
            source.notes.append(f"{len(groups)} groups are too few to hold whole ones back: questions are divided")
        whole: Callable[[Example], str] = attrgetter("group" if len(groups) >= SPLIT_PARTS else "question")
        for name in ("test", "val"):
            share = self.shares[f"{name}_share"]
            if splits[name] or not share or not splits["train"]:
                continue
            rng = random.Random(f"{self.seed}-{name}")
            splits[name], splits["train"] = whole_groups(splits["train"], whole, share, rng)
        return splits

    def settle(self) -> None:
        """Keep a text that several splits share in the most guarded one alone, and list the passages of each group."""
        for source in self.sources:
            for example in source.examples:
                texts = self.passages.setdefault(example.place, [])
                if example.passage not in texts[-1:] and example.passage not in texts:
                    texts.append(example.passage)
        seen: dict[str, str] = {}
        for name in GUARDED:
            kept = []
            for example in self.splits[name]:
                texts = [normalised(example.question), normalised(example.paraphrase)]
                elsewhere = next((seen[text] for text in texts if seen.get(text, name) != name), None)
                if elsewhere is None:
                    kept.append(example)
                else:
                    line = f"{name}: {example.paraphrase!r} for {example.question!r}: a text is also in {elsewhere}"
                    self.sources[example.source].skip(f"also in {elsewhere}", line)
            for example in kept:
                seen.update(dict.fromkeys((normalised(example.question), normalised(example.paraphrase)), name))
            self.splits[name] = kept

    def _number_texts(self) -> None:
        """Give each training text a number, and make the pairs of them."""
        numbers: dict[str, int] = {}

        def number(text: str) -> int:
            return numbers.setdefault(text, len(numbers))

        together: dict[tuple[int, str, str], list[int]] = defaultdict(list)
        train = self.splits["train"]
        for example in train:
            together[(*example.place, normalised(example.question))].append(number(example.paraphrase))
        self.pairs: list[Pair] = []
        for example in train:
            own = number(example.paraphrase)
            others = together[(*example.place, normalised(example.question))]
            self.pairs.append(
                Pair(own, number(example.question), number(example.passage), tuple(i for i in others if i != own))
            )
        self.texts = list(numbers)
        """What is embedded in training, each once."""
        self.encodings = self.encoder.encode_batch(self.texts)
        alike: dict[str, int] = {}
        self.same = [alike.setdefault(normalised(text), len(alike)) for text in self.texts]
        """For each text a number that it shares with those that only differ in case, spaces and the mark at the end."""

    def search(self, examples: Sequence[Example]) -> Search:
        """Return the examples with the passages among which each must find its own."""
        return Search(examples, self.passages)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this epoch's batches; the trainer asks again each epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        if len({pair.question for pair in self.pairs}) < 2:
            raise DataError("fewer than two questions are left to train on, and nothing can be told apart: lower "
                            "val_share and test_share or add questions.")  # fmt: skip
        if not self.splits["val"]:
            raise DataError("no question validates, so that no checkpoint could be chosen: raise val_share above 0, or "
                            "add groups.")  # fmt: skip
        return _loader(TrainingBatches(self, f"{self.seed}-{epoch}"))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the texts of `search(splits["val"])`, as the service would encode them."""
        return _loader(TextBatches(self.encoder, self.search(self.splits["val"]).texts))


class TextBatches(Dataset[Batch]):
    """Texts as the service encodes them, of like length together.

    A batch is input_ids and attention_mask, int64 [N, T], and row int64 [N], the place among the texts.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        self.encoder = encoder
        self.encodings = encoder.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda i: len(self.encodings[i]))
        self.batches = [order[start : start + PLAIN_BATCH] for start in range(0, len(order), PLAIN_BATCH)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        rows = self.batches[index]
        arrays = self.encoder.batch([self.encodings[row] for row in rows], INPUTS)
        return {**{name: torch.from_numpy(array) for name, array in arrays.items()}, "row": torch.tensor(rows)}


class TrainingBatches(Dataset[Batch]):
    """An epoch's batches: each question in other words once, neighbours side by side, with a text that means the same.

    A batch is input_ids and attention_mask of the questions in other words, int64 [N, T]; positive_ids and
    positive_mask of what each is paired with, int64 [N, S]; and alike, bool [N, N], whether two pairs share a text and
    are not told apart. Where the start is kept, anchor_start and positive_start are what the encoder made of both
    before, float32 [N, d].

    Args:
        data: the pairs.
        key: fixes every choice.
    """

    def __init__(self, data: PairData, key: str) -> None:
        self.data = data
        self.key = key
        rng = random.Random(f"order-{key}")
        size = data.batch_size // data.groups_per_batch
        pieces = [piece for rows in self._of_groups().values() for piece in _pieces(rows, size, rng)]
        rng.shuffle(pieces)
        count = -(-len(pieces) // data.groups_per_batch)
        self.batches = [[row for piece in part for row in piece] for part in _evenly(pieces, count)]

    def _of_groups(self) -> dict[tuple[int, str], list[list[int]]]:
        """Return group -> a list for each of its questions, with the places of its pairs."""
        found: dict[tuple[int, str], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row, (pair, example) in enumerate(zip(self.data.pairs, self.data.splits["train"], strict=True)):
            found[example.place][self.data.same[pair.question]].append(row)
        return {group: list(questions.values()) for group, questions in found.items()}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        data, rows = self.data, self.batches[index]
        pairs = [data.pairs[row] for row in rows]
        positives = [self._positive(row) for row in rows]
        anchors = self._encoded([pair.anchor for pair in pairs])
        others = self._encoded(positives)
        batch = {
            **anchors,
            POSITIVE_IDS: others[INPUT_IDS],
            POSITIVE_MASK: others[ATTENTION_MASK],
            ALIKE: torch.from_numpy(self._alike(pairs, positives)),
        }
        if data.start_embeddings is not None:
            batch[ANCHOR_START] = torch.from_numpy(data.start_embeddings[[pair.anchor for pair in pairs]])
            batch[POSITIVE_START] = torch.from_numpy(data.start_embeddings[positives])
        return batch

    def _positive(self, row: int) -> int:
        """Return the text that a pair is made with."""
        pair, rng = self.data.pairs[row], random.Random(f"positive-{self.key}-{row}")
        drawn, passage, question = rng.random(), self.data.passage_share, self.data.question_share
        if not pair.others:
            drawn *= passage + question
        if drawn < passage:
            return pair.passage
        return pair.question if drawn < passage + question else rng.choice(pair.others)

    def _alike(self, pairs: Sequence[Pair], positives: Sequence[int]) -> np.ndarray:
        same = self.data.same
        texts = [{same[p.anchor], same[p.question], same[other]} for p, other in zip(pairs, positives, strict=True)]
        return np.array([[not one.isdisjoint(other) for other in texts] for one in texts])

    def _encoded(self, places: Sequence[int]) -> Mapping[str, torch.Tensor]:
        arrays = self.data.encoder.batch([self.data.encodings[i] for i in places], INPUTS)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _pieces(questions: Sequence[Sequence[int]], size: int, rng: random.Random) -> list[list[int]]:
    """Return the pairs of a group in pieces of at most `size`, as many different questions in each as there are."""
    drawn = [rng.sample(rows, len(rows)) for rows in questions]
    order: list[int] = []
    for turn in range(max(map(len, drawn))):
        order += rng.sample(having := [rows[turn] for rows in drawn if len(rows) > turn], len(having))
    return _evenly(order, -(-len(order) // size))


def _evenly(items: Sequence[T], count: int) -> list[list[T]]:
    """Return the items in so many parts, none of which has two more than another.

    >>> _evenly("abcdefg", 3)
    [['a', 'b'], ['c', 'd'], ['e', 'f', 'g']]
    """
    bounds = [len(items) * part // count for part in range(count + 1)]
    return [list(items[start:end]) for start, end in pairwise(bounds)]


def _loader(batches: TrainingBatches | TextBatches) -> DataLoader[Batch]:
    return DataLoader(batches, batch_size=None, shuffle=False, pin_memory=torch.cuda.is_available())
