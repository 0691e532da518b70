"""A document's plain text, the sections it has, and the passages it is cut into: short enough to read for one question.

A passage knows what it is: prose, the answer to a question, a row of a table, or code. Prose is cut between paragraphs
where that gives 80 to 180 words, at sentence ends inside longer paragraphs, at spaces inside longer sentences. Every
piece is the document's own text from `start` to `end`: nothing is moved, added or repeated.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal, NamedTuple

from nlp.text import check_marks, plain_words

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
BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
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


Kind = Literal["prose", "answer", "row", "code"]
"""Running text, the answer to a question that the document asks itself, a row of a table, or code."""


@dataclass(frozen=True)
class Section:
    """A piece of a document's plain text, `text[start:end]`, with the headings above it."""

    headings: tuple[str, ...]
    """From the outermost to the nearest; their own lines are not part of the piece."""
    start: int
    end: int
    kind: Kind = "prose"
    lead: str = ""
    """What comes before it and says what it is: the question of an answer, the words that introduce code."""
    page: int | None = None
    """Of a document with pages, counted from 1."""
    cells: tuple[tuple[str, int, int], ...] = ()
    """Pieces that stay whole, with start and end counted from this one's start: of a row its cells, each with its
    column's name; of prose what is set as code."""


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


_DIVIDED = re.compile(r"(?<=[^\W\d_]{2})-\n[ \t]*(?=[^\W\d_]{2})")
_WHOLE_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def rejoined(text: str) -> str:
    r"""Return the text with the words joined that are divided at the end of a line.

    A word that has its hyphen elsewhere in the text keeps it.

    >>> rejoined("The new instal-\nlation is well-known and a well-\nknown case.")
    'The new installation is well-known and a well-known case.'
    """
    if "-\n" not in text:
        return text
    known = {word.casefold() for word in _WHOLE_WORD.findall(text) if "-" in word}

    def joined(border: re.Match[str]) -> str:
        before = _LAST_LETTERS.search(text, max(0, border.start() - 40), border.start())
        after = _FIRST_LETTERS.match(text, border.end(), border.end() + 40)
        if before is None or after is None:
            return border[0]
        hyphenated = f"{before[0]}-{after[0]}".casefold()
        return "-" if hyphenated in known or not after[0][0].islower() else ""

    return _DIVIDED.sub(joined, text)


_LAST_LETTERS = re.compile(r"[^\W\d_]+\Z")
_FIRST_LETTERS = re.compile(r"[^\W\d_]+")


def one_line(text: str, max_chars: int = MAX_HEADING_CHARS) -> str:
    """Return a title or heading on one line, cut off after `max_chars`.

    >>> one_line("  Opening\\n hours ")
    'Opening hours'
    """
    return " ".join(normalise(text).split())[:max_chars].rstrip()


_LABELS = r"(?:{})[ \t]*\d{{0,3}}[ \t]*[:.)][ \t]*(?=\S)"
_ASKED = re.compile(_LABELS.format("q|question|frage|vraag|pregunta"), re.IGNORECASE)
_ANSWERED = re.compile(_LABELS.format("a|answer|antwort|antwoord|réponse|respuesta"), re.IGNORECASE)
_QUESTION_MARK = re.compile(r"[?？؟՞][\"'”’»)]*(?=\s|$)")
MAX_QUESTION_CHARS = 300
MAX_LEAD_CHARS = 400
SHELLS = frozenset({"sh", "bash", "shell", "console", "zsh", "shell-session", "powershell", "ps1", "cmd", "bat"})
"""Languages of which each line is a command of its own."""


def is_question(text: str) -> bool:
    """Whether a heading, a term or a bold line asks something.

    >>> is_question("What does it cost?"), is_question("Costs")
    (True, False)
    """
    text = text.rstrip()
    marks = list(_QUESTION_MARK.finditer(text[-MAX_QUESTION_CHARS:]))
    return len(text) <= MAX_QUESTION_CHARS and bool(marks) and marks[-1].end() == len(text)


class _Block(NamedTuple):
    """A heading, a question, a paragraph, a row or a piece of code, in the order of the text."""

    kind: Literal["heading", "question", "lead"] | Kind
    start: int
    end: int
    part: int
    """Neighbouring paragraphs of the same part belong together."""
    headings: tuple[str, ...]
    lead: str
    page: int | None
    level: int = 0
    cells: tuple[tuple[str, int, int], ...] = ()

    def section(self, end: int | None = None, kind: Kind = "prose") -> Section:
        return Section(self.headings, self.start, end or self.end, kind, self.lead, self.page, self.cells)


class Builder:
    """Collects headings, paragraphs, rows and code in reading order and makes the document."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._path: list[tuple[int, str]] = []
        """Level and text of the headings above what comes next."""
        self._question: str | None = None
        """The question that what comes next answers."""
        self._blocks: list[_Block] = []
        self._part = 0
        self._page: int | None = None
        self._table_lead = ""
        self.title: str | None = None

    @property
    def is_empty(self) -> bool:
        return not self._parts

    @property
    def questions(self) -> list[str]:
        """The questions that have an answer so far."""
        return list(dict.fromkeys(block.lead for block in self._blocks if block.kind == "answer"))

    def heading(self, level: int, text: str) -> None:
        """Add a heading and begin its section; the first of level 1 is the title.

        What follows a heading that is a question answers it.
        """
        text = one_line(_unmarked(text)[0])
        if not text:
            return
        self.end_answer()
        self._path = [(above, name) for above, name in self._path if above < level]
        self._add("heading", text, "\n\n", level=level)
        self._path.append((level, text))
        if level == 1 and self.title is None:
            self.title = text
        if is_question(text):
            self._question = text

    def question(self, text: str) -> None:
        """Add a question that is no heading; what follows answers it, up to the next question or heading."""
        text = one_line(_unmarked(text)[0])
        if not text:
            return
        self.end_answer()
        self._add("question", text, "\n\n")
        self._question = text

    def end_answer(self) -> None:
        """What follows answers no question."""
        self._question = None
        self._part += 1

    def paragraph(self, text: str, *, is_tight: bool = False, is_strong: bool = False) -> None:
        """Add a paragraph; a tight one, such as a list item, follows on the next line.

        Args:
            text: of "Q: …" and "A: …", the latter becomes the answer to the former.
            is_tight: whether it follows on the next line.
            is_strong: whether all of it is bold: a question in bold has its answer below.
        """
        text = normalise(text).strip("\n").rstrip()
        if not text.strip():
            return
        if label := _ASKED.match(text):
            question, text = _divided(text[label.end() :])
            self.question(question)
            if not text:
                return
        elif is_strong and is_question(text):
            self.question(text)
            return
        elif self._question is not None and self._blocks[-1].kind in ("question", "heading"):
            label = _ANSWERED.match(text)
            text = text[label.end() :] if label else text
        text, places = _unmarked(text)
        follows = bool(self._blocks) and self._blocks[-1].part == self._part and self._blocks[-1].kind != "heading"
        border = "\n" if is_tight and follows else "\n\n"
        self._add("answer" if self._question else "prose", text, border, cells=places)

    def row(self, header: Sequence[str], cells: Sequence[str], *, is_first: bool = False) -> None:
        """Add a row of a table, readable alone: "Team plan: price 29 EUR; seats 10".

        Args:
            header: names of the columns; empty if the table has none.
            cells: of the row.
            is_first: whether it is the table's first; what stands above the table introduces all rows.
        """
        text, places = readable_row(header, [_unmarked(normalise(cell))[0] for cell in cells])
        if self._question is not None or not header or len(text) > _MAX_CHARS:
            self.paragraph(text, is_tight=not is_first)
        elif text.strip():
            if is_first:
                self._table_lead = self._lead()
            self._part += 1
            self._add("row", text, "\n\n" if is_first else "\n", lead=self._table_lead, cells=places)
            self._part += 1

    def code(self, text: str, language: str = "") -> None:
        """Add code as it is written; each line of a shell's is a command of its own.

        Args:
            text: one or more lines.
            language: as a fence names it.
        """
        text = normalise(text).strip("\n").rstrip()
        if self._question is not None:
            self.paragraph(text)
        elif text.strip():
            lead = self._lead()
            self._part += 1
            pieces = _commands(text) if language.lower() in SHELLS else [("", text)]
            for place, (note, command) in enumerate(pieces):
                self._add("code", command, "\n" if place else "\n\n", lead=f"{lead} {note}".strip())
            self._part += 1

    def page(self, number: int, headings: tuple[str, ...], text: str) -> None:
        """Add a page as a section of its own, under headings that are not part of the text."""
        self.end_answer()
        self._page = number
        self._path = list(enumerate(headings, 1))
        for paragraph in BLANK_LINE.split(text):
            self.paragraph(paragraph)

    def document(self, media_type: str) -> Document:
        """Return what was collected."""
        return Document(media_type, self.title, "".join(self._parts), tuple(_sections(self._blocks)))

    def _add(
        self,
        kind: Literal["heading", "question"] | Kind,
        text: str,
        border: str,
        *,
        lead: str = "",
        level: int = 0,
        cells: tuple[tuple[str, int, int], ...] = (),
    ) -> None:
        if self._parts:
            self._parts.append(border)
            self._length += len(border)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        path = self._path
        if kind == "answer":
            lead = self._question or ""
            path = path[:-1] if path and path[-1][1] == lead else path
        headings = tuple(name for _, name in path)
        self._blocks.append(_Block(kind, start, self._length, self._part, headings, lead, self._page, level, cells))

    def _lead(self) -> str:
        """Return the paragraph before, which says what comes."""
        if not self._blocks or self._blocks[-1].kind != "prose" or self._blocks[-1].part != self._part:
            return ""
        if _ITEM.match(self._parts[-1]):
            return ""
        if self._parts[-1].endswith(":"):  # it says nothing alone
            self._blocks[-1] = self._blocks[-1]._replace(kind="lead")
        return one_line(self._parts[-1][-MAX_LEAD_CHARS:], MAX_LEAD_CHARS)


def readable_row(header: Sequence[str], cells: Sequence[str]) -> tuple[str, tuple[tuple[str, int, int], ...]]:
    """Return a table's row as a line that can be read alone, and each cell's column and place in it.

    >>> readable_row(["Plan", "Price", ""], ["Team plan", "29 EUR", "popular"])
    ('Team plan: Price 29 EUR; popular', (('Plan', 0, 9), ('Price', 17, 23), ('', 25, 32)))
    >>> readable_row(["status", "when"], ["415", "a format that is not accepted"])[0]
    'status 415: when a format that is not accepted'
    >>> readable_row([], ["a", "b"])[0]
    'a | b'
    """
    if not header:
        return " | ".join(cells), ()
    text = ""
    places: list[tuple[str, int, int]] = []
    for name, cell in zip_longest(header, (one_line(cell, _MAX_CHARS) for cell in cells), fillvalue=""):
        if not cell:
            continue
        text += "" if not text else ": " if len(places) == 1 else "; "
        if name and f" {plain_words(name)} " not in f" {plain_words(cell)} ":
            text += f"{name} "
        places.append((name, len(text), len(text) + len(cell)))
        text += cell
    return text, tuple(places)


CODE_START, CODE_END = "\ufdd0", "\ufdd1"
"""Around what is set as code in a paragraph, for `Builder`; no text has these."""
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s")
_CODE = re.compile(f"{CODE_START}([^{CODE_START}{CODE_END}]*){CODE_END}|[{CODE_START}{CODE_END}]")


def _unmarked(text: str) -> tuple[str, tuple[tuple[str, int, int], ...]]:
    """Return a text without the marks of code, and where the code is.

    >>> _unmarked(f"Run {CODE_START}make{CODE_END}.")
    ('Run make.', (('code', 4, 8),))
    """
    if CODE_START not in text and CODE_END not in text:
        return text, ()
    parts, places, length, last = [], [], 0, 0
    for mark in _CODE.finditer(text):
        for part in (text[last : mark.start()], mark[1] or ""):
            parts.append(part)
            length += len(part)
        if mark[1] and mark[1].strip():
            places.append(("code", length - len(mark[1]), length))
        last = mark.end()
    return "".join((*parts, text[last:])), tuple(places)


def _divided(text: str) -> tuple[str, str]:
    """Return question and answer of a paragraph that begins with a question; the answer may come later."""
    mark = _QUESTION_MARK.search(text)
    question, answer = (text[: mark.end()], text[mark.end() :]) if mark else text.partition("\n")[::2]
    answer = answer.strip("*_ \t\n")
    label = _ANSWERED.match(answer)
    return question, answer[label.end() :] if label else answer


def _commands(text: str) -> list[tuple[str, str]]:
    r"""Return the commands of a shell's lines, each with the comments above and behind it.

    >>> _commands("# first\nmake demo\nls \\\n  -l")
    [('first', '# first\nmake demo'), ('', 'ls \\\n  -l')]
    """
    found: list[tuple[str, str]] = []
    waiting: list[str] = []
    for line in text.split("\n"):
        waiting.append(line)
        if not line.strip() or line.lstrip().startswith("#") or line.endswith("\\"):
            continue
        notes = [each.lstrip(" #") for each in waiting if each.lstrip().startswith("#")]
        found.append((" ".join(notes), "\n".join(waiting)))
        waiting = []
    if waiting:
        found.append(("", "\n".join(waiting)))
    return [(note, command.strip("\n")) for note, command in found if command.strip()]


def _sections(blocks: Sequence[_Block]) -> Iterator[Section]:
    for place, block in enumerate(blocks):
        following = blocks[place + 1] if place + 1 < len(blocks) else None
        if block.kind == "heading":
            # Nothing is below it, so its own line says it all: "Call 0800 123456".
            if following is None or (following.kind == "heading" and following.level <= block.level):
                yield block.section()
        elif block.kind == "question":
            if following is None or following.kind != "answer":
                yield block.section()
        elif block.kind == "lead":
            continue
        elif block.kind in ("row", "code"):
            yield block.section(kind=block.kind)
        elif place and blocks[place - 1].kind == block.kind and blocks[place - 1].part == block.part:
            continue  # the first of its part has taken it
        else:
            last = place
            while last + 1 < len(blocks) and blocks[last + 1][0] == block.kind and blocks[last + 1].part == block.part:
                last += 1
            cells = tuple(
                (name, start + each.start - block.start, end + each.start - block.start)
                for each in blocks[place : last + 1]
                for name, start, end in each.cells
            )
            yield replace(block.section(blocks[last].end, block.kind), cells=cells)


def split_passages(text: str, sections: Iterable[Section]) -> list[Section]:
    """Return a document's passages in the order of its text; no passage crosses a section's border."""
    return [
        replace(section, start=span.start, end=span.end, cells=_inside(section, span))
        for section in sections
        for span in _packed(_units(text, section))
    ]


def _inside(section: Section, span: _Span) -> tuple[tuple[str, int, int], ...]:
    """Return the cells of a section that lie in a piece of it, counted from that piece's start."""
    moved = section.start - span.start
    places = ((name, start + moved, end + moved) for name, start, end in section.cells)
    return tuple(place for place in places if place[1] >= 0 and place[2] <= span.end - span.start)


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
    for span in _between(text, section.start, section.end, BLANK_LINE):
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
