"""Sections to passages: pieces of a document that are short enough to be read for one question.

Cut at paragraph borders where that gives 80 to 180 words, at sentence ends within longer paragraphs, at spaces within
longer sentences. A passage is the document's own text from `start` to `end`: nothing is moved, added or repeated.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nlp.knowledge.sections import Section

MIN_WORDS, MAX_WORDS = 80, 180
"""A passage that has the former takes no more; the latter is the most, 250 to 300 of a tokenizer's tokens."""
CHARS_PER_WORD = 8
"""Characters that count as a word at least: a bound for addresses, tables and languages that set no spaces."""
_MAX_CHARS = MAX_WORDS * CHARS_PER_WORD
_WORD = re.compile(r"\S+")
_SOME_WORDS = re.compile(r"\S+(?:\s+\S+){0,7}")
_PARAGRAPH_BORDER = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE_BORDER = re.compile(
    r"(?<=[.!?…])\s++(?!»)"
    r"|(?<=[.!?…][\"'”’»)\]])\s+"
    r"|(?<=[.!?…]\s»)\s+"  # French sets a space inside its quotation marks
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
class Chunk:
    """A passage's place: `text[start:end]`, with the headings above it."""

    headings: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    words: int


def split_passages(text: str, sections: Iterable[Section]) -> list[Chunk]:
    """Return the passages of a document in the order of its text; no passage reaches over a section's border."""
    return [
        Chunk(section.headings, span.start, span.end) for section in sections for span in _packed(_units(text, section))
    ]


def _packed(units: Iterable[_Span]) -> list[_Span]:
    """Join neighbouring units while the first ones are short and the whole is not long."""
    packed: list[_Span] = []
    for unit in units:
        last = packed[-1] if packed else None
        if last and last.words < MIN_WORDS and last.words + unit.words <= MAX_WORDS:
            packed[-1] = _Span(last.start, unit.end, last.words + unit.words)
        else:
            packed.append(unit)
    if len(packed) > 1 and packed[-1].words < MIN_WORDS // 2:
        last, rest = packed[-2], packed[-1]
        if last.words + rest.words <= MAX_WORDS:  # a rest of a few words says little alone
            packed[-2:] = [_Span(last.start, rest.end, last.words + rest.words)]
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
            current = _Span(current.start, piece.end, current.words + piece.words)
        else:
            yield current
            current = piece
    if current is not None:
        yield current


def _pieces(text: str, paragraph: _Span) -> Iterator[_Span]:
    """Return sentences; long ones by line; long lines by word; words that no language has, by length."""
    for sentence in _sentences(text, paragraph):
        if sentence.words <= MAX_WORDS:
            yield sentence
            continue
        for line in _between(text, sentence.start, sentence.end, _LINE_BORDER):
            if line.words <= MAX_WORDS:
                yield line
                continue
            for match in _SOME_WORDS.finditer(text, line.start, line.end):
                yield from _parts(text, match.start(), match.end())


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


def _parts(text: str, start: int, end: int) -> Iterator[_Span]:
    """Return a few words, each alone where they are longer than a passage may be."""
    if end - start > _MAX_CHARS:
        for match in _WORD.finditer(text, start, end):
            yield from _cut(text, match.start(), match.end())
    else:
        yield _span(text, start, end)


def _cut(text: str, start: int, end: int) -> Iterator[_Span]:
    while end - start > _MAX_CHARS:
        cut = start + _MAX_CHARS
        while cut > start + _MAX_CHARS // 2 and _belongs_to_the_one_before(text, cut):
            cut -= 1
        yield _span(text, start, cut)
        start = cut
    yield _span(text, start, end)


def _belongs_to_the_one_before(text: str, place: int) -> bool:
    """Whether what people see as one character would be cut in two: a letter and its accent, a joined emoji."""
    return unicodedata.category(text[place]) in ("Mn", "Mc", "Me", "Cf", "Sk") or text[place - 1] == "\u200d"


def _between(text: str, start: int, end: int, border: re.Pattern[str]) -> Iterator[_Span]:
    """Return what stands between borders, without blank edges."""
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
