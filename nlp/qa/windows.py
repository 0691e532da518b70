"""Questions with passages as windows of tokens: where the answer is in each, and which windows go together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from nlp.qa.sources import Example
from nlp.qa.spans import NO_ANSWER
from nlp.text import Encoding, TextEncoder

PAD_TO = 16
"""Lengths are multiples of it: fewer shapes, and matrices that suit the processor."""
SHUFFLED_TOGETHER = 64
"""So many batches' worth of windows are sorted by length at a time; more pad less, fewer mix better."""


@dataclass(frozen=True, eq=False)
class Windowed:
    """One window of one question."""

    index: int
    """Its place among all windows that were cut together."""
    example: int
    """Place of its question among those that were cut."""
    encoding: Encoding
    start_token: int
    """First token of the answer; `NO_ANSWER` where this window does not hold it whole."""
    end_token: int
    """Last token of the answer, inclusive."""
    is_whole: bool
    """Whether this window has the whole context."""


def cut(examples: Sequence[Example], encoder: TextEncoder, max_windows: int | None = None) -> list[Windowed]:
    """Return all windows of all questions, or the first few of each, in their order."""
    found: list[Windowed] = []
    for index, example in enumerate(examples):
        windows = encoder.windows(example.question, example.context)
        for window in windows[:max_windows]:
            start, end = answer_tokens(window, example)
            found.append(Windowed(len(found), index, window, start, end, len(windows) == 1))
    return found


def answer_tokens(window: Encoding, example: Example) -> tuple[int, int]:
    """Return first and last token of the answer that most people gave; twice `NO_ANSWER` where the window cuts it."""
    if not example.is_answerable:
        return NO_ANSWER, NO_ANSWER
    (first_character, text), _ = Counter(zip(example.starts, example.texts, strict=True)).most_common(1)[0]
    behind = first_character + len(text.rstrip())  # blanks have no token
    tokens = np.flatnonzero(window.is_text)
    if not len(tokens):
        return NO_ANSWER, NO_ANSWER
    starts, ends = window.offsets[tokens, 0], window.offsets[tokens, 1]
    covered = np.flatnonzero((ends > first_character) & (starts < behind))
    if not len(covered) or starts[covered[0]] > first_character or ends[covered[-1]] < behind:
        return NO_ANSWER, NO_ANSWER
    return int(tokens[covered[0]]), int(tokens[covered[-1]])


def sample_batches(
    examples: Sequence[Example], encoder: TextEncoder, names: Sequence[str], *, count: int = 64, batch_size: int = 4
) -> list[dict[str, np.ndarray]]:
    """Return int64 [batch_size, T] by name: the first windows of so many questions, spread evenly over them."""
    chosen = examples[:: max(1, len(examples) // count)][:count]
    windows = sorted((encoder.windows(each.question, each.context)[0] for each in chosen), key=len)
    return [encoder.batch(windows[start : start + batch_size], names) for start in range(0, len(windows), batch_size)]


class WindowBatches(Dataset[list[Windowed]]):
    """Windows in batches of about as many tokens, padding included.

    Args:
        windows: all of them.
        batch_tokens: most tokens of a batch; a longer window has a batch of its own.
        shuffle_key: None keeps long ones to the end; otherwise it fixes the order.
    """

    def __init__(self, windows: Sequence[Windowed], batch_tokens: int, shuffle_key: str | None = None) -> None:
        self.windows = windows
        order = list(range(len(windows)))
        chunk = len(order)
        if shuffle_key is not None:
            rng = random.Random(f"order-{shuffle_key}")
            rng.shuffle(order)
            mean = sum(len(window.encoding) for window in windows) / max(1, len(windows))
            chunk = max(1, int(SHUFFLED_TOGETHER * batch_tokens / max(1.0, mean)))
        self.batches: list[list[int]] = []
        for start in range(0, len(order), max(1, chunk)):
            part = sorted(order[start : start + chunk], key=lambda i: len(windows[i].encoding))
            self.batches += self._grouped(part, batch_tokens)
        if shuffle_key is not None:
            rng.shuffle(self.batches)

    def _grouped(self, order: Sequence[int], batch_tokens: int) -> list[list[int]]:
        batches: list[list[int]] = []
        for index in order:
            length = -(-len(self.windows[index].encoding) // PAD_TO) * PAD_TO
            if not batches or (len(batches[-1]) + 1) * length > batch_tokens:
                batches.append([])
            batches[-1].append(index)
        return batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Windowed]:
        return [self.windows[i] for i in self.batches[index]]
