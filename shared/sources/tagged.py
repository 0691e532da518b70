"""Utterances whose words are tagged one by one: CoNLL files, and JointBERT's folders of seq.in, seq.out and label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.errors import DataError
from shared.sources.files import walk
from shared.sources.stored import StoredRows, splits_of
from shared.sources.tables import Row

TAGGED_SUFFIXES = (".conll", ".iob", ".iob2", ".bio")
_WORDS, _TAGS, _LABELS = "seq.in", "seq.out", "label"
_COMMENT = re.compile(r"#\s*(?P<name>intent|label|text)\s*[:=]\s*(?P<value>.*?)\s*$")
_DOCSTART = "-DOCSTART-"


def is_tagged(place: Path) -> bool:
    """Whether a file is called as CoNLL files are, or a folder holds such files or JointBERT's."""
    return bool(_files(place))


def read_tagged(place: Path) -> StoredRows:
    """Return rows of `text`, `label` and `entities`; a text is its words with a blank between them.

    A CoNLL file has a word and, in the last column, its tag on each line (`Paris\tB-city`), a blank line between
    utterances, and the intent in a comment before one (`# intent: book_flight`). Tags are IOB1, IOB2 or BIOES.
    JointBERT's `seq.in`, `seq.out` and `label` have an utterance on each line, its tags and its intent. Files or
    folders called after splits are these.

    Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task"; Chen et al. 2019, "BERT
    for Joint Intent Classification and Slot Filling".

    Raises:
        DataError: a line has no tag, or words and tags are not as many.
    """
    files = _files(place)
    split_of = splits_of(place, files) if place.is_dir() else {place: None}
    stored = StoredRows()
    for file in files:
        rows = stored.splits.setdefault(split_of[file] or "train", [])
        rows += _of_lines(file) if file.name == _WORDS else _of_columns(file)
    return stored


def spans_of(words: Sequence[str], tags: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entities of words that are joined by blanks, as `start`, `end` and `entity`.

    >>> spans_of(["from", "New", "York"], ["O", "B-city", "I-city"])
    [{'start': 5, 'end': 13, 'entity': 'city'}]
    """
    spans: list[dict[str, Any]] = []
    place, before = 0, "O"
    for word, tag in zip(words, tags, strict=True):
        mark, _, entity = tag.partition("-")
        goes_on = mark in ("I", "E") and bool(spans) and before[2:] == entity and before[0] in "BI"
        if goes_on:
            spans[-1]["end"] = place + len(word)
        elif mark in ("B", "I", "S", "E") and entity:
            spans.append({"start": place, "end": place + len(word), "entity": entity})
        place += len(word) + 1
        before = tag
    return spans


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place] if place.suffix.lower() in TAGGED_SUFFIXES else []
    files = walk(place)
    return sorted(f for f in files if f.suffix.lower() in TAGGED_SUFFIXES or f.name == _WORDS)


def _of_lines(file: Path) -> Iterator[Row]:
    parts = [_lines(file), _lines(file.with_name(_TAGS)), _lines(file.with_name(_LABELS))]
    while all(part and not part[-1].strip() for part in parts):
        for part in parts:
            part.pop()
    if len({len(part) for part in parts}) > 1:
        counts = ", ".join(f"{name} {len(part)}" for name, part in zip((_WORDS, _TAGS, _LABELS), parts, strict=True))
        raise DataError(f"{file.parent} has files of different lengths ({counts} lines); expected one line each.")
    for number, (line, tagged, label) in enumerate(zip(*parts, strict=True), start=1):
        words, tags = line.split(), tagged.split()
        _check(file.with_name(_TAGS), number, tags)
        if len(words) != len(tags):
            raise DataError(f"{file} line {number} has {len(words)} words; {_TAGS} has {len(tags)} tags for them.")
        yield {"text": " ".join(words), "label": label.strip(), "entities": spans_of(words, tags)}


def _of_columns(file: Path) -> Iterator[Row]:
    words: list[str] = []
    tags: list[str] = []
    said: dict[str, str] = {}
    for number, line in enumerate([*_lines(file), ""], start=1):
        comment = _COMMENT.match(line) if not words else None
        if comment:
            said[comment["name"]] = comment["value"]
        elif not line.strip() or line.startswith(_DOCSTART):
            if words:
                yield _row(words, tags, said)
            if words or not line.strip():
                words, tags, said = [], [], {} if words else said
        elif line.startswith("#") and not words and "\t" not in line:
            continue
        else:
            cells = line.split("\t") if "\t" in line else line.split()
            if len(cells) < 2:
                raise DataError(
                    f"{file} line {number}: {line.strip()!r} has no tag; expected a word, a tab and its tag."
                )
            _check(file, number, cells[-1:])
            words.append(cells[0].strip())
            tags.append(cells[-1].strip())


def _row(words: list[str], tags: list[str], said: dict[str, str]) -> Row:
    text = " ".join(words)
    marks = spans_of(words, tags)
    written = said.get("text")
    if written is not None and "".join(written.split()) == "".join(text.split()):
        places = _places(words, written)
        starts, ends, place = {}, {}, 0
        for word, (start, end) in zip(words, places, strict=True):
            starts[place], ends[place + len(word)] = start, end
            place += len(word) + 1
        marks = [{**mark, "start": starts[mark["start"]], "end": ends[mark["end"]]} for mark in marks]
        text = written
    return {"text": text, "label": said.get("intent", said.get("label")), "entities": marks}


def _places(words: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Return where each word is in a text that has the same characters but for blanks."""
    found, place = [], 0
    for word in words:
        while text[place].isspace():
            place += 1
        end = place
        for character in word:
            while text[end] != character:
                end += 1
            end += 1
        found.append((place, end))
        place = end
    return found


def _check(file: Path, number: int, tags: Sequence[str]) -> None:
    wrong = next((tag for tag in tags if not re.fullmatch(r"O|[BIES]-.+", tag.strip())), None)
    if wrong is not None:
        raise DataError(
            f"{file} line {number}: the tag {wrong!r} is not understood; expected O, B-entity or I-entity, and S- or "
            "E- as in BIOES."
        )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{file} is missing: {_WORDS}, {_TAGS} and {_LABELS} go together.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8: {error}") from error
