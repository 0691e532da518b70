"""Features in which all known labels are equally wide in every direction: what tells labels apart counts, not what
makes the members of one differ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.covariance import ledoit_wolf

from shared.exploring.labels import normalised

Transform = Callable[[np.ndarray], np.ndarray]


def whitened(features: np.ndarray, codes: np.ndarray) -> Transform:
    """Return what makes features [N, D] into unit vectors [N, D] whose spread within known labels is round.

    Source: within-class covariance normalisation, Hatch, Kajarekar and Stolcke 2006; the covariance is shrunk as by
    Ledoit and Wolf 2004.

    Args:
        features: float [M, D] of rows whose label is known.
        codes: int [M].
    """
    rows = normalised(features).astype(np.float64)
    middle = rows.mean(axis=0)
    count = int(codes.max()) + 1
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, codes, rows)
    centres = sums / np.maximum(np.bincount(codes, minlength=count), 1)[:, np.newaxis]
    covariance, _ = ledoit_wolf(rows - centres[codes], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    matrix = vectors / np.sqrt(np.maximum(values, 1e-9))
    return lambda new: normalised((normalised(new) - middle) @ matrix)
