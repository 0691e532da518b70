from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nlp.knowledge import KnowledgeBase, Passage
from nlp.knowledge.ranking import RERANKED, reranked


class Longest:
    """Likes long passages."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.seen.append(len(texts))
        return np.array([len(text) for text in texts], dtype=np.float32)


def passage(text: str) -> Passage:
    return Passage("a", "A", (), text, 0, len(text), 0.5)


def test_passages_are_sorted_by_the_rerankers_scores_and_ties_keep_their_order():
    found = reranked(Longest(), "query", [passage("aa"), passage("bbbb"), passage("cc")])
    assert [(each.text, each.score) for each in found] == [("bbbb", 4.0), ("aa", 2.0), ("cc", 2.0)]


def test_reranker_sees_more_passages_than_are_asked_for(file: Path):
    reranker = Longest()
    knowledge = KnowledgeBase.open(file, reranker=reranker)
    for number in range(RERANKED + 10):
        knowledge.put(f"{number}.txt", f"lamp {number} {'oil ' * number} w{number} v{number} u{number}".encode())
    found = knowledge.search("lamp", 3)
    assert reranker.seen == [RERANKED]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert len(found) == 3
    assert knowledge.search("nowhere") == []
    assert reranker.seen == [RERANKED]
    knowledge.close()
