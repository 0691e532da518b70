from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nlp.knowledge import KnowledgeBase, Passage
from nlp.knowledge.ranking import RERANKED, reranked


class Loudest:
    """Likes passages with exclamation marks."""

    def __init__(self) -> None:
        self.seen: list[Sequence[str]] = []

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.seen.append(texts)
        return np.array([text.count("!") / 10 for text in texts], dtype=np.float32)


def passage(text: str, score: float) -> Passage:
    return Passage("a", "A", ("B", "C"), text, 0, len(text), score)


def test_passages_are_sorted_by_the_rerankers_scores_and_their_share_of_the_best_bm25():
    reranker = Loudest()
    found = reranked(reranker, "query", [passage("best", 4.0), passage("good!!!!!!!!", 2.0), passage("last!", 2.0)])
    assert [each.text for each in found] == ["good!!!!!!!!", "best", "last!"]
    assert [each.score for each in found] == pytest.approx([1.3, 1.0, 0.6])
    assert reranker.seen[0][0] == "A\nB\nC\nbest"


def test_of_equal_scores_the_order_of_bm25_holds():
    found = reranked(Loudest(), "query", [passage("one", 1.0), passage("two", 1.0)])
    assert [each.text for each in found] == ["one", "two"]


def test_reranker_sees_more_passages_than_are_asked_for(file: Path):
    reranker = Loudest()
    knowledge = KnowledgeBase.open(file, reranker=reranker)
    for number in range(RERANKED + 10):
        knowledge.put(f"{number}.txt", f"lamp {number} w{number} v{number} u{number} {'!' * number}".encode())
    found = knowledge.search("lamp", 3)
    assert [len(texts) for texts in reranker.seen] == [RERANKED]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert len(found) == 3
    assert knowledge.search("nowhere") == []
    assert len(reranker.seen) == 1
    knowledge.close()
