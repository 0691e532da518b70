"""What every reader makes of a file: plain text, and the sections in it with the headings above them.

Neighbours: `markdown`, `webpage` and `pdf` fill a `Builder`; `documents` chooses among them, `chunks` cuts the
outcome.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_HEADING_CHARS = 300
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "\u00ad\n?"  # soft hyphen, with the line end that made it visible
    "|[\u200b\u2060\ufeff]"  # zero-width space, word joiner, byte order mark: no search would find a word with them
    "|[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]"  # control characters; halves of surrogate pairs
)


@dataclass(frozen=True)
class Section:
    """A stretch of a document's plain text under one heading: `text[start:end]`, without the heading's own line."""

    headings: tuple[str, ...]
    """From the outermost to the nearest."""
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """A file as plain text."""

    media_type: str
    title: str | None
    """What the document calls itself; None where it does not."""
    text: str
    sections: tuple[Section, ...]
    """In the order of the text."""


def normalise(text: str) -> str:
    r"""Return the text with `\n` as its only line end, without control and invisible characters, in Unicode's form NFC.

    >>> normalise("Cafe\u0301\r\nau\u00adto\x00")
    'Café\nauto'
    """
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text)))


def one_line(text: str, max_chars: int = MAX_HEADING_CHARS) -> str:
    """Return a title or heading on one line, cut off behind `max_chars`.

    >>> one_line("  Opening\\n hours ")
    'Opening hours'
    """
    return " ".join(normalise(text).split())[:max_chars].rstrip()


class Builder:
    """Collects headings and paragraphs in reading order and gives the document."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._path: list[tuple[int, str]] = []
        self._heading: tuple[int, int] | None = None
        self._start: int | None = None
        self._sections: list[Section] = []
        self.title: str | None = None

    @property
    def is_empty(self) -> bool:
        return not self._parts

    def heading(self, level: int, text: str) -> None:
        """Add a heading and begin its section; the first of level 1 is the title."""
        text = one_line(text)
        if not text:
            return
        self._close(level)
        self._path = [(above, name) for above, name in self._path if above < level]
        self._heading = self._add(text, "\n\n")
        self._path.append((level, text))
        if level == 1 and self.title is None:
            self.title = text

    def paragraph(self, text: str, *, is_tight: bool = False) -> None:
        """Add a paragraph; a tight one, such as a list's item, follows on the next line."""
        text = normalise(text).strip("\n").rstrip()
        if not text.strip():
            return
        start, _ = self._add(text, "\n" if is_tight and self._start is not None else "\n\n")
        if self._start is None:
            self._start = start

    def page(self, headings: tuple[str, ...], text: str) -> None:
        """Add a page as a section of its own under headings that are no part of the text."""
        self._close(0)
        self._path = list(enumerate(headings, 1))
        self.paragraph(text)

    def document(self, media_type: str) -> Document:
        """Return what was collected."""
        self._close(0)
        return Document(media_type, self.title, "".join(self._parts), tuple(self._sections))

    def _add(self, text: str, border: str) -> tuple[int, int]:
        if self._parts:
            self._parts.append(border)
            self._length += len(border)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start, self._length

    def _close(self, next_level: int) -> None:
        headings = tuple(name for _, name in self._path)
        if self._start is not None:
            self._sections.append(Section(headings, self._start, self._length))
        elif self._heading is not None and next_level <= self._path[-1][0]:
            # Nothing stands under it, so its own line is all that it says: "Call 0800 123456".
            self._sections.append(Section(headings[:-1], *self._heading))
        self._heading = self._start = None
