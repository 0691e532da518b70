"""Jinja2 templates: the texts and pages that we write, apart from the Python that fills them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


def templates(*packages: str, **filters: Callable[..., Any]) -> Environment:
    """Return what the `templates` folders of packages hold, the first package's first.

    Values are escaped in HTML. A value that a template asks for and does not get is an error.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(filters)
    return environment
