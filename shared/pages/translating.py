"""Pages in French: one script for those of a service and those that a command writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files


def translating(french: Mapping[str, str]) -> str:
    """Return a script that says a page in French where the browser does, or who reads it has chosen so.

    A button of the class `p-language` is the switch. `translate.js` says what else a page can mark.

    Args:
        french: what the page says in English -> in French; in a key, {} is anything, which {} in its value repeats.
    """
    script = (files("shared.pages") / "translate.js").read_text("utf-8")
    words = json.dumps(french, ensure_ascii=False).replace("<", "\\u003c")
    return f"{{\nconst FRENCH = {words};\n{script}\n}}"
