"""Whether an answer is right by somebody's word, and what several reviewers say together. Needs no database."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shared.labels import with_parents

NO_ANSWER = frozenset({"out_of_scope", "untagged", "unanswerable"})
"""Outcomes that give nothing."""


def is_right(row: Mapping[str, Any], said: Mapping[str, Any], parents: Mapping[str, Sequence[str]]) -> bool | None:
    """Return whether an answer is right by one person's word; None if that does not tell.

    Args:
        row: of the record: `outcome`, `labels`, and `answer`, which is None where its words were not kept.
        said: `labels` and `answer` of a review or of feedback, and of feedback `right`.
        parents: label -> the labels that it is a kind of, which need not be said.
    """
    if said.get("right") is not None:
        return bool(said["right"])
    if said["labels"] is not None:
        return with_parents(said["labels"], parents) == with_parents(row["labels"], parents)
    if said["answer"] is None:
        return None
    wanted, is_given = _words(said["answer"]), row["outcome"] not in NO_ANSWER
    if is_given != bool(wanted):
        return False
    if not is_given:
        return True
    return None if row["answer"] is None else _words(row["answer"]) == wanted


def opinion_of(review: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what a review says in a form that can be compared; None where it was set aside.

    >>> opinion_of({"labels": ["b", "a"], "answer": None}), opinion_of({"labels": None, "answer": "At nine. "})
    (('a', 'b'), ('at', 'nine'))
    """
    if review["labels"] is not None:
        return tuple(sorted(set(review["labels"])))
    return None if review["answer"] is None else tuple(_words(review["answer"]))


def agreed(reviews: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the review that more than half of those that say something agree with; None without such a majority."""
    told = [(each, opinion) for each in reviews if (opinion := opinion_of(each)) is not None]
    counts = Counter(opinion for _, opinion in told)
    best = [each for each, opinion in told if 2 * counts[opinion] > len(told)]
    return best[-1] if best else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
