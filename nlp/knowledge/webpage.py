"""HTML to readable text: keeps headings, paragraphs, lists and tables; leaves out markup, scripts and navigation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lxml import etree

from nlp.knowledge.passages import Builder, one_line
from shared.errors import TooLarge

_RAW = frozenset({"script", "style", "textarea", "xmp", "iframe", "noembed", "noframes"})
"""Elements whose content is not markup; it is never read."""
_NOISE = frozenset(
    {
        "audio", "button", "canvas", "datalist", "footer", "math", "nav", "noscript", "object", "select",
        "svg", "template", "video"
    }
)  # fmt: skip
_NOISY_ROLES = frozenset({"navigation", "search", "contentinfo", "menu", "menubar", "toolbar"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS = _HEADINGS | {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog",
    "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup",
    "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table",
    "tbody", "tfoot", "thead", "tr", "ul"
}  # fmt: skip
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACES = re.compile(r"[^\S\n\u00a0\u202f]+|\n")
_DIV = re.compile(r"(</?)div(?=[\s/>])", re.IGNORECASE)
_CHUNK_CHARS = 1 << 16
MAX_ELEMENTS = 200_000
"""Of one document: up to 4 s on a busy core (lxml 6.1.3, 2026-11-28). The HTML standard on one page has about half."""
MAX_DEPTH_TIMES_ENDS = 500_000_000
"""For an end tag that fits nothing, libxml2 looks through all open elements: 5 s on a busy core at this limit."""
_MIN_MAIN_CHARS = 200
"""A <main> with fewer is unlikely to be the page's content."""


class Block(NamedTuple):
    """A heading, a paragraph, a list item or a table row."""

    level: int
    """Of a heading; 0 for everything else."""
    text: str
    is_tight: bool
    """Whether it follows on the next line, as a list item does."""
    is_main: bool
    """Whether it is in the page's <main>."""


def read_webpage(markup: str) -> Builder:
    """Return the blocks of an HTML page: those of its <main> if it has one, and its <title> if no heading is the title.

    Raises:
        TooLarge: too many elements, or nested too deep.
    """
    for keeps_noise in (False, True):
        reader = HtmlReader(keeps_noise=keeps_noise)
        builder = _build(reader.read(markup))
        if not builder.is_empty:
            break
    builder.title = builder.title or one_line("".join(reader.title)) or None
    return builder


def _build(blocks: Sequence[Block]) -> Builder:
    only_main = sum(len(block.text) for block in blocks if block.is_main) >= _MIN_MAIN_CHARS
    builder = Builder()
    for level, text, is_tight, is_main in blocks:
        if only_main and not is_main:
            continue
        if level:
            builder.heading(level, text)
        else:
            builder.paragraph(text, is_tight=is_tight)
    return builder


class HtmlReader:
    """Makes blocks of text from HTML. The parser calls `start`, `data`, `end` and `close`; no tree is ever built.

    One reader can read many pieces: making its parser takes longer than reading a line.

    >>> HtmlReader().read("<p align=center>Tagger <b>starter</b><script>alert(1)</script><br>2026</p>")[0].text
    'Tagger starter\\n2026'
    """

    def __init__(self, *, keeps_noise: bool = False) -> None:
        self.title: list[str] = []
        """Pieces of the <title>."""
        self._keeps_noise = keeps_noise
        # huge_tree: without it, libxml2 drops long texts without a word.
        self._parser = etree.HTMLParser(target=self, huge_tree=True)
        self._blocks: list[Block] = []
        self._end_tags = self._elements = self._depth = 0
        self._skipped = 0
        """Open elements that are left out, the outermost and all inside it."""
        self._open: Counter[str] = Counter()
        """Open elements that are not left out, by name."""
        self._words: list[str] = []
        self._level = 0
        self._is_tight = self._is_below_row = False

    def read(self, markup: str) -> list[Block]:
        """Return the blocks of a page or a piece of one; raises as `read_webpage`."""
        # In libxml2 no end tag but its own closes a <div>: one left open in a <nav> would hide the rest of the page.
        # Browsers close it; libxml2 closes a <center>, which means the same here.
        markup = _DIV.sub(r"\1center", markup.replace("\0", ""))
        self._end_tags = markup.count("</")
        for place in range(0, len(markup) + 1, _CHUNK_CHARS):  # an error raised in `start` ends it after the chunk
            self._parser.feed(markup[place : place + _CHUNK_CHARS])
        blocks: list[Block] = self._parser.close()
        return blocks

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        self._depth += 1
        self._check_limits()
        if self._skipped:
            self._skipped += 1
            return
        if name in _BLOCKS:
            self._flush()
        if self._is_left_out(name, attributes):
            self._skipped = 1
            return
        self._open[name] += 1
        if name in _HEADINGS:
            self._level = int(name[1])
        elif name == "br":
            self._words.append("\n")
        elif name == "img":
            self._words.append(f" {attributes.get('alt', '')} ")
        elif name == "li":
            self._words.append("- ")
            self._is_tight = True
        elif name == "tr":
            self._is_tight = self._is_below_row
            self._is_below_row = True
        elif name == "table":
            self._is_below_row = False
        elif name in ("td", "th") and self._words:
            self._words.append(" | ")

    def data(self, text: str) -> None:
        if self._skipped:
            return
        if self._open["title"]:
            self.title.append(text)
        else:
            self._words.append(text if self._open["pre"] else _SPACES.sub(" ", text))

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._skipped:
            self._skipped -= 1
            return
        if name in _BLOCKS:
            self._flush()
        if name in _HEADINGS:
            self._level = 0
        self._open[name] -= 1

    def close(self) -> list[Block]:
        self._flush()
        self._words.clear()
        blocks, self._blocks = self._blocks, []
        return blocks

    def _check_limits(self) -> None:
        if self._elements > MAX_ELEMENTS:
            raise TooLarge(f"the document has more than {MAX_ELEMENTS} HTML elements, which is the limit. Split it.")
        if self._depth * self._end_tags > MAX_DEPTH_TIMES_ENDS:
            raise TooLarge(
                f"the page nests its elements too deep: {self._depth} levels, with {self._end_tags} end tags in all. "
                "Send it as text/plain."
            )

    def _is_left_out(self, name: str, attributes: Mapping[str, str]) -> bool:
        if name in _RAW or (name == "title" and self.title):
            return True
        if self._keeps_noise:
            return False
        if name in _NOISE:
            return True
        if not attributes or name in ("html", "body", "main"):
            return False
        return (
            "hidden" in attributes
            or attributes.get("aria-hidden", "").lower() == "true"
            or attributes.get("role", "").lower() in _NOISY_ROLES
            or _HIDDEN_STYLE.search(attributes.get("style", "")) is not None
        )

    def _flush(self) -> None:
        words = "".join(self._words)
        if not self._open["pre"]:
            words = "\n".join(line.strip() for line in re.sub(" {2,}", " ", words).split("\n")).strip()
        if words.strip() == "-":
            return  # <li><p>…: the bullet waits for the item's words
        self._words = []
        if self._level:
            words = words.rstrip("¶#\uf0c1 ")  # links to the heading itself, as Sphinx and MkDocs set them
        if words.strip():
            self._blocks.append(Block(self._level, words, self._is_tight, self._open["main"] > 0))
            self._is_tight = False
