"""HTML that all demo pages share: scores, calls to copy, known labels and limits. All text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def percent(score: float) -> str:
    """Return a score as people read it; never 100 or 0, which no model can know.

    >>> [percent(score) for score in (0.9996, 0.973, 0.052, 0.001)]
    ['>99%', '97%', '5%', '<1%']
    """
    if score >= 0.995:
        return ">99%"
    return "<1%" if score < 0.01 else f"{score * 100:.0f}%"


def curl(title: str, route: str, *, before: str = "", after: str = "") -> str:
    """Return a curl call to copy; the page's script puts in its own address.

    Args:
        title: what the call is for.
        route: such as "/v1/tag".
        before: options before the address.
        after: options after it.
    """
    address = f'"<span class="p-origin">http://localhost:3000</span>{route}"'
    command = " ".join(filter(None, ("curl", escape(before, quote=False), address, escape(after, quote=False))))
    return (
        f'<p>{escape(title)}:</p><div class="p-code"><pre tabindex="0"><code>{command}</code></pre>'
        f'<button type="button" class="p-copy" aria-label="Copy the call of {route}">Copy</button></div>'
    )


def known_labels(intro: str, *, names: str, example: str, lists: str) -> str:
    """Return all labels with a field to search them.

    Args:
        intro: says how many there are.
        names: what they are called, such as "intents".
        example: something to search for.
        lists: the labels, as HTML.
    """
    return (
        f'<div class="p-knows"><p>{escape(intro)}</p><label>Search the {names} <input type="search" class="p-search" '
        f'placeholder="for example: {example}" autocomplete="off" spellcheck="false"></label>'
        f'<p class="p-found" role="status"></p><div class="p-labels" tabindex="0">{lists}</div></div>'
    )


def limits(not_for: Sequence[str], cards: Sequence[Mapping[str, Any]], *notes: str) -> str:
    """Return what a service is not for, with the limits that its models' cards name, and notes below."""
    lines = list(not_for)
    for card in cards:
        own = card.get("limits")
        lines += [own] if isinstance(own, str) else own if isinstance(own, list) else []
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    paragraphs = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f'<div class="p-limits"><p>It is not for</p><ul>{items}</ul>{paragraphs}</div>'
