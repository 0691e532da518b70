"""HTML to readable text: headings, paragraphs, lists and tables kept; scripts, styles and what steers a site left out.

Text stays text: what comes out holds the words of a page and none of its markup. Neighbour: `tags` cuts the markup.
"""

from __future__ import annotations

import re
from collections import Counter

from nlp.knowledge.sections import Builder, one_line
from nlp.knowledge.tags import Raw, Start, pieces, unescape
from shared.errors import TooLarge

_VOID = frozenset(
    {
        "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "keygen",
        "link", "meta", "param", "source", "track", "wbr"
    }
)  # fmt: skip
_NOISE = frozenset(
    {
        "audio", "button", "canvas", "datalist", "footer", "math", "nav", "noscript", "object", "select",
        "svg", "template", "video"
    }
)  # fmt: skip
_NOISY_ROLES = frozenset({"navigation", "search", "contentinfo", "menu", "menubar", "toolbar"})
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog",
        "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup",
        "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table",
        "tbody", "tfoot", "thead", "tr", "ul"
    }
)  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACES = re.compile(r"[^\S\n\u00a0\u202f]+|\n")
MAX_TAGS = 200_000
"""Of one page: 5 s on a busy core. The HTML standard in one page has about as many."""
_MIN_MAIN_CHARS = 200
"""A <main> with fewer is not believed to hold the page."""


def read_webpage(text: str) -> Builder:
    """Return the blocks of an HTML page. Where it has a <main>, that is the page; its <title> is the fallback title."""
    for keeps_noise in (False, True):
        reader = _Reader(keeps_noise)
        reader.read(text)
        builder = reader.build()
        if not builder.is_empty:
            break
    builder.title = builder.title or one_line(reader.title) or None
    return builder


def flat_text(markup: str) -> str:
    """Return the words of a piece of HTML, its blocks on lines of their own.

    >>> flat_text("<p align=center>Tagger <b>starter</b><script>alert(1)</script><br>2026</p>")
    'Tagger starter\\n2026'
    """
    reader = _Reader(keeps_noise=False)
    reader.read(markup)
    return "\n".join(text for _, text, _, _ in reader.blocks)


class _Reader:
    """Walks over tags and text; keeps only what is open, never a tree, so depth costs nothing."""

    def __init__(self, keeps_noise: bool) -> None:
        self.keeps_noise = keeps_noise
        self.title = ""
        self.blocks: list[tuple[int, str, bool, bool]] = []
        """Heading level or 0, text, is_tight, is_main."""
        self._open: list[tuple[str, bool]] = []
        """Name, and whether it is left out."""
        self._counts: Counter[str] = Counter()
        self._skipped = 0
        self._words: list[str] = []
        self._level = 0
        self._is_tight = False
        self._is_below_row = False

    def read(self, text: str) -> None:
        tags = 0
        for piece in pieces(text):
            tags += not isinstance(piece, str)
            if tags > MAX_TAGS:
                raise TooLarge(f"the page has more than {MAX_TAGS} tags, which is the limit. Split it.")
            if isinstance(piece, str):
                if not self._skipped:
                    self._words.append(piece if self._counts["pre"] else _SPACES.sub(" ", piece))
            elif isinstance(piece, Raw):
                if piece.name == "title" and not self.title and not self._skipped:
                    self.title = unescape(piece.content)
            elif isinstance(piece, Start):
                self._start(piece)
            else:
                self._end(piece.name)
        self._flush()

    def build(self) -> Builder:
        """Return the blocks, those of <main> alone where it holds enough."""
        only_main = sum(len(text) for _, text, _, is_main in self.blocks if is_main) >= _MIN_MAIN_CHARS
        builder = Builder()
        for level, text, is_tight, is_main in self.blocks:
            if only_main and not is_main:
                continue
            if level:
                builder.heading(level, text)
            else:
                builder.paragraph(text, is_tight=is_tight)
        return builder

    def _start(self, tag: Start) -> None:
        name = tag.name
        if name in _BLOCKS or name in _HEADINGS:
            self._flush()
        if name == "br" and not self._skipped:
            self._words.append("\n")
        elif name == "img" and not self._skipped:
            self._words.append(f" {tag.values().get('alt', '')} ")
        if name in _VOID:
            return
        is_left_out = self._is_noise(tag)
        self._open.append((name, is_left_out))
        self._counts[name] += 1
        self._skipped += is_left_out
        if self._skipped:
            return
        if name in _HEADINGS:
            self._level = _HEADINGS[name]
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

    def _end(self, name: str) -> None:
        if name in _BLOCKS or name in _HEADINGS:
            self._flush()
        if name in _HEADINGS:
            self._level = 0
        if not self._counts[name]:
            return
        while True:  # what was left open inside ends with it
            closed, was_left_out = self._open.pop()
            self._counts[closed] -= 1
            self._skipped -= was_left_out
            if closed == name:
                return

    def _is_noise(self, tag: Start) -> bool:
        if self.keeps_noise:
            return False
        if tag.name in _NOISE:
            return True
        if not tag.attributes or tag.name in ("html", "body", "main"):
            return False
        values = tag.values()
        return (
            "hidden" in values
            or values.get("aria-hidden", "").lower() == "true"
            or values.get("role", "").lower() in _NOISY_ROLES
            or _HIDDEN_STYLE.search(values.get("style", "")) is not None
        )

    def _flush(self) -> None:
        words = "".join(self._words)
        if not self._counts["pre"]:
            words = "\n".join(line.strip() for line in re.sub(" {2,}", " ", words).split("\n")).strip()
        if words.strip() == "-":
            return  # <li><p>…: the bullet waits for the item's words
        self._words = []
        if self._level:
            words = words.rstrip("¶#\uf0c1 ")  # signs of links to the heading, as Sphinx and MkDocs set them
        if words.strip():
            self.blocks.append((self._level, words, self._is_tight, self._counts["main"] > 0))
            self._is_tight = False
