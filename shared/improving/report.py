"""The page of a promotion: a sentence, the figures, what was checked, and what the gate would have noticed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from shared.pages import render


def promotion_page(found: Mapping[str, Any]) -> str:
    """Return the page, which needs nothing but itself.

    Args:
        found: of `judge_gate`, with `candidate`, `over`, `split`, `notes`, `bundles`, `apart`, `is_right_or_wrong`,
            `promotion` and `decision`.
    """
    script = (files("shared.improving") / "templates" / "promote.js").read_text("utf-8")
    return render("promote", found["candidate"]["name"], found, script)
