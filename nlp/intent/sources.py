"""Sets of utterances from tables, the hub and Rasa's YAML in one form; duplicates and contradictions are named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nlp.tables import load_rows
from shared.errors import DataError
from shared.sources.rasa import is_rasa, read_rasa
from shared.sources.tables import Row, TableForm, as_text, normalised
from shared.training.data import LoadedSet

Split = Literal["train", "val", "test"]
TEXT_COLUMNS = ("text", "utterance", "sentence", "query", "question")
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


@dataclass(kw_only=True)
class LoadedSource(LoadedSet):
    """A set of utterances that was read and checked."""

    examples: list[Example] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    """Utterances that have several labels, one line each."""

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
    stored = read_rasa(place) if is_yaml else load_rows(options.path, cache_dir, options.table)
    loaded = LoadedSource(name=name, options=options, notes=list(stored.notes))
    for reason, line in stored.left_out:
        loaded.skip(reason, line)
    first: dict[str, Example] = {}
    for split in ("test", "val", "train"):
        rows = stored.splits.get(split, [])
        for number, row in enumerate(_thinned(rows, options.max_examples), start=1):
            text, label = _read(row, options, name)
            where = f"{split} row {number}"
            if not text or (label is None and not options.out_of_scope):
                missing = "label" if text else "text"
                loaded.skip(f"without a {missing}", f"{where}: has no {missing}")
                continue
            is_known = not options.out_of_scope and not _is_out_of_scope(label, options)
            group = as_text(row.get(_column(row, options.group, (), name))) if options.group else None
            example = Example(index, options.split or split, text, label if is_known else None, group)
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
    loaded.fingerprint = _fingerprint(loaded.examples)
    return loaded


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


def _shown(example: Example) -> str:
    return example.label or "out of scope"


def _fingerprint(examples: Iterable[Example]) -> str:
    lines = sorted(hashlib.sha256(f"{e.split}\0{e.label}\0{e.text}".encode()).hexdigest() for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
