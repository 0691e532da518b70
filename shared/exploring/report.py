"""The page and findings.jsonl of an exploration."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from shared.errors import ConfigError
from shared.exploring.examine import Examined
from shared.exploring.findings import write_findings
from shared.pages import render as draw
from shared.staging import staged, sync_file

PAGE = "index.html"
FINDINGS = "findings.jsonl"


def write_report(out: Path, examined: Examined) -> None:
    """Write the page and the findings into a folder, which an earlier exploration may have filled.

    Raises:
        ConfigError: the folder holds something else.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / FINDINGS).is_file())):
        raise ConfigError(f"{out} holds something else than an exploration. Name another folder.")
    with staged(out) as staging:
        write_findings(staging / FINDINGS, examined.findings)
        (staging / PAGE).write_text(render(examined.page), encoding="utf-8")
        for name in (FINDINGS, PAGE):
            sync_file(staging / name)


def render(page: dict[str, Any]) -> str:
    """Return the page, which needs nothing but itself."""
    script = (files("shared.exploring") / "templates" / "explore.js").read_text("utf-8")
    return draw("explore", page["name"], page, script)
