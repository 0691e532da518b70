"""Divides groups of rows into splits: the shares hold, labels are shared out alike, and no group is divided."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

_ROUNDING = 1e-9
"""0.29 of 100 rows are 28.999999999999996 to a computer."""


def divide(groups: Sequence[Sequence[str]], shares: Mapping[str, float], rng: random.Random) -> list[str]:
    """Return the split of each group.

    Large groups go first, while there is room for them. Of groups of one size, those go first that fit into the whole
    rows that a split is due of each of their labels; what is left over is shared out so that the splits fill up.

    Args:
        groups: the label of each row of each group.
        shares: split -> its share of the rows; together they are 1.
        rng: which of the groups that are as good as one another goes where.

    >>> Counter(divide([[label] for label in "aaaabbbbcccc"], {"train": 0.75, "test": 0.25}, random.Random(0)))
    Counter({'train': 9, 'test': 3})
    """
    divided = _Divided(groups, shares)
    order = list(range(len(groups)))
    rng.shuffle(order)
    order.sort(key=lambda group: -len(groups[group]))
    for _, same in groupby(order, key=lambda group: len(groups[group])):
        left_over = []
        for group in same:
            fitting = divided.fitting(group)
            if fitting:
                divided.put(group, max(fitting, key=divided.lack))
            else:
                left_over.append(group)
        for group in left_over:
            divided.put(group, divided.best(group))
    divided.fill_empty(order)
    return divided.split_of


class _Divided:
    """What each split has so far, and what it lacks."""

    def __init__(self, groups: Sequence[Sequence[str]], shares: Mapping[str, float]) -> None:
        self.shares = dict(shares)
        self.counts = [Counter(labels) for labels in groups]
        self.sizes = [len(labels) for labels in groups]
        self.totals = Counter(label for labels in groups for label in labels)
        self.due = {split: share * sum(self.sizes) for split, share in shares.items()}
        self.rows = dict.fromkeys(shares, 0)
        self.filled: dict[str, Counter[str]] = {split: Counter() for split in shares}
        self.split_of = [""] * len(groups)

    def lack(self, split: str) -> float:
        """Return how many rows the split still lacks."""
        return self.due[split] - self.rows[split]

    def roomy(self, group: int) -> list[str]:
        """Return the splits that a group brings no further from their share than they are."""
        return [split for split in self.shares if self.lack(split) >= self.sizes[group] / 2]

    def fitting(self, group: int) -> list[str]:
        """Return the splits with room that are due all of the group's rows, label by label."""
        return [
            split
            for split in self.roomy(group)
            if all(
                self.filled[split][label] + count <= math.floor(self.shares[split] * self.totals[label] + _ROUNDING)
                for label, count in self.counts[group].items()
            )
        ]

    def best(self, group: int) -> str:
        """Return the split with room that lacks most rows and most of these labels; without room, the neediest."""
        roomy = self.roomy(group)
        if not roomy:
            return max(self.shares, key=self.lack)
        return max(roomy, key=lambda split: self.lack(split) * self._lacking_labels(split, group))

    def put(self, group: int, split: str) -> None:
        """Put a group into a split, out of the one that it was in."""
        before = self.split_of[group]
        if before:
            self.rows[before] -= self.sizes[group]
            self.filled[before].subtract(self.counts[group])
        self.rows[split] += self.sizes[group]
        self.filled[split].update(self.counts[group])
        self.split_of[group] = split

    def fill_empty(self, order: Sequence[int]) -> None:
        """Give each split that is due something a group, where another split has several."""
        for split, share in self.shares.items():
            if share <= 0 or self.rows[split]:
                continue
            has = Counter(self.split_of)
            spare = [group for group in order if has[self.split_of[group]] > 1]
            if spare:
                self.put(min(spare, key=self._loss), split)

    def _lacking_labels(self, split: str, group: int) -> float:
        """Return how many of the group's rows the split lacks of their labels; below 0 where it has too many."""
        return sum(
            min(float(count), self.shares[split] * self.totals[label] - self.filled[split][label])
            for label, count in self.counts[group].items()
        )

    def _loss(self, group: int) -> tuple[int, float, int]:
        """Return what a split loses with a group: rows, those that it lacks already, and the last ones of a label."""
        split = self.split_of[group]
        return self.sizes[group], self.lack(split), -min(self.filled[split][label] for label in self.counts[group])
