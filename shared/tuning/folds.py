"""Cross-validation: what trains and validates is divided into parts, each of which validates once.

The test split takes no part in it. Labels are shared out alike, and what is tied together stays together: copies and
near-copies, the questions about one text, what one person said.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from shared.dataset.splitting import divide
from shared.errors import ConfigError, DataError
from shared.training.data import TaskData

VALIDATES, TRAINS = "val", "train"
MOST = 20
"""Folds; each is a training."""


@dataclass(frozen=True)
class Fold:
    """One of several divisions of the same examples."""

    number: int
    """From 0."""
    count: int

    def __post_init__(self) -> None:
        if not 2 <= self.count <= MOST:
            raise ConfigError(f"folds must be from 2 to {MOST}; came {self.count}.")


def folded(data: type[TaskData], fold: Fold, tied: Sequence[tuple[str, str]] = ()) -> type[TaskData]:
    """Return the data module whose validation split is this fold; all others train.

    Args:
        data: the task's own.
        fold: which part validates.
        tied: digests of pairs of examples that stay in one fold too, such as near-copies of photos.
    """

    def arrange(self: Any) -> None:
        examples = [*self.splits["train"], *self.splits["val"]]
        numbers = fold_numbers(self, examples, fold.count, tied)
        self.splits["val"] = [e for e, number in zip(examples, numbers, strict=True) if number == fold.number]
        self.splits["train"] = [e for e, number in zip(examples, numbers, strict=True) if number != fold.number]

    return type(f"{data.__name__}Fold", (data,), {"arrange": arrange, "__doc__": data.__doc__})


def fold_numbers(
    data: TaskData, examples: Sequence[Any], count: int, tied: Sequence[tuple[str, str]] = ()
) -> list[int]:
    """Return the fold of each example.

    Args:
        data: says what ties examples together, and which labels they have; its seed decides the rest.
        examples: what is divided.
        count: folds.
        tied: digests of further pairs that stay together.

    Raises:
        DataError: there are fewer groups than folds.
    """
    groups = _groups(data, examples, count, tied)
    if len(groups) < count:
        raise DataError(f"{len(groups)} groups of examples cannot be divided into {count} folds, because what is alike "
                        "stays together. Give more data, or fewer folds.")  # fmt: skip
    frequency: dict[str, int] = defaultdict(int)
    for example in examples:
        for label in data.strata(example):
            frequency[label] += 1
    labels = [min(data.strata(e), key=lambda label: (frequency[label], label), default="") for e in examples]
    shares = {str(number): 1 / count for number in range(count)}
    rng = random.Random(f"{data.seed}-folds")
    divided = divide([[labels[place] for place in group] for group in groups], shares, rng)
    numbers = [0] * len(examples)
    for group, number in zip(groups, divided, strict=True):
        for place in group:
            numbers[place] = int(number)
    return numbers


def _groups(data: TaskData, examples: Sequence[Any], count: int, tied: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Return the places of the examples that stay together, in the order of their first ones.

    Near-copies that are more than a fold's share of a label do not: other folds would have too little of it.
    """
    parent = list(range(len(examples)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first: dict[str, int] = {}
    for place, example in enumerate(examples):
        for tie in data.ties(example):
            parent[root(place)] = root(first.setdefault(tie, place))
    labels = [tuple(data.strata(example)) for example in examples]
    sizes = Counter(label for each in labels for label in each)
    near: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        key = data.nearly(example)
        if key is not None:
            near[key].append(place)
    for places in near.values():
        held = Counter(label for place in places for label in labels[place])
        if all(number <= max(1, sizes[label] / count) for label, number in held.items()):
            for place in places:
                parent[root(place)] = root(places[0])
    if tied:
        of_digest: Mapping[str, int] = {data.digest(example): place for place, example in enumerate(examples)}
        for one, other in tied:
            if one in of_digest and other in of_digest:
                parent[root(of_digest[one])] = root(of_digest[other])
    found: dict[int, list[int]] = defaultdict(list)
    for place in range(len(examples)):
        found[root(place)].append(place)
    return list(found.values())


def alike_photos(data: TaskData) -> list[tuple[str, str]]:
    """Return the digests of pairs of training and validation photos that are nearly the same; none for other data."""
    examples = [*data.splits["train"], *data.splits["val"]]
    if not examples or data.photo(examples[0]) is None:
        return []
    from shared.exploring.photos import SMALL_SIDE, Album, look, nearly_same  # it brings processes of its own

    digests, looked = [], []
    for example in tqdm(examples, desc="looking for near-copies", unit="photo"):
        found = look(data.photo(example) or b"")
        if not isinstance(found, str):
            digests.append(data.digest(example))
            looked.append(found)
    album = Album.of(looked)
    small = album.colours.reshape(len(looked), SMALL_SIDE**2 * 3).astype("float32")
    features = small - small.mean(axis=1, keepdims=True)
    return [(digests[one], digests[other]) for one, other, _ in nearly_same(album, features)]
