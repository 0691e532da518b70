"""Embeddings outside of a service: of all texts of a dataset. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from nlp.embedding.predictor import EmbeddingPredictor
from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime

_AT_ONCE = 512
"""Texts between two steps of the progress bar."""


def text_embeddings(bundle: Bundle, runtime: Runtime, texts: Sequence[str]) -> np.ndarray:
    """Return float32 [N, size], a row of length 1 for each text."""
    predictor = EmbeddingPredictor(bundle, runtime)
    parts = tqdm(range(0, len(texts), _AT_ONCE), desc="reading texts")
    return np.concatenate([predictor.embed(texts[start : start + _AT_ONCE]) for start in parts])
