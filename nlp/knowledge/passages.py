"""A document's plain text, the sections it has, and the passages it is cut into: short enough to read for one question.

Text is cut between paragraphs where that gives 80 to 180 words, at sentence ends inside longer paragraphs, at spaces
inside longer sentences. Every piece is the document's own text from `start` to `end`: nothing is moved, added or
repeated.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nlp.text import check_marks

MAX_HEADING_CHARS = 300
MIN_WORDS, MAX_WORDS = 80, 180
"""A passage takes no more text once it has the former; the latter is the limit, 250 to 300 of a tokenizer's tokens."""
CHARS_PER_WORD = 8
"""This many characters count as a word at least: it bounds addresses, tables and languages without spaces."""
_MAX_CHARS = MAX_WORDS * CHARS_PER_WORD
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "\u00ad\n?"  # soft hyphen, with the line end that made it visible
    "|[\u200b\u2060\ufeff]"  # zero-width space, word joiner, byte order mark: no search would find a word with them
    "|[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]"  # control characters; halves of surrogate pairs
)
_WORD = re.compile(r"\S+")
_SOME_WORDS = re.compile(r"\S+(?:\s+\S+){0,7}")
_PARAGRAPH_BORDER = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE_BORDER = re.compile(
    r"(?<=[.!?…])\s++(?!»)"
    r"|(?<=[.!?…][\"'”’»)\]])\s+"
    r"|(?<=[.!?…]\s»)\s+"  # French puts a space inside its quotation marks
    r"|(?<=[。！？])"
    r"|\n(?=[^\S\n]*(?:[-*•]|\d{1,3}[.)])\s)"  # the next item of a list
)
_LINE_BORDER = re.compile(r"\n")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(«“'’])(?:[^\W\d_]|dr|mr|mrs|ms|prof|st|ste|mme|mlle|cf|ch|art|fig|no|nr|vs|vol|pp|éd|ed"
    r"|env|e\.g|i\.e|p\. ex)\.$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Section:
    """A piece of a document's plain text, `text[start:end]`, with the headings above it."""

    headings: tuple[str, ...]
    """From the outermost to the nearest; their own lines are not part of the piece."""
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """A file as plain text."""

    media_type: str
    title: str | None
    """What the document calls itself; None if it does not say."""
    text: str
    sections: tuple[Section, ...]
    """In the order of the text."""


def normalise(text: str) -> str:
    r"""Return the text with `\n` as its only line end, without control and invisible characters, in Unicode form NFC.

    >>> normalise("Cafe\u0301\r\nau\u00adto\x00")
    'Café\nauto'

    Raises:
        InputError: more combining marks in a row than any language has.
    """
    text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
    check_marks(text)
    return unicodedata.normalize("NFC", text)


def one_line(text: str, max_chars: int = MAX_HEADING_CHARS) -> str:
    """Return a title or heading on one line, cut off after `max_chars`.

    >>> one_line("  Opening\\n hours ")
    'Opening hours'
    """
    return " ".join(normalise(text).split())[:max_chars].rstrip()


class Builder:
    """Collects headings and paragraphs in reading order and makes the document."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._path: list[tuple[int, str]] = []
        """Level and text of the headings above what comes next."""
        self._heading: Section | None = None
        """The heading's own line, until the section below it ends."""
        self._start: int | None = None
        """Where the section's text starts; None while it has none."""
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
        self._heading = Section(self._headings(), *self._add(text, "\n\n"))
        self._path.append((level, text))
        if level == 1 and self.title is None:
            self.title = text

    def paragraph(self, text: str, *, is_tight: bool = False) -> None:
        """Add a paragraph; a tight one, such as a list item, follows on the next line."""
        text = normalise(text).strip("\n").rstrip()
        if not text.strip():
            return
        start, _ = self._add(text, "\n" if is_tight and self._start is not None else "\n\n")
        if self._start is None:
            self._start = start

    def page(self, headings: tuple[str, ...], text: str) -> None:
        """Add a page as a section of its own, under headings that are not part of the text."""
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
        if self._start is not None:
            self._sections.append(Section(self._headings(), self._start, self._length))
        elif self._heading is not None and next_level <= self._path[-1][0]:
            self._sections.append(self._heading)  # nothing is below it, so its own line says it all: "Call 0800 123456"
        self._heading = self._start = None

    def _headings(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._path)


def split_passages(text: str, sections: Iterable[Section]) -> list[Section]:
    """Return a document's passages in the order of its text; no passage crosses a section's border."""
    return [
        Section(section.headings, span.start, span.end)
        for section in sections
        for span in _packed(_units(text, section))
    ]


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    words: int

    def __add__(self, following: _Span) -> _Span:
        return _Span(self.start, following.end, self.words + following.words)


def _packed(units: Iterable[_Span]) -> list[_Span]:
    """Join neighbouring units while the first ones are short and the whole is not long."""
    packed: list[_Span] = []
    for unit in units:
        if packed and packed[-1].words < MIN_WORDS and packed[-1].words + unit.words <= MAX_WORDS:
            packed[-1] += unit
        else:
            packed.append(unit)
    if len(packed) > 1 and packed[-1].words < MIN_WORDS // 2 and packed[-2].words + packed[-1].words <= MAX_WORDS:
        packed[-2:] = [packed[-2] + packed[-1]]  # a rest of a few words says little alone
    return packed


def _units(text: str, section: Section) -> Iterator[_Span]:
    """Return paragraphs, long ones cut into pieces of about equal length."""
    for span in _between(text, section.start, section.end, _PARAGRAPH_BORDER):
        if span.words <= MAX_WORDS:
            yield span
            continue
        target = span.words / math.ceil(span.words / MAX_WORDS)
        yield from _joined(_pieces(text, span), target)


def _joined(pieces: Iterable[_Span], target: float) -> Iterator[_Span]:
    """Join neighbouring pieces up to about `target` words, never above `MAX_WORDS`."""
    current: _Span | None = None
    for piece in pieces:
        if current is None:
            current = piece
        elif current.words + piece.words / 2 <= target and current.words + piece.words <= MAX_WORDS:
            current += piece
        else:
            yield current
            current = piece
    if current is not None:
        yield current


def _pieces(text: str, paragraph: _Span) -> Iterator[_Span]:
    """Return sentences; cut long ones by line, long lines by words, and words no language has by length."""
    for sentence in _sentences(text, paragraph):
        if sentence.words <= MAX_WORDS:
            yield sentence
            continue
        for line in _between(text, sentence.start, sentence.end, _LINE_BORDER):
            if line.words <= MAX_WORDS:
                yield line
                continue
            for words in _SOME_WORDS.finditer(text, line.start, line.end):
                if words.end() - words.start() <= _MAX_CHARS:
                    yield _span(text, words.start(), words.end())
                    continue
                for word in _WORD.finditer(text, words.start(), words.end()):
                    yield from _cut(text, word.start(), word.end())


def _sentences(text: str, paragraph: _Span) -> Iterator[_Span]:
    start = paragraph.start
    for match in _SENTENCE_BORDER.finditer(text, paragraph.start, paragraph.end):
        begins_low = text[match.end() : match.end() + 1].islower()
        is_dot = text[match.start() - 1] == "."
        if begins_low or (is_dot and _ABBREVIATION.search(text[max(start, match.start() - 8) : match.start()])):
            continue
        if match.start() > start:
            yield _span(text, start, match.start())
        start = match.end()
    if start < paragraph.end:
        yield _span(text, start, paragraph.end)


def _cut(text: str, start: int, end: int) -> Iterator[_Span]:
    while end - start > _MAX_CHARS:
        cut = start + _MAX_CHARS
        while cut > start + _MAX_CHARS // 2 and _is_inside_character(text, cut):
            cut -= 1
        yield _span(text, start, cut)
        start = cut
    yield _span(text, start, end)


def _is_inside_character(text: str, place: int) -> bool:
    """Whether a cut here would split what people see as one character: a letter and its accent, a joined emoji."""
    return unicodedata.category(text[place]) in ("Mn", "Mc", "Me", "Cf", "Sk") or text[place - 1] == "\u200d"


def _between(text: str, start: int, end: int, border: re.Pattern[str]) -> Iterator[_Span]:
    """Return the text between borders, without blank edges."""
    for match in border.finditer(text, start, end):
        yield from _trimmed(text, start, match.start())
        start = match.end()
    yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[_Span]:
    part = text[start:end]
    inner = part.strip()
    if inner:
        start += len(part) - len(part.lstrip())
        yield _span(text, start, start + len(inner))


def _span(text: str, start: int, end: int) -> _Span:
    words = sum(1 for _ in _WORD.finditer(text, start, end))
    return _Span(start, end, max(words, math.ceil((end - start) / CHARS_PER_WORD)))
