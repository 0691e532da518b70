"""Puts a result into the documentation: `python -m benchmarks --report FILE --publish`."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.plot import draw
from benchmarks.report import Result, render, summary

PAGE, README, PICTURE, KEPT = "docs/benchmark.md", "README.md", "docs/images/benchmark.png", "docs/benchmark.json"
START, END = "<!-- figures: written by `python -m benchmarks --report FILE --publish` -->", "<!-- end of figures -->"


def publish(result: Result, root: Path) -> list[Path]:
    """Write picture, table and result into the documentation, between its marks; return the files.

    Raises:
        ValueError: a page has not both marks.
    """
    picture = root / PICTURE
    written = {
        root / PAGE: f"![Requests a second and latency of each stack](images/{picture.name})\n\n{render(result)}",
        root / README: f"![Requests a second and latency of each stack]({PICTURE})\n\n{summary(result)}",
    }
    pages = {path: between_marks(path.read_text(encoding="utf-8"), text, path.name) for path, text in written.items()}
    picture.write_bytes(draw(result))
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    kept = root / KEPT
    kept.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return [picture, *pages, kept]


def between_marks(page: str, text: str, name: str) -> str:
    """Return the page with the text in place of what stands between its marks."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{name} needs a line {START} and below it a line {END}.")
    return f"{before}{START}\n{text.strip()}\n{END}{after}"
