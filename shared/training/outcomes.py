"""How good each single answer of a bundle is, as it would be served: what a comparison needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Outcomes:
    """The answers of one bundle to some examples."""

    measure: str
    """What the mean of the values is called, such as "right answers"."""
    explained: str
    """What counts as right, in a sentence or two."""
    examples: Sequence[Any]
    """As the data module has them: two bundles that were asked the same have the same objects."""
    values: np.ndarray
    """float [N], 0 to 1: how good the answer is. To give none is right where there is none."""
    answers: Sequence[str | None]
    """What was answered; None where nothing was."""
    confidences: np.ndarray
    """float [N]; NaN where no answer was given."""
    labels: Sequence[str]
    """What each example belongs to, for a look at parts of the data."""
    lengths: Sequence[int]
    """Words of a text; the shorter side of a photo in pixels."""
    length_unit: str
    texts: Sequence[str] | None = None
    """Where the examples are texts, or have some."""
