"""Writes a result into the documentation: `python -m benchmarks --report FILE --publish`."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.plot import draw
from benchmarks.report import Result, render, summary

PAGE, README, PICTURE, KEPT = "docs/benchmark.md", "README.md", "docs/images/benchmark.png", "docs/benchmark.json"


def publish(result: Result, root: Path) -> list[Path]:
    """Write picture, tables and result into the documentation, between its marks, and return the files.

    Raises:
        ValueError: a page lacks one of the marks.
    """
    picture, page, readme, kept = (root / name for name in (PICTURE, PAGE, README, KEPT))
    text = between_marks(page.read_text(encoding="utf-8"), _headline(result, f"images/{picture.name}"), page.name)
    pages = {
        page: between_marks(text, render(result), page.name, kind="tables"),
        readme: between_marks(readme.read_text(encoding="utf-8"), _headline(result, PICTURE), readme.name),
    }
    picture.write_bytes(draw(result))
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    kept.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return [picture, *pages, kept]


def _headline(result: Result, picture: str) -> str:
    return f"![Requests per second and latency of each stack]({picture})\n\n{summary(result)}"


def between_marks(page: str, text: str, name: str, kind: str = "figures") -> str:
    """Return the page with the text between its marks replaced.

    Args:
        page: the whole page.
        text: what goes between the marks.
        name: of the page, for the error.
        kind: "figures" for the headline, "tables" for the full tables.
    """
    first = f"<!-- {kind}: written by `python -m benchmarks --report FILE --publish` -->"
    last = f"<!-- end of {kind} -->"
    before, start, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not start or not end:
        raise ValueError(f"{name} needs a line {first} and, below it, a line {last}.")
    return f"{before}{first}\n{text.strip()}\n{last}{after}"
