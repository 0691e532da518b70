"""A re-ranker that compares meanings: the cosine of a sentence encoder's embeddings. Torch-free.

Neighbours: `ranking` says what it is worth, `nlp.embedding` computes; `percept import-encoder` makes the bundle.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from nlp.embedding.predictor import EmbeddingPredictor
from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime

MAX_REMEMBERED = 10_000
"""Embeddings of passages that are kept, 15 MB at 384 numbers each: a passage takes 10 ms to embed, a question one."""


class SentenceReranker:
    """Scores passages by the cosine of their embedding and the question's; remembers those of passages.

    Args:
        bundle: one for the task embedding.
        runtime: computes it.

    Raises:
        BundleError: the bundle is for another task.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.predictor = EmbeddingPredictor(bundle, runtime)
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [len(texts)], -1 to 1."""
        with self._lock:
            known = {text: self._remembered[text] for text in texts if text in self._remembered}
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        query = query.encode("utf-8", "replace").decode()  # half a surrogate pair is no reason to find nothing
        question, *rows = self.predictor.embed([query, *fresh])
        known |= dict(zip(fresh, rows, strict=True))
        with self._lock:
            for text in dict.fromkeys(texts):
                self._remembered[text] = known[text]
                self._remembered.move_to_end(text)
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        if not texts:
            return np.empty(0, dtype=np.float32)
        scores: np.ndarray = np.stack([known[text] for text in texts]) @ question  # [len(texts)]
        return scores
