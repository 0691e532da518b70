"""Sets of utterances as they lie on disk or on the hub, in one plain form; duplicates and contradictions are named.

Neighbours: `rasa` and `nlp.tables` read, `data` divides the examples and feeds them to the trainer.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nlp.intent.rasa import is_rasa, read_rasa
from nlp.tables import Rows, load_rows
from shared.errors import DataError

Split = Literal["train", "val", "test"]
TEXT_COLUMNS = ("text", "utterance", "sentence", "query", "question")
LABEL_COLUMNS = ("label", "intent", "category")
_END_MARKS = " .!?…"


@dataclass
class Source:
    """One set of utterances.

    Args:
        path: CSV, TSV, JSON lines or parquet file, a folder of such files, Rasa's NLU YAML or a folder of it, or the
            name of a Hugging Face dataset ("name" or "name:configuration").
        name: how reports call it; the last part of `path` if none is given.
        split: what all of it is for; as the set says, or "train", if none is given.
        text: column of the utterance; if none is given, the first of text, utterance, sentence, query, question.
        label: column of the intent; if none is given, the first there is of label, intent, category.
        out_of_scope: none of it belongs to an intent; it needs no labels.
        out_of_scope_labels: labels that mean that an utterance belongs to no intent.
        max_examples: no more are taken, evenly over the set.
        licence: for the model card.
        origin: where the utterances come from, for the model card.
    """

    path: str
    name: str | None = None
    split: Split | None = None
    text: str | None = None
    label: str | None = None
    out_of_scope: bool = False
    out_of_scope_labels: list[str] = field(default_factory=lambda: ["oos", "out_of_scope", "nlu_fallback"])
    max_examples: int | None = None
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


@dataclass
class LoadedSource:
    """A set that was read and checked."""

    name: str
    options: Source
    examples: list[Example]
    fingerprint: str
    """SHA-256 over every utterance with its label."""
    skipped: list[str] = field(default_factory=list)
    """What was left out and why, a line each."""
    contradictions: list[str] = field(default_factory=list)
    """Utterances that stand there with several labels, a line each."""

    @property
    def labels(self) -> list[str]:
        """This set's own labels, sorted."""
        return sorted({example.label for example in self.examples if example.label is not None})

    def summary(self) -> dict[str, Any]:
        """Return what the model card says of the set."""
        return {
            "name": self.name,
            "examples": len(self.examples),
            "labels": len(self.labels),
            "out_of_scope": sum(example.label is None for example in self.examples),
            "fingerprint": self.fingerprint,
            "licence": self.options.licence,
            "origin": self.options.origin,
            "skipped": len(self.skipped),
            "contradictions": len(self.contradictions),
        }


def load_source(options: Source, index: int, cache_dir: str | None = None) -> LoadedSource:
    """Return the set without empty rows and without utterances that stand there twice.

    Of two equal utterances that in the more guarded split is kept (test, val, train), else the first. Where their
    labels differ nobody can know which is right: both are named, and the kept one keeps its label.

    Raises:
        DataError: nothing is there, a column is missing, or nothing is left.
    """
    name = options.name or Path(options.path).name or options.path
    place = Path(options.path).expanduser()
    stored = {"train": read_rasa(place)} if place.exists() and is_rasa(place) else load_rows(options.path, cache_dir)
    loaded = LoadedSource(name, options, [], "")
    first: dict[str, Example] = {}
    for split in ("test", "val", "train"):
        rows = stored.get(split, [])
        for number, row in enumerate(_thinned(rows, options.max_examples), start=1):
            text, label = _read(row, options, name)
            where = f"{split} row {number}"
            if not text or (label is None and not options.out_of_scope):
                loaded.skipped.append(f"{where}: has no {'label' if text else 'text'}")
                continue
            is_known = not options.out_of_scope and label not in options.out_of_scope_labels
            example = Example(index, options.split or split, text, label if is_known else None)
            before = first.setdefault(normalised(text), example)
            if before is example:
                loaded.examples.append(example)
            elif before.label == example.label:
                loaded.skipped.append(f"{where}: {text!r} stands there already")
            else:
                loaded.skipped.append(f"{where}: {text!r} stands there already, with another label")
                loaded.contradictions.append(f"{text!r}: {_shown(before)} (kept) and {_shown(example)}")
    if not loaded.examples:
        raise DataError(f"{name}: no utterance with a label was found in {options.path}.")
    loaded.fingerprint = _fingerprint(loaded.examples)
    return loaded


def normalised(text: str) -> str:
    """Return what two texts share that ask the same in the same words.

    >>> normalised("  What's  ON?") == normalised("what's on")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(_END_MARKS)


def _thinned(rows: Rows, count: int | None) -> Rows:
    if count is None or len(rows) <= count:
        return rows
    return [rows[i * len(rows) // count] for i in range(count)]


def _read(row: dict[str, Any], options: Source, name: str) -> tuple[str, str | None]:
    text = row.get(_column(row, options.text, TEXT_COLUMNS, name))
    if text is not None and not isinstance(text, str):
        raise DataError(f"{name}: the text column holds {text!r}; expected is a text. Name the column with `text`.")
    if options.out_of_scope:
        return (text or "").strip(), None
    label = row.get(_column(row, options.label, LABEL_COLUMNS, name))
    return (text or "").strip(), None if label is None or str(label).strip() == "" else str(label).strip()


def _column(row: dict[str, Any], wanted: str | None, known: Sequence[str], name: str) -> str:
    found = next((column for column in ([wanted] if wanted else known) if column in row), None)
    if found is None:
        raise DataError(
            f"{name} has the columns {', '.join(sorted(row))}; expected {wanted or ' or '.join(known)}. "
            f"Name yours with {'text' if 'text' in known else 'label'}: COLUMN."
        )
    return found


def _shown(example: Example) -> str:
    return example.label or "out of scope"


def _fingerprint(examples: Iterable[Example]) -> str:
    lines = sorted(hashlib.sha256(f"{e.split}\0{e.label}\0{e.text}".encode()).hexdigest() for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
