"""Markdown that survives any label name: tables, folded parts, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def escape(value: object) -> str:
    r"""Return a value as one line of Markdown text; what would end a table cell or start HTML is escaped.

    >>> escape("a|b <i>"), escape(None), escape(12345)
    ('a\\|b &lt;i&gt;', '', '12,345')
    """
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = " ".join(str(value).split())
    for old, new in (("\\", "\\\\"), ("|", "\\|"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("*", "\\*")):
        text = text.replace(old, new)
    return text


def number(value: float | None) -> str:
    """Return three decimals, or a dash where a metric is not defined.

    >>> number(0.81249), number(None)
    ('0.812', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; text is aligned left, numbers right.

    >>> print(table(["name", "photos"], [["a", 1200]]))
    | name | photos |
    |:--|--:|
    | a | 1,200 |
    """
    cells = [[number(v) if isinstance(v, float) else escape(v) for v in row] for row in rows]
    sides = ["--:" if _is_number(column) else ":--" for column in zip(*cells, strict=True)] or [":--"] * len(header)
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(sides)}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in cells])


def paragraphs(*parts: str) -> str:
    """Return the parts that are not empty, as paragraphs."""
    return "\n\n".join(part for part in parts if part)


def or_dash(value: float | None) -> object:
    """Return a metric as a table's cell; a dash where it is not defined."""
    return "–" if value is None else value


def folded(summary: str, content: str) -> str:
    """Return a part that opens on a click."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"


def _is_number(column: Iterable[str]) -> bool:
    return all(cell in ("", "–") or cell.replace(",", "").replace(".", "", 1).isdigit() for cell in column)
