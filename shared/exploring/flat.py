"""Features as a map: rows that are alike are near to each other."""

from __future__ import annotations

import random

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from shared.exploring.labels import normalised

MAP_ROWS = 2_000
_LEAST_ROWS = 8


def flat(features: np.ndarray) -> list[tuple[float, float, int]]:
    """Return (x, y, row) of some rows drawn at random, 0 to 1 each; none where all rows are alike (t-SNE).

    Args:
        features: float [N, D].
    """
    rows = sorted(random.Random(0).sample(range(len(features)), min(MAP_ROWS, len(features))))
    unit = normalised(features[rows])
    if len(rows) < _LEAST_ROWS or np.ptp(unit, axis=0).max() < 1e-6:
        return []
    reduced = PCA(min(50, *unit.shape), random_state=0).fit_transform(unit)
    made = TSNE(perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", random_state=0).fit_transform(reduced)
    low, high = made.min(axis=0), made.max(axis=0)
    scaled = (made - low) / np.maximum(high - low, 1e-9)
    return [(round(float(x), 4), round(float(y), 4), row) for (x, y), row in zip(scaled, rows, strict=True)]
