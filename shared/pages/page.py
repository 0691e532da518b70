"""One page: its data, and the script that draws them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from shared.templates import templates


def render(kind: str, name: str, data: Mapping[str, Any], script: str) -> str:
    """Return a page as HTML that loads nothing.

    Args:
        kind: the command that made it, such as "explore".
        name: its heading.
        data: JSON-able; no NaN. The script finds it as `data`.
        script: JavaScript that draws the page with what `templates/parts.js` defines.
    """
    place = files("shared.pages") / "templates"
    content = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _TEMPLATES.get_template("page.html").render(
        kind=kind,
        name=name,
        data=content.replace("<", "\\u003c"),  # so that no text of the data ends the script
        css=(place / "page.css").read_text("utf-8"),
        js=f"{(place / 'parts.js').read_text('utf-8')}\n{script}",
    )


_TEMPLATES = templates("shared.pages")
