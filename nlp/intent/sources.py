"""Sets of utterances from tables, the hub and Rasa's YAML in one form; duplicates and contradictions are named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nlp.intent.entities import Kind, Span, plain
from nlp.tables import load_rows
from shared.errors import DataError, shown
from shared.sources.rasa import is_rasa, read_rasa
from shared.sources.stored import StoredRows
from shared.sources.tables import Row, TableForm, as_text, normalised
from shared.sources.tagged import is_tagged, read_tagged
from shared.training.data import LoadedSet

Split = Literal["train", "val", "test"]
TEXT_COLUMNS = ("text", "utterance", "sentence", "query", "question")
ENTITY_COLUMNS = ("entities", "slots", "spans")
LABEL_COLUMNS = ("label", "intent", "category")


@dataclass
class Source:
    """One set of utterances.

    Args:
        path: a table (CSV, TSV, Excel, JSON, JSON lines, parquet), a folder of tables, Rasa's NLU YAML or a folder of
            it, or the name of a Hugging Face dataset ("name" or "name:configuration").
        name: its name in reports; the last part of `path` if none is given.
        split: what all of it is for; as the set says, or "train", if none is given.
        text: column of the utterance; if none is given, the first of text, utterance, sentence, query, question.
        label: column of the intent; if none is given, the first there is of label, intent, category.
        entities: column of what is marked in the utterance; if none is given, the first there is of entities, slots,
            spans. Each mark has `start`, `end` and `entity`, and may have `value`, `role` and `group`.
        group: column whose equal values are never divided between folds, such as who said it.
        out_of_scope: none of it belongs to an intent; it needs no labels.
        out_of_scope_labels: labels that mean that an utterance belongs to no intent.
        max_examples: no more are taken, evenly over the set.
        table: how text files are written, where that cannot be recognised.
        licence: for the model card.
        origin: where the utterances come from, for the model card.
    """

    path: str
    name: str | None = None
    split: Split | None = None
    text: str | None = None
    label: str | None = None
    entities: str | None = None
    group: str | None = None
    out_of_scope: bool = False
    out_of_scope_labels: list[str] = field(default_factory=lambda: ["oos", "out_of_scope", "nlu_fallback"])
    max_examples: int | None = None
    table: TableForm = field(default_factory=TableForm)
    licence: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Example:
    """One utterance."""

    source: int
    split: Split
    """As stored; not where it is used."""
    text: str
    label: str | None
    """None where it belongs to no intent."""
    group: str | None = None
    """Whatever `Source.group` says."""
    entities: tuple[Span, ...] | None = None
    """What is marked in it; None if nobody marks entities in this set."""


@dataclass(kw_only=True)
class LoadedSource(LoadedSet):
    """A set of utterances that was read and checked."""

    examples: list[Example] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    """Utterances that have several labels, one line each."""
    synonyms: dict[str, dict[str, str]] = field(default_factory=dict)
    """Entity, or "" for all -> what is written, plain -> its value."""
    lookups: dict[str, list[str]] = field(default_factory=dict)
    """Entity -> values that it may have."""

    @property
    def is_divided(self) -> bool:
        return self.options.split is None

    @property
    def labels(self) -> list[str]:
        """This set's own labels, sorted."""
        return sorted({example.label for example in self.examples if example.label is not None})

    def counts(self) -> dict[str, int]:
        return {
            "examples": len(self.examples),
            "labels": len(self.labels),
            "out_of_scope": sum(example.label is None for example in self.examples),
            "contradictions": len(self.contradictions),
            **({"entities": marked} if (marked := sum(len(e.entities or ()) for e in self.examples)) else {}),
        }


def load_source(options: Source, index: int, cache_dir: str | None = None) -> LoadedSource:
    """Return the set without empty rows and without repeated utterances.

    Of two equal utterances the one in the more guarded split is kept (test, val, train), else the first. Where their
    labels differ nobody can know which is right: both are named, and the kept one keeps its label.

    Raises:
        DataError: nothing is there, a column is missing, or nothing is left.
    """
    name = options.name or Path(options.path).name or options.path
    place = Path(options.path).expanduser()
    is_yaml = place.exists() and is_rasa(place)
    stored = (
        read_rasa(place)
        if is_yaml
        else read_tagged(place)
        if place.exists() and is_tagged(place)
        else load_rows(options.path, cache_dir, options.table)
    )
    loaded = LoadedSource(name=name, options=options, notes=list(stored.notes))
    for reason, line in stored.left_out:
        loaded.skip(reason, line)
    first: dict[str, Example] = {}
    for split in ("test", "val", "train"):
        rows = stored.splits.get(split, [])
        for number, row in enumerate(_thinned(rows, options.max_examples), start=1):
            text, label = _read(row, options, name)
            where = f"{split} row {number}"
            raw = row.get(_column(row, options.text, TEXT_COLUMNS, name)) or ""
            if not text or (label is None and not options.out_of_scope):
                missing = "label" if text else "text"
                loaded.skip(f"without a {missing}", f"{where}: has no {missing}")
                continue
            is_known = not options.out_of_scope and not _is_out_of_scope(label, options)
            group = as_text(row.get(_column(row, options.group, (), name))) if options.group else None
            marks = _marks(row, options, name)
            entities = None if marks is None else read_marks(marks, raw, partial(_skip, loaded, where))
            example = Example(index, options.split or split, text, label if is_known else None, group, entities)
            before = first.setdefault(normalised(text), example)
            if before is example:
                loaded.examples.append(example)
            elif before.label == example.label:
                loaded.skip("that occur twice", f"{where}: {text!r} occurs twice")
            else:
                loaded.skip("with several labels", f"{where}: {text!r} occurs twice, with different labels")
                loaded.contradictions.append(f"{text!r}: {_shown(before)} (kept) and {_shown(example)}")
    if not loaded.examples:
        raise DataError(f"{name}: no utterance with a label was found in {options.path}.")
    _settle_entities(loaded, stored)
    loaded.fingerprint = _fingerprint(loaded.examples)
    return loaded


def read_marks(marks: Any, text: str, skip: Callable[[str, str], None]) -> tuple[Span, ...]:
    """Return the entities that are marked in a text, with places in the text without blanks around it.

    Args:
        marks: a list of mappings, or such a list as JSON.
        text: as it was stored.
        skip: is called with (reason, line) for each mark that cannot be used.
    """
    if isinstance(marks, str):
        try:
            marks = json.loads(marks) if marks.strip() else []
        except (ValueError, RecursionError):
            skip("entities that are no marks", f"{marks[:60]!r} is not JSON")
            return ()
    if not isinstance(marks, list | tuple):
        skip("entities that are no marks", f"{shown(marks)} is no list of marks")
        return ()
    blanks = len(text) - len(text.lstrip())
    stripped = text.strip()
    spans: list[Span] = []
    for mark in marks:
        found = _span(mark, text)
        if isinstance(found, str):
            reason, _, line = found.partition(": ")
            skip(reason, f"{shown(mark)}: {line} in {text!r}")
            continue
        start, end = max(0, found.start - blanks), min(len(stripped), found.end - blanks)
        spans.append(replace(found, start=start, end=end))
    kept: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        if kept and span.start < kept[-1].end:
            skip("entities over others", f"{stripped[span.start : span.end]!r} is in another entity of {stripped!r}")
        else:
            kept.append(span)
    return tuple(kept)


def _span(mark: Any, text: str) -> Span | str:
    """Return a mark as a span of the text as stored, or "reason: line" if it cannot be used."""
    if not isinstance(mark, Mapping):
        return "entities that are no marks: it is no mapping"
    start, end = (_whole_number(mark.get(name)) for name in ("start", "end"))
    labels = mark.get("labels")
    names = (mark.get("entity"), mark.get("label"), mark.get("type"), *(labels if isinstance(labels, list) else ()))
    entity = next((found for name in names if (found := as_text(name))), None)
    if start is None or end is None or entity is None:
        return "entities that are no marks: it has no start, end or entity"
    if not 0 <= start < end <= len(text):
        return f"entities outside of their text: {start} to {end} is no part of the {len(text)} characters"
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start == end:
        return "entities without words: there are only blanks"
    written, value = text[start:end], as_text(mark.get("value"))
    quoted = as_text(mark.get("text"))
    # A value that is as long, and is there in the text, is what somebody meant to mark, and no synonym.
    is_elsewhere = value is not None and len(value) == end - start and plain(value) != plain(written) and value in text
    if (quoted is not None and plain(quoted) != plain(written)) or is_elsewhere:
        return f"entities whose words are elsewhere: {written!r} is there, and not {quoted or value!r}"
    kind = Kind(entity, as_text(mark.get("role")), as_text(mark.get("group")))
    return Span(start, end, kind, None if value is None or plain(value) == plain(written) else value)


def _whole_number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value) if float(value).is_integer() else None
    except (ValueError, OverflowError):
        return None


def _skip(loaded: LoadedSource, where: str, reason: str, line: str) -> None:
    loaded.skip(reason, f"{where}: {line}")


def _settle_entities(loaded: LoadedSource, stored: StoredRows) -> None:
    """Say of every example what is marked in it, if the set marks anything, and keep what the set says of entities."""
    known = {span.kind.entity for example in loaded.examples for span in example.entities or ()}
    marks = any(example.entities for example in loaded.examples)
    loaded.examples[:] = [
        example if (example.entities is not None) == marks else replace(example, entities=() if marks else None)
        for example in loaded.examples
    ]
    loaded.synonyms = {"": {plain(text): value for text, value in stored.synonyms.items()}} if stored.synonyms else {}
    for example in loaded.examples:
        for span in example.entities or ():
            if span.value is not None:
                words = plain(example.text[span.start : span.end])
                before = loaded.synonyms.setdefault(span.kind.entity, {}).setdefault(words, span.value)
                if before != span.value:
                    line = f"{words!r} of {span.kind.entity} is {before!r} (kept) and {span.value!r}"
                    loaded.skip("values beside others of the same words", line)
    for entity, values in stored.lookups.items():
        if entity in known:
            loaded.lookups[entity] = values
        else:
            loaded.skip("lookups of an entity that no example marks", f"lookup {entity!r}: no example marks it")


def _marks(row: Row, options: Source, name: str) -> Any:
    """Return a row's marks; None if nobody marked any."""
    if options.entities is not None:
        return row.get(_column(row, options.entities, (), name))
    return next((row[column] for column in ENTITY_COLUMNS if row.get(column) is not None), None)


def _thinned(rows: list[Row], count: int | None) -> list[Row]:
    if count is None or len(rows) <= count:
        return rows
    return [rows[i * len(rows) // count] for i in range(count)]


def _read(row: Row, options: Source, name: str) -> tuple[str, str | None]:
    text = row.get(_column(row, options.text, TEXT_COLUMNS, name))
    if text is not None and not isinstance(text, str):
        raise DataError(f"{name}: the text column holds {text!r}; expected a text. Name the column with `text`.")
    if options.out_of_scope:
        return (text or "").strip(), None
    return (text or "").strip(), as_text(row.get(_column(row, options.label, LABEL_COLUMNS, name)))


def _is_out_of_scope(label: str | None, options: Source) -> bool:
    """Whether a label, or the part of a retrieval intent before the slash, means that it belongs to no intent."""
    return label is not None and bool({label, label.partition("/")[0]} & set(options.out_of_scope_labels))


def _column(row: dict[str, Any], wanted: str | None, known: Sequence[str], name: str) -> str:
    names = {column.strip().lower(): column for column in row} | {column: column for column in row}
    found = next((names[column] for column in ([wanted] if wanted else known) if column in names), None)
    if found is None:
        raise DataError(
            f"{name} has the columns {', '.join(sorted(row))}; expected {wanted or ' or '.join(known)}. "
            f"Name yours with {'text' if 'text' in known else 'label' if known else 'group'}: COLUMN."
        )
    return found


def _marked(example: Example) -> str:
    return "".join(f"\0{span.start}\0{span.end}\0{span.kind.name}\0{span.value}" for span in example.entities or ())


def _shown(example: Example) -> str:
    return example.label or "out of scope"


def _fingerprint(examples: Iterable[Example]) -> str:
    lines = sorted(hashlib.sha256(f"{e.split}\0{e.label}\0{e.text}{_marked(e)}".encode()).hexdigest() for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
