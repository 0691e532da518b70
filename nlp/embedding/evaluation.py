"""How well questions in other words find their own: ranks among the passages of their group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlp.embedding.sources import Example
from shared.training.metrics import DIGITS

RECALL_AT = (1, 5)


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Found:
    """What a network makes of questions in other words."""

    ranks: np.ndarray
    """int [N], from 1: the place of the own passage among those of the group, by cosine. Of equal ones it is the last,
    so that a network that tells nothing apart finds nothing."""
    first: np.ndarray
    """int [N]: the text that is nearest, a place in `Search.texts`."""
    cosines: np.ndarray
    """float [N]: of the nearest."""
    own: np.ndarray
    """float [N]: cosine of the own passage."""
    losses: np.ndarray
    """float [N]: cross-entropy of the own passage among those of the group."""


class Search:
    """Questions in other words, each with the passages among which it must find its own.

    Args:
        examples: what is asked.
        passages: group -> the passages of all its questions, each once.
    """

    def __init__(self, examples: Sequence[Example], passages: Mapping[tuple[int, str], Sequence[str]]) -> None:
        self.examples = list(examples)
        self._asked: dict[tuple[int, str], list[int]] = defaultdict(list)
        for place, example in enumerate(self.examples):
            self._asked[example.place].append(place)
        self.texts: list[str] = []
        """The passages of the groups that are asked, then what is asked."""
        self._starts: dict[tuple[int, str], int] = {}
        for group in self._asked:
            self._starts[group] = len(self.texts)
            self.texts += passages[group]
        self._passages = passages
        self.count = len(self.texts)
        """Of passages."""
        self.texts += [example.paraphrase for example in self.examples]

    def found(self, embeddings: np.ndarray, temperature: float = 0.05) -> Found:
        """Return what is found.

        Args:
            embeddings: float [len(texts), d], rows of length 1.
            temperature: divides the cosines, for the losses.
        """
        size = len(self.examples)
        found = Found(np.zeros(size, int), np.zeros(size, int), np.zeros(size), np.zeros(size), np.zeros(size))
        for group, asked in self._asked.items():
            rows = np.array(asked)
            start, own_passages = self._starts[group], self._passages[group]
            place = {text: i for i, text in enumerate(own_passages)}
            own = np.array([place[self.examples[i].passage] for i in asked])
            known = embeddings[start : start + len(own_passages)]
            cosines = embeddings[self.count + rows].astype(np.float64) @ known.astype(np.float64).T  # [n, M]
            right = cosines[np.arange(len(rows)), own]
            found.ranks[rows] = (cosines >= right[:, None]).sum(axis=1)
            found.first[rows] = start + cosines.argmax(axis=1)
            found.cosines[rows], found.own[rows] = cosines.max(axis=1), right
            found.losses[rows] = np.logaddexp.reduce(cosines / temperature, axis=1) - right / temperature
        return found


def summary(ranks: np.ndarray) -> dict[str, float]:
    """Return the mean reciprocal rank, and the shares of ranks that are at most 1 and 5.

    >>> summary(np.array([1, 2, 1, 10]))
    {'mrr': 0.65, 'recall_at_1': 0.5, 'recall_at_5': 0.75}
    """
    means = {"mrr": (1 / ranks).mean(), **{f"recall_at_{k}": (ranks <= k).mean() for k in RECALL_AT}}
    return {name: round(float(value), DIGITS) for name, value in means.items()}


def measured(examples: Sequence[Example], ranks: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of each set (`sources`), of all (`overall`), and of each group (`groups`), worst first.

    Args:
        examples: what was asked, at least one.
        ranks: int [N].
        names: of the sets.
    """

    def part(rows: Sequence[int]) -> dict[str, Any]:
        return {"examples": len(rows), **summary(ranks[np.array(rows)])}

    of_source: dict[str, list[int]] = {name: [] for name in names}
    of_group: dict[tuple[int, str], list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        of_source[names[example.source]].append(place)
        of_group[example.place].append(place)
    several = len({source for source, _ in of_group}) > 1
    groups = [{"group": f"{names[source]}: {group}" if several else group, **part(rows)}
              for (source, group), rows in of_group.items()]  # fmt: skip
    return {
        "sources": {name: part(rows) for name, rows in of_source.items() if rows},
        "overall": part(range(len(examples))),
        "groups": sorted(groups, key=lambda row: (row["recall_at_1"], row["group"])),
    }
