"""The second look: what BM25 found, sorted by BM25 and a re-ranker together.

A sentence encoder alone sorts worse than BM25, both together better. recall@1 / @5 of the best 20 by BM25, each text a
document, with all-MiniLM-L6-v2 in int8, an English encoder (SQLite 3.40.1, ONNX Runtime 1.32.0, 2026-11-24):

    | sorted by | English (n = 1,984) | French (n = 1,917) |
    |---|---|---|
    | BM25 | 0.815 / 0.947 | 0.720 / 0.874 |
    | cosine | 0.693 / 0.914 | 0.405 / 0.749 |
    | cosine + 0.5 x BM25 | 0.845 / 0.955 | 0.709 / 0.881 |
    | cosine + BM25: this one | 0.844 / 0.956 | 0.721 / 0.881 |
    | cosine + 2 x BM25 | 0.832 / 0.954 | 0.721 / 0.881 |

On as many other questions, on which nothing was chosen, it took English from 0.798 / 0.938 to 0.821 / 0.955 and French
from 0.711 / 0.885 to 0.722 / 0.890. BM25 counts as a share of the best passage's; the sets are those of `index`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from nlp.knowledge.index import Passage

RERANKED = 20
"""Passages that a re-ranker sees at least: recall@20 by BM25 is 0.97 in English and 0.93 in French (see `index`)."""


class Reranker(Protocol):
    """Judges passages by more than their words."""

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """Return float [len(texts)], -1 to 1 as cosines are, higher is better."""
        ...


def reranked(reranker: Reranker, query: str, passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages with new scores, -1 to 2, the best first: the re-ranker's plus the share of the best BM25.

    The re-ranker reads each passage with its title and headings above it. Of equal scores BM25's order holds.
    """
    texts = ["\n".join((passage.title, *passage.headings, passage.text)) for passage in passages]
    scores = np.asarray(reranker.scores(query, texts), dtype=np.float64)
    best = max((passage.score for passage in passages), default=0.0)
    shares = [passage.score / best if best > 0 else 0.0 for passage in passages]
    judged = [
        replace(passage, score=float(score) + share)
        for passage, score, share in zip(passages, scores, shares, strict=True)
    ]
    return sorted(judged, key=lambda passage: passage.score, reverse=True)
