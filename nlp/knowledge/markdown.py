"""Markdown to readable text: headings, paragraphs, code, lists and tables kept, markup dropped."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from nlp.knowledge.passages import CODE_END, CODE_START, Builder, normalise, one_line
from nlp.knowledge.webpage import HtmlReader
from shared.errors import InputError, TooLarge

MAX_CHARS = 500_000
"""The parser takes 0.4 s for them (markdown-it-py 4.3, two busy cores, 2026-11-24). Plain text has no such limit."""
MAX_NESTING = 100
"""Levels of lists and quotations, two per list; what is nested deeper the parser drops, and everything after it."""
MAX_BRACKETS = 50
"""In one paragraph; if there are more, a bracket that never closes, or is nested too deep, starts no link. From each of
them the parser looks to the end of the paragraph, and again from each inside: 20 KB of `![# ` took it a minute (found
by `make fuzz`)."""
MAX_BRACKET_DEPTH = 5
"""A picture that is a link is two deep."""
_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n((?:.*\n)*?)(?:\1|\.\.\.)[ \t]*(?:\n|\Z)")
MAX_FRONT_MATTER_CHARS = 20_000
_YAML_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_BRACKET = re.compile(r"[\[\]]")


def read_markdown(text: str) -> Builder:
    """Return the blocks of a Markdown document (CommonMark, with tables).

    Of front matter only the title is read, in YAML or TOML; HTML tags are left out.

    Raises:
        InputError: lists or quotations are nested too deep.
        TooLarge: more than `MAX_CHARS` characters.
    """
    text = normalise(text)
    if len(text) > MAX_CHARS:
        raise TooLarge(
            f"the Markdown document has {len(text)} characters; the limit is {MAX_CHARS}. "
            "Split it, or send it as text/plain."
        )
    matter = _FRONT_MATTER.match(text)
    tokens = _PARSER.parse(text[matter.end() :] if matter else text)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        raise InputError(
            f"the Markdown document nests lists or quotations {MAX_NESTING} levels deep, which is too deep to read. "
            "Send it as text/plain."
        )
    reader = _Reader()
    reader.read(tokens)
    if matter and reader.builder.title is None:
        reader.builder.title = one_line(_title(matter[1], matter[2])) or None
    return reader.builder


def _title(kind: str, matter: str) -> str:
    """Return the title in front matter; nothing if there is none, or if it is not what it looks like."""
    if kind == "+++":
        try:
            title = tomllib.loads(matter[:MAX_FRONT_MATTER_CHARS]).get("title")
        except (tomllib.TOMLDecodeError, RecursionError):
            return ""
        return title if isinstance(title, str) else ""
    found = _YAML_TITLE.search(matter[:MAX_FRONT_MATTER_CHARS])
    return found[1].strip("\"'") if found else ""


def without_open_brackets(text: str) -> str:
    r"""Return a paragraph's Markdown with every bracket escaped that never closes or is nested too deep.

    >>> without_open_brackets("[a] " + "[" * 3 + "b](c)")
    '[a] \\[\\[[b](c)'
    """
    waiting: list[int] = []
    kept: set[int] = set()
    for bracket in _BRACKET.finditer(text):
        if bracket[0] == "[":
            waiting.append(bracket.start())
        elif waiting:
            place = waiting.pop()
            if len(waiting) < MAX_BRACKET_DEPTH:
                kept |= {place, bracket.start()}
    return _BRACKET.sub(lambda bracket: bracket[0] if bracket.start() in kept else f"\\{bracket[0]}", text)


def plain(tokens: Sequence[Token]) -> str:
    """Return what a reader sees of inline tokens: the words of links, the names of pictures, code as written."""
    parts = []
    for token in tokens:
        if token.type == "text":
            parts.append(token.content)
        elif token.type == "code_inline":
            parts.append(f"{CODE_START}{token.content}{CODE_END}")
        elif token.type == "softbreak":
            parts.append(" ")
        elif token.type == "image":
            parts.append(plain(token.children or ()))
        elif token.type == "hardbreak" or (token.type == "html_inline" and token.content.lower().startswith("<br")):
            parts.append("\n")
    return "".join(parts)


def _escape_open_brackets(state: StateCore) -> None:
    for token in state.tokens:
        if token.type == "inline" and token.content.count("[") > MAX_BRACKETS:
            token.content = without_open_brackets(token.content)


_PARSER = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}).enable(["table", "strikethrough"])
_PARSER.core.ruler.before("inline", "open_brackets", _escape_open_brackets)


class _Reader:
    """Walks over the parser's tokens and remembers what is open around them."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.html = HtmlReader()
        self.level = 0
        """Of the heading that is open; 0 for none."""
        self.lists: list[int | None] = []
        """Open lists: the next item's number, or None for a bullet."""
        self.marker = ""
        """The number or bullet of the item that was opened last, until its first words take it."""
        self.row: list[str] | None = None
        """Cells of the table row that is open."""
        self.header: list[str] = []
        self.is_first_row = False

    def read(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            kind = token.type
            if kind == "heading_open" and token.level == 0:
                self.level = int(token.tag[1:])
            elif kind == "inline":
                self._inline(token.children or ())
            elif kind in ("fence", "code_block"):
                self._code(token)
            elif kind == "html_block":
                for block in self.html.read(token.content):
                    block.put(self.builder)
            elif kind in ("bullet_list_open", "ordered_list_open"):
                self.lists.append(int(token.attrGet("start") or 1) if kind == "ordered_list_open" else None)
            elif kind in ("bullet_list_close", "ordered_list_close"):
                self.lists.pop()
            elif kind == "list_item_open":
                self._item()
            elif kind == "table_open":
                self.header, self.is_first_row = [], True
            elif kind == "tr_open":
                self.row = []
            elif kind == "tr_close":
                self._end_row()

    def _inline(self, tokens: Sequence[Token]) -> None:
        text = plain(tokens)
        if self.level:
            self.builder.heading(self.level, text)
            self.level = 0
        elif self.row is not None:
            self.row.append(text)
        else:
            is_strong = not self.marker and _is_strong(tokens)
            self.builder.paragraph(self.marker + text, is_tight=bool(self.marker), is_strong=is_strong)
            self.marker = ""

    def _code(self, token: Token) -> None:
        if self.lists or self.marker:  # it belongs to its item
            self.builder.paragraph(self.marker + token.content, is_tight=bool(self.marker))
            self.marker = ""
        else:
            self.builder.code(token.content, token.info.strip().partition(" ")[0].strip("{.}"))

    def _end_row(self) -> None:
        row, self.row = self.row or [], None
        if not self.header:
            self.header = row  # GitHub's tables always have one
        else:
            self.builder.row(self.header, row, is_first=self.is_first_row)
            self.is_first_row = False

    def _item(self) -> None:
        number = self.lists[-1]
        indent = "  " * (len(self.lists) - 1)
        if number is None:
            self.marker = f"{indent}- "
        else:
            self.marker = f"{indent}{number}. "
            self.lists[-1] = number + 1


def _is_strong(tokens: Sequence[Token]) -> bool:
    """Whether everything that is shown is bold."""
    depth = 0
    for token in tokens:
        depth += {"strong_open": 1, "strong_close": -1}.get(token.type, 0)
        if not depth and token.content.strip():
            return False
    return True
