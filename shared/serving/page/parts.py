"""What the HTML templates of all demo pages share with `templates/parts.html`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(score: float) -> str:
    """Return a score as people read it; never 100 or 0, which no model can know.

    >>> [percent(score) for score in (0.9996, 0.973, 0.052, 0.001)]
    ['>99%', '97%', '5%', '<1%']
    """
    if score >= 0.995:
        return ">99%"
    return "<1%" if score < 0.01 else f"{score * 100:.0f}%"


def limits_of(card: Mapping[str, Any]) -> list[str]:
    """Return what a model's card says of its limits, one line each."""
    own = card.get("limits")
    return [own] if isinstance(own, str) else [str(line) for line in own] if isinstance(own, list) else []
