"""Text and photos of a web page, by rules that a person can read.

What is around the text (menus, headers, footers, forms, scripts) is left out; where a page says what its main part is
(`<main>`, `<article>`), only that is read. Each block is a line.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from lxml import etree, html

MAX_LINKS = 5_000
_LEFT_OUT = frozenset(
    {"script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "iframe", "svg", "button",
     "select", "dialog", "menu", "object", "canvas", "audio", "video"}
)  # fmt: skip
_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "dialog"})
_BLOCKS = frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "dt", "dd", "tr", "pre", "blockquote", "figcaption", "div",
     "section", "article", "main", "table", "ul", "ol", "dl", "body", "summary", "details", "address", "caption",
     "hr", "br"}
)  # fmt: skip
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_NO_AI = re.compile(r"\b(?:noai|none)\b", re.IGNORECASE)
_NO_AI_IMAGES = re.compile(r"\b(?:noai|noimageai|none)\b", re.IGNORECASE)
_NO_FOLLOW = re.compile(r"\b(?:nofollow|none)\b", re.IGNORECASE)


@dataclass(frozen=True)
class PagePhoto:
    """A photo that a page shows."""

    url: str
    alt: str
    caption: str
    licence: str | None


@dataclass(frozen=True)
class Page:
    """What was read of a page."""

    title: str
    text: str
    language: str | None
    licence: str | None
    """The address that the page names with rel=license."""
    robots: str
    """What its robots meta tags say."""
    links: list[str] = field(default_factory=list)
    photos: list[PagePhoto] = field(default_factory=list)

    @property
    def forbids_ai(self) -> bool:
        """Whether nothing of it may be used to train models."""
        return _NO_AI.search(self.robots) is not None

    @property
    def forbids_ai_images(self) -> bool:
        return _NO_AI_IMAGES.search(self.robots) is not None

    @property
    def forbids_following(self) -> bool:
        return _NO_FOLLOW.search(self.robots) is not None


def read_page(content: bytes, url: str, *, charset: str | None = None, robots: str = "") -> Page:
    """Return what a page says.

    Args:
        content: HTML.
        url: of the page, for its links.
        charset: that the server named.
        robots: the header X-Robots-Tag.
    """
    try:
        codecs.lookup(charset or "utf-8")
    except LookupError:
        charset = None  # as browsers do with one that nobody knows
    try:
        parser = html.HTMLParser(encoding=charset, remove_comments=True, remove_pis=True, huge_tree=False)
        root = html.document_fromstring(content, parser=parser)
    except (etree.ParserError, LookupError, ValueError):
        return Page("", "", None, None, robots)
    base = next(filter(None, (_joined(url, each.get("href", "")) for each in root.iter("base"))), url)
    metas = [
        each.get("content", "")
        for each in root.iter("meta")
        if each.get("name", "").lower() in ("robots", "percept-collect")
    ]
    licence = _licence(root.iter("a", "link"), base)
    main = _main(root)
    return Page(
        title=" ".join((root.findtext(".//title") or "").split()),
        text="\n".join(_lines(main)),
        language=root.get("lang"),
        licence=licence,
        robots=", ".join(filter(None, (robots, *metas))),
        links=list(dict.fromkeys(_links(root, base)))[:MAX_LINKS],
        photos=list(_photos(main, base)),
    )


def _main(root: Any) -> Any:
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = root.findall(path)
        if len(found) == 1:
            return found[0]
    body = root.find(".//body")
    return root if body is None else body


def _is_left_out(element: Any) -> bool:
    return (
        element.tag in _LEFT_OUT
        or element.get("role", "").lower() in _ROLES
        or element.get("aria-hidden") == "true"
        or element.get("hidden") is not None
        or _HIDDEN.search(element.get("style", "")) is not None
    )


def _lines(main: Any) -> Iterator[str]:
    """Yield the text of each block, without walking deeper than Python can."""
    words: list[str] = []
    skipping = None
    for event, element in etree.iterwalk(main, events=("start", "end")):
        if skipping is not None:
            if event == "end" and element is skipping:
                skipping = None
                words.append(element.tail or "")
            continue
        if event == "start" and element is not main and _is_left_out(element):
            skipping = element
            continue
        if element.tag in _BLOCKS:
            line = " ".join("".join(words).split())
            words.clear()
            if line:
                yield line
        elif element.tag in ("td", "th") and event == "end":
            words.append(" ")
        words.append((element.text if event == "start" else element.tail if element is not main else "") or "")
    line = " ".join("".join(words).split())
    if line:
        yield line


def _links(root: Any, base: str) -> Iterator[str]:
    for each in root.iter("a"):
        href, rel = each.get("href"), each.get("rel", "").lower().split()
        if not href or "nofollow" in rel:
            continue
        url = _joined(base, href)
        if url is not None and urlsplit(url).scheme in ("http", "https"):
            yield urldefrag(url).url


def _photos(main: Any, base: str) -> Iterator[PagePhoto]:
    for each in main.iter("img"):
        src = each.get("src") or each.get("data-src") or ""
        if not src or src.startswith("data:"):
            continue
        figure = next((above for above in each.iterancestors("figure")), None)
        caption = figure.find(".//figcaption") if figure is not None else None
        marks = figure.iter("a", "link") if figure is not None else ()
        licence = _licence(marks, base)
        said = " ".join("".join(caption.itertext()).split()) if caption is not None else ""
        url = _joined(base, src)
        if url is None:
            continue
        yield PagePhoto(url, " ".join(each.get("alt", "").split()), said, licence)


def _joined(base: str, href: str) -> str | None:
    """Return the address that a page means; None if it is none."""
    try:
        url = urljoin(base, href.strip())
        urlsplit(url)
    except ValueError:
        return None
    return url


def _licence(elements: Iterable[Any], base: str) -> str | None:
    found = (_joined(base, each.get("href", "")) for each in elements if _is_licence(each))
    return next(filter(None, found), None)


def _is_licence(element: Any) -> bool:
    return "license" in element.get("rel", "").lower().split()
