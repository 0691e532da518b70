"""What texts have in common: words, length, near-duplicates, contradictions."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from shared.sources.tables import normalised

ALIKE = 0.7
"""Share of two texts' letter triples that both have, from which they are nearly the same."""
MEANING = 0.85
"""Cosine of their features, below which two texts are not compared letter by letter."""
_WORD = re.compile(r"\w[\w'’-]*")
_PRIOR = 100.0
"""Words that every label is thought to have besides its own, shared out as in all texts."""


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case."""
    return [word.casefold() for word in _WORD.findall(text)]


def same(texts: Sequence[str | None]) -> Iterator[list[int]]:
    """Yield the row numbers of texts that are the same but for case, blanks and punctuation at the end."""
    rows: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        if text is not None and (key := normalised(text)):
            rows[key].append(number)
    yield from (found for found in rows.values() if len(found) > 1)


def nearly_same(texts: Sequence[str | None], rows: np.ndarray, cosines: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yield (row, row, likeness) of texts that differ by little, each pair once.

    Args:
        texts: as they are.
        rows: int64 [N, K], the nearest others of each.
        cosines: float [N, K], of their features.
    """
    triples: dict[int, set[str]] = {}

    def of(number: int) -> set[str]:
        if number not in triples:
            triples[number] = letter_triples(normalised(texts[number] or ""))
        return triples[number]

    for one, other in sorted({(min(i, j), max(i, j)) for i, j in _near(rows, cosines)}):
        first, second = texts[one], texts[other]
        if first is None or second is None or normalised(first) == normalised(second):
            continue
        likeness = shared_share(of(one), of(other))
        if likeness >= ALIKE:
            yield one, other, likeness


def letter_triples(text: str) -> set[str]:
    """Return the runs of three letters of a text.

    >>> sorted(letter_triples("abcd"))
    ['abc', 'bcd']
    """
    return {text[i : i + 3] for i in range(max(1, len(text) - 2))}


def shared_share(first: set[str], second: set[str]) -> float:
    """Return how much of two sets both have, 0 to 1 (Jaccard)."""
    return len(first & second) / len(first | second) if first | second else 0.0


def characteristic_words(
    texts: Sequence[str], labels: Sequence[str], most: int = 8
) -> dict[str, list[tuple[str, float]]]:
    """Return label -> the words that its texts have and others have not, with how sure that is (z).

    Source: Monroe et al. 2008, "Fightin' Words", section 3.3.2: log-odds with an informative Dirichlet prior.
    """
    of_label: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in zip(texts, labels, strict=True):
        of_label[label].update(set(words_of(text)))  # a word that a text repeats counts once
    whole: Counter[str] = Counter()
    for counts in of_label.values():
        whole.update(counts)
    total = sum(whole.values())
    found = {}
    for label, counts in of_label.items():
        own = sum(counts.values())
        scores = []
        for word, count in counts.items():
            prior = _PRIOR * whole[word] / total
            rest = whole[word] - count
            inside = (count + prior) / (own + _PRIOR - count - prior)
            outside = (rest + prior) / (total - own + _PRIOR - rest - prior)
            scores.append((word, math.log(inside / outside) / math.sqrt(1 / (count + prior) + 1 / (rest + prior))))
        found[label] = sorted(scores, key=lambda each: (-each[1], each[0]))[:most]
    return found


def vocabulary(texts: Iterable[str]) -> Counter[str]:
    """Return word -> number of texts that have it."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(set(words_of(text)))
    return found


def _near(rows: np.ndarray, cosines: np.ndarray) -> Iterator[tuple[int, int]]:
    for one, place in zip(*np.nonzero(cosines >= MEANING), strict=True):
        yield int(one), int(rows[one, place])
