"""Start and end logits to the best places in the context: joint, exact, n-best, over windows. numpy only.

transformers 5.3 dropped its question-answering pipeline, which did this; tests compare this one with a reference that
tries every pair.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nlp.text import Encoding, whole_characters, whole_words

NO_ANSWER = 0
"""The token whose start and end logits mean no answer: the first, [CLS]."""


@dataclass(frozen=True)
class Span:
    """A candidate answer: a place in the context."""

    start: int
    end: int
    """Characters; `context[start:end]` is the answer."""
    margin: float
    """Its start and end logits minus those of no answer in its window: the log-odds of the two."""
    window: int
    """The window with the best score for it."""


def best_spans(
    context: str,
    windows: Sequence[Encoding],
    start_logits: Sequence[np.ndarray],
    end_logits: Sequence[np.ndarray],
    *,
    max_answer_tokens: int,
    top_k: int = 1,
) -> list[Span]:
    """Return the spans with the largest margins, best first, no place twice; none if the context has no token.

    Args:
        context: what the windows were made of.
        windows: from `TextEncoder.windows`.
        start_logits: float [T] per window; values after the window's length are ignored.
        end_logits: the same for ends.
        max_answer_tokens: longer spans are no candidates.
        top_k: at most this many.

    Source: Devlin et al. 2019, "BERT", section 4.3: span score s_i + e_j with j >= i, against s_[CLS] + e_[CLS].
    """
    found: dict[tuple[int, int], Span] = {}
    for index, window in enumerate(windows):
        for start, end, margin in _of_window(
            window, start_logits[index], end_logits[index], max_answer_tokens=max_answer_tokens, top_k=top_k
        ):
            place = whole_characters(context, start, end)
            if place not in found or margin > found[place].margin:
                found[place] = Span(*place, margin=margin, window=index)
    return sorted(found.values(), key=lambda span: (-span.margin, span.start, span.end))[:top_k]


CANDIDATES = 20
"""Spans that are looked at besides two for each answer that is wanted: many are pieces of one another."""


def whole_answers(question: str, context: str, spans: Sequence[Span], top_k: int) -> list[Span]:
    """Return distinct answers, best first: whole words, none inside another, none that only repeats the question.

    Args:
        question: its own words are no answer, unless it offers them as a choice.
        context: where the spans are.
        spans: candidates, the best first, as `best_spans` returns them.
        top_k: at most this many.
    """
    asked = _words(question)
    is_choice = " or " in f" {' '.join(asked)} "
    found: list[Span] = []
    taken: list[tuple[int, int]] = []  # sorted; none overlaps another
    for span in spans:
        start, end = whole_words(context, span.start, span.end)
        place = bisect(taken, (start, end))
        overlaps = any(start < last and first < end for first, last in taken[max(0, place - 1) : place + 1])
        if overlaps or not any(map(str.isalnum, context[start:end])):
            continue
        if not is_choice and _repeats(_words(context[start:end]), asked):
            continue
        found.append(replace(span, start=start, end=end))
        taken.insert(place, (start, end))
        if len(found) == top_k:
            break
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _repeats(words: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether two or more words stand in the question, side by side."""
    length = len(words)
    return length > 1 and any(list(asked[place : place + length]) == list(words) for place in range(len(asked)))


def _of_window(
    window: Encoding, start_logits: np.ndarray, end_logits: np.ndarray, *, max_answer_tokens: int, top_k: int
) -> list[tuple[int, int, float]]:
    """Return (start, end, margin) in characters of the window's best pairs of tokens."""
    tokens = np.flatnonzero(window.is_text)
    if not len(tokens):
        return []
    starts = start_logits[tokens].astype(np.float64)
    ends = end_logits[tokens].astype(np.float64)
    no_answer = float(start_logits[NO_ANSWER]) + float(end_logits[NO_ANSWER])
    # Row d holds the spans of d + 1 tokens: s_i + e_(i+d), [D, T]
    longest = min(max_answer_tokens, len(tokens))
    table = np.full((longest, len(tokens)), -np.inf)
    for extra in range(longest):
        table[extra, : len(tokens) - extra] = starts[: len(tokens) - extra] + ends[extra:]
    flat = table.ravel()
    count = min(2 * top_k, flat.size)  # some may share a place, and empty ones drop out
    best = np.argpartition(-flat, count - 1)[:count]
    spans = []
    for place in best[np.argsort(-flat[best], kind="stable")]:
        extra, first = divmod(int(place), len(tokens))
        if not np.isfinite(flat[place]):
            continue
        start = int(window.offsets[tokens[first], 0])
        end = int(window.offsets[tokens[first + extra], 1])
        if end > start:
            spans.append((start, end, float(flat[place]) - no_answer))
    return spans
