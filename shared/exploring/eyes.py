"""The model that looks at texts or photos for people; the command line hands it over, since rooms here know none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Eyes:
    """The model that looks at texts or photos.

    Args:
        name: for people.
        of_texts: texts -> features float32 [N, D].
        of_photos: files of photos -> features float32 [N, D].
        names: texts, or files of photos -> the label of each; None where it fits none.
    """

    name: str
    of_texts: Callable[[Sequence[str]], np.ndarray] | None = None
    of_photos: Callable[[Sequence[bytes]], np.ndarray] | None = None
    names: Callable[[Sequence[Any]], list[str | None]] | None = None
