"""The HTML templates of the demo pages: where they are, and what all of them share. They escape all they print."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


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


def templates(package: str) -> Environment:
    """Return the templates in a package's folder, with `parts.html` beside them."""
    loader = FileSystemLoader([str(files(package)), str(files("shared.serving.page"))])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters["percent"] = percent
    return found
