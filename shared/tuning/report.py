"""The page of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from shared.pages import render


def page_of(found: Mapping[str, Any]) -> str:
    """Return the page of what `compare` found, which needs nothing but itself."""
    script = (files("shared.tuning") / "templates" / "compare.js").read_text("utf-8")
    return render("compare", " · ".join(each["name"] for each in found["bundles"]), found, script)
