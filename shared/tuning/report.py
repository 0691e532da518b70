"""The pages of a comparison and of a search."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from shared.pages import render


def page_of(found: Mapping[str, Any]) -> str:
    """Return the page of what `compare` found, which needs nothing but itself."""
    return _page("compare", " · ".join(each["name"] for each in found["bundles"]), found)


def study_page(found: Mapping[str, Any]) -> str:
    """Return the page of what `summarised` found, likewise."""
    return _page("tune", found["folder"], found)


def _page(kind: str, name: str, found: Mapping[str, Any]) -> str:
    script = (files("shared.tuning") / "templates" / f"{kind}.js").read_text("utf-8")
    return render(kind, name, found, script)
