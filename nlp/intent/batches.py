"""Utterances in batches of like length, padded to the longest: plain ones, and those of a training epoch.

Neighbour: `data` asks for them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from nlp.intent.sources import Example
from nlp.text import ATTENTION_MASK, INPUT_IDS, Encoding

if TYPE_CHECKING:
    from nlp.intent.data import IntentData

Batch = dict[str, torch.Tensor]
NAMES = (INPUT_IDS, ATTENTION_MASK)
SHUFFLED_TOGETHER = 32
"""Batches' worth of utterances that are sorted by length at a time; more pad less, fewer mix better."""
PLAIN_BATCH = 128


class PlainBatches(Dataset[Batch]):
    """Utterances as the service encodes them, of like length together.

    A batch is input_ids and attention_mask, int64 [N, T], target int64 [N] (-1 out of scope) and row int64 [N], the
    place among the examples.
    """

    def __init__(self, data: IntentData, examples: Sequence[Example]) -> None:
        self.data = data
        self.examples = examples
        self.encodings = data.encoder.encode_batch([example.text for example in examples])
        order = sorted(range(len(examples)), key=lambda i: len(self.encodings[i]))
        self.batches = [order[start : start + PLAIN_BATCH] for start in range(0, len(order), PLAIN_BATCH)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        rows = self.batches[index]
        arrays = self.data.encoder.batch([self.encodings[row] for row in rows], NAMES)
        return {
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
            "target": torch.tensor([self.data.target(self.examples[row]) for row in rows]),
            "row": torch.tensor(rows),
        }


class TrainingBatches(Dataset[Batch]):
    """An epoch's batches: intents first, then utterances that belong to none, some tokens hidden.

    Args:
        data: the utterances.
        key: fixes every choice.
    """

    def __init__(self, data: IntentData, key: str) -> None:
        self.data = data
        self.key = key
        self.examples = [example for example in data.splits["train"] if example.label is not None]
        self.encodings = data.encoder.encode_batch([example.text for example in self.examples])
        self.targets = [data.target(example) for example in self.examples]
        outside: dict[int, list[str]] = defaultdict(list)
        for example in data.splits["train"]:
            if example.label is None:
                outside[example.source].append(example.text)
        self.outside = [data.encoder.encode_batch(outside[source]) for source in sorted(outside)]
        rng = random.Random(f"order-{key}")
        self.batches = self._balanced(rng) if data.labels_per_batch else self._as_they_come(rng)
        rng.shuffle(self.batches)

    def _as_they_come(self, rng: random.Random) -> list[list[int]]:
        order = list(range(len(self.examples)))
        rng.shuffle(order)
        size = self.data.batch_size
        batches = []
        for start in range(0, len(order), size * SHUFFLED_TOGETHER):
            part = order[start : start + size * SHUFFLED_TOGETHER]
            part.sort(key=lambda i: len(self.encodings[i]))
            batches += [part[i : i + size] for i in range(0, len(part), size)]
        return batches

    def _balanced(self, rng: random.Random) -> list[list[int]]:
        """Return batches of `labels_per_batch` intents with equally many utterances each, as many as the epoch has."""
        of_label: dict[int, list[int]] = defaultdict(list)
        for i, target in enumerate(self.targets):
            of_label[target].append(i)
        each = max(1, self.data.batch_size // self.data.labels_per_batch)
        queues: dict[int, list[int]] = {label: [] for label in of_label}
        waiting: list[int] = []
        batches = []
        for _ in range(-(-len(self.examples) // self.data.batch_size)):
            batch: list[int] = []
            for _ in range(min(self.data.labels_per_batch, len(of_label))):
                if not waiting:
                    waiting = sorted(of_label)
                    rng.shuffle(waiting)
                label = waiting.pop()
                if len(queues[label]) < each:
                    fresh = list(of_label[label])
                    rng.shuffle(fresh)
                    queues[label] = fresh + queues[label]  # what is left comes first: it is taken from the end
                batch += [queues[label].pop() for _ in range(min(each, len(queues[label])))]
            batches.append(batch)
        return batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        rows = self.batches[index]
        rng = random.Random(f"batch-{self.key}-{index}")
        outside = [rng.choice(rng.choice(self.outside)) for _ in range(self._outside_count)]
        encodings: list[Encoding] = [self.encodings[row] for row in rows] + outside
        arrays = self.data.encoder.batch(encodings, NAMES)
        if self.data.mask_share:
            hidden = np.random.default_rng(rng.getrandbits(64)).random(arrays[INPUT_IDS].shape) < self.data.mask_share
            for row, encoding in enumerate(encodings):  # neither special tokens nor padding
                hidden[row, : len(encoding)] &= encoding.is_text
                hidden[row, len(encoding) :] = False
            arrays[INPUT_IDS][hidden] = self.data.mask_id
        return {
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
            "target": torch.tensor([self.targets[row] for row in rows] + [-1] * len(outside)),
        }

    @property
    def _outside_count(self) -> int:
        return self.data.out_of_scope_per_batch if self.outside else 0
