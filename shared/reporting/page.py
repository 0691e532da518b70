"""The page as HTML: one file that loads nothing and runs no script, for reading, sending and printing."""

from __future__ import annotations

from shared.reporting.telling import Telling, tell
from shared.templates import templates


def page_of(told: Telling) -> str:
    """Return the page."""
    return _TEMPLATES.get_template("report.html").render(tell(told))


_TEMPLATES = templates("shared.reporting", "shared.pages")
