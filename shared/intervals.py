"""How sure a share is."""

from __future__ import annotations

import numpy as np

_Z = 1.959963984540054
"""Standard normal quantile of 97.5 %."""


def wilson(share: np.ndarray | float, count: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of a share, or of each of several.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22.

    >>> [round(float(end), 3) for end in wilson(0.9, 50)]
    [0.786, 0.957]

    Args:
        share: 0 to 1.
        count: of what it is a share, above 0; weighted samples have an effective one.
    """
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def effective(weights: np.ndarray) -> float:
    """Return how many equal weights say as much as these. Source: Kish 1965, "Survey Sampling".

    >>> effective(np.array([1.0, 1.0, 1.0])), effective(np.array([1.0, 1.0, 4.0]))
    (3.0, 2.0)
    """
    return float(weights.sum() ** 2 / (weights**2).sum())
