"""HTML to readable text: keeps headings, paragraphs, lists, tables and questions with their answers.

Markup, scripts and navigation are left out. A question is a heading, a term of a list, the summary of details or the
button of an accordion that ends in a question mark, and what schema.org's FAQPage says, in the page or beside it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree

from nlp.knowledge.passages import CODE_END, CODE_START, Builder, is_question, one_line
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


MAX_STRUCTURED_CHARS = 1_000_000
"""Of the JSON in which a page describes itself; of a longer one nothing is read."""
MAX_QUESTIONS = 2_000


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, a paragraph, a list item, a table row, a question or code."""

    text: str
    is_main: bool
    """Whether it is in the page's <main>."""
    level: int = 0
    """Of a heading; 0 for everything else."""
    is_tight: bool = False
    """Whether it follows on the next line, as a list item does."""
    is_strong: bool = False
    is_question: bool = False
    ends_answer: bool = False
    """Whether what follows belongs to no question."""
    language: str | None = None
    """Of code, if known; None for what is no code."""
    header: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    """Of a row."""
    is_first_row: bool = False

    def put(self, builder: Builder) -> None:
        """Add the block to a document."""
        if self.ends_answer:
            builder.end_answer()
        elif self.is_question:
            builder.question(self.text)
        elif self.level:
            builder.heading(self.level, self.text)
        elif self.cells:
            builder.row(self.header, self.cells, is_first=self.is_first_row)
        elif self.language is not None:
            builder.code(self.text, self.language)
        else:
            builder.paragraph(self.text, is_tight=self.is_tight, is_strong=self.is_strong)


def read_webpage(markup: str) -> Builder:
    """Return the blocks of an HTML page: those of its <main> if it has one, and its <title> if no heading is the title.

    Raises:
        TooLarge: too many elements, or nested too deep.
    """
    for keeps_noise in (False, True):
        reader = HtmlReader(keeps_noise=keeps_noise)
        builder = _build(reader.read(markup))
        _add_structured(builder, reader)
        if not builder.is_empty:
            break
    builder.title = builder.title or one_line("".join(reader.title)) or None
    return builder


def _build(blocks: Sequence[Block]) -> Builder:
    only_main = sum(len(block.text) for block in blocks if block.is_main) >= _MIN_MAIN_CHARS
    builder = Builder()
    for block in blocks:
        if block.is_main or not only_main:
            block.put(builder)
    return builder


def _add_structured(builder: Builder, reader: HtmlReader) -> None:
    """Add the questions that only the page's description of itself has."""
    shown = {one_line(text).casefold() for text in builder.questions}
    plain = HtmlReader(keeps_noise=True)
    for question, answer in reader.structured():
        if one_line(question).casefold() not in shown:
            builder.question(question)
            for block in plain.read(answer):
                builder.paragraph(block.text, is_tight=block.is_tight)
    builder.end_answer()


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
        self._strong_chars = 0
        self._level = 0
        self._is_tight = self._is_term = self._is_button = False
        self._language: str | None = None
        self._cells: list[str] | None = None
        """Of the row that is open."""
        self._header: tuple[str, ...] = ()
        self._heads = 0
        """Cells of the open row that are headers."""
        self._rows = 0
        self._controlled: set[str] = set()
        """Names of parts that a button opens."""
        self._json: list[str] | None = None
        self._structured: list[str] = []

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

    def structured(self) -> Iterator[tuple[str, str]]:
        """Yield questions and answers, as HTML, of the page's schema.org descriptions."""
        for text in self._structured:
            try:
                waiting: list[Any] = [json.loads(text)]
            except (ValueError, RecursionError):
                continue
            found = 0
            while waiting and found < MAX_QUESTIONS:
                value = waiting.pop()
                if isinstance(value, list):
                    waiting += reversed(value)
                elif isinstance(value, dict):
                    answer = value.get("acceptedAnswer")
                    answer = answer[0] if isinstance(answer, list) and answer else answer
                    pair = value.get("name"), answer.get("text") if isinstance(answer, dict) else None
                    if value.get("@type") == "Question" and isinstance(pair[0], str) and isinstance(pair[1], str):
                        found += 1
                        yield pair[0], pair[1]
                    else:
                        waiting += reversed(list(value.values()))

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        self._depth += 1
        self._check_limits()
        if self._skipped:
            self._skipped += 1
            return
        if name in _BLOCKS:
            self._break()
        if name == "button" and (self._level or "aria-expanded" in attributes or "aria-controls" in attributes):
            self._controlled |= {attributes.get("aria-controls", ""), attributes.get("data-bs-target", "").lstrip("#")}
            if not self._level:
                self._flush()
                self._is_button = True
        elif self._is_left_out(name, attributes):
            self._skipped = 1
            if name == "script" and attributes.get("type", "").strip().lower() == "application/ld+json":
                self._json = []
            return
        self._open[name] += 1
        self._opened(name, attributes)

    def _opened(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in _HEADINGS:
            self._level = int(name[1])
        elif name == "br":
            self._words.append("\n")
        elif name == "img":
            self._words.append(f" {attributes.get('alt', '')} ")
        elif name == "li":
            self._words.append("- ")
            self._is_tight = True
        elif name in ("dt", "summary") or attributes.get("itemprop", "").lower() == "name":
            self._is_term = True
        elif name in ("table", "tr", "td", "th"):
            self._table(name)
        elif name in ("code", "kbd") and not self._open["pre"]:
            self._words.append(CODE_START)
        elif name in ("pre", "code") and self._open["pre"]:
            self._language = _language(attributes) or self._language or ""

    def data(self, text: str) -> None:
        if self._json is not None:
            self._json.append(text)
        if self._skipped:
            return
        if self._open["title"]:
            self.title.append(text)
        else:
            self._words.append(text if self._open["pre"] else _SPACES.sub(" ", text))
            if self._open["strong"] or self._open["b"]:
                self._strong_chars += len(text.strip())

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._skipped:
            self._skipped -= 1
            if not self._skipped and self._json is not None:
                self._keep_json()
            return
        if name in ("code", "kbd") and not self._open["pre"]:
            self._words.append(CODE_END)
        elif name in ("td", "th"):
            self._end_cell()
        elif name in ("tr", "table"):
            self._end_row()
        if name in _BLOCKS or self._is_button:
            self._break()
        if name in _HEADINGS:
            self._level = 0
        if name in ("dl", "details"):
            self._flush()
            self._blocks.append(Block("", self._open["main"] > 0, ends_answer=True))
        self._open[name] -= 1
        if name == "pre":
            self._language = None

    def close(self) -> list[Block]:
        self._end_row()
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
        if attributes.get("id") in self._controlled:  # a button shows it
            return False
        return (
            "hidden" in attributes
            or attributes.get("aria-hidden", "").lower() == "true"
            or attributes.get("role", "").lower() in _NOISY_ROLES
            or _HIDDEN_STYLE.search(attributes.get("style", "")) is not None
        )

    def _keep_json(self) -> None:
        text, self._json = "".join(self._json or ()), None
        if sum(map(len, self._structured)) + len(text) <= MAX_STRUCTURED_CHARS:
            self._structured.append(text)

    def _table(self, name: str) -> None:
        if name == "table":
            if self._cells is not None:  # in a cell of another one, which only lays things out
                self._cells = None
                self._flush()
            self._header, self._rows = (), 0
        elif name == "tr":
            self._end_row()
            self._cells, self._heads = [], 0
        elif self._cells is not None:
            self._end_cell()
            self._heads += name == "th"
        else:
            self._flush()

    def _end_cell(self) -> None:
        if self._cells is not None and self._words:
            self._cells.append(" ".join("".join(self._words).split()))
            self._words, self._strong_chars = [], 0

    def _end_row(self) -> None:
        if self._cells is None:
            return
        self._end_cell()
        cells, self._cells = tuple(self._cells), None
        if not any(cells):
            return
        if not self._rows and len(cells) > 1 and self._heads == len(cells):
            self._header = cells
        else:
            is_first = not self._rows or (self._rows == 1 and bool(self._header))
            text = " ".join(cells)
            is_main = self._open["main"] > 0
            self._blocks.append(Block(text, is_main, header=self._header, cells=cells, is_first_row=is_first))
        self._rows += 1

    def _break(self) -> None:
        """End a block, or in a cell a line of it."""
        if self._cells is not None and (self._open["td"] or self._open["th"]):
            self._words.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        words = "".join(self._words)
        if not self._open["pre"]:
            words = "\n".join(line.strip() for line in re.sub(" {2,}", " ", words).split("\n")).strip()
        if words.strip() == "-":
            return  # <li><p>…: the bullet waits for the item's words
        is_strong = 0 < len("".join(words.split())) <= self._strong_chars
        self._words, self._strong_chars = [], 0
        is_button, self._is_button = self._is_button, False
        if self._level:
            words = words.rstrip("¶#\uf0c1 ")  # links to the heading itself, as Sphinx and MkDocs set them
        if not words.strip() or (is_button and not is_question(words)):
            return
        self._blocks.append(
            Block(
                words,
                self._open["main"] > 0,
                level=self._level,
                is_tight=self._is_tight,
                is_strong=is_strong,
                is_question=not self._level and (self._is_term or is_button) and is_question(words),
                language=self._language if self._open["pre"] else None,
            )
        )
        self._is_tight = self._is_term = False


def _language(attributes: Mapping[str, str]) -> str:
    """Return the language of code as its class names it: language-bash, lang-sh, highlight-console."""
    found = re.search(r"\b(?:language|lang|highlight(?:-source)?)-([\w+-]{1,20})", attributes.get("class", "")[:200])
    return found[1] if found else ""
