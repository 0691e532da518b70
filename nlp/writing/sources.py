"""Sets of answers with the sentences that people, or a larger writer, made of them; checked and fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp.tables import load_rows
from nlp.writing.checking import problem
from nlp.writing.wording import Ask, ask, blanked, marked
from shared.errors import DataError
from shared.training.data import LoadedSet


@dataclass
class Source:
    """One set of answers with sentences.

    Args:
        path: a table with question, context with the answer between two pairs of asterisks, and sentence; or with
            answers {text, answer_start} as in SQuAD instead of the asterisks. A file, a folder of files, such as
            `percept batch` writes, or the name of a Hugging Face dataset.
        name: its name in reports; the file's stem if none is given.
        licence: for the model card.
        origin: where it comes from, for the model card.
    """

    path: str
    name: str | None = None
    licence: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Example:
    """One answer, and the sentence that it should become."""

    source: int
    context: str
    """What is never in two splits."""
    ask: Ask
    written: str
    """The sentence, with a blank in place of the answer."""

    @property
    def sentence(self) -> str:
        """The sentence with the answer in it."""
        return self.ask.filled(self.written)


@dataclass(kw_only=True)
class LoadedSource(LoadedSet):
    """A set that was read and checked."""

    splits: dict[str, list[Example]] = field(default_factory=dict)
    """Stored split -> examples."""

    def counts(self) -> dict[str, int]:
        return {"examples": sum(map(len, self.splits.values()))}


def load_source(options: Source, index: int, cache_dir: str | None = None) -> LoadedSource:
    """Return the set without what must not be learned: sentences that lack the answer, or say more than their text.

    Raises:
        DataError: nothing is there, a column is missing, or nothing is left.
    """
    name = options.name or Path(options.path).stem or options.path
    stored = load_rows(options.path, cache_dir)
    loaded = LoadedSource(name=name, options=options, notes=list(stored.notes))
    seen: set[tuple[str, str]] = set()
    for split, rows in stored.splits.items():
        kept = loaded.splits.setdefault(split, [])
        for number, row in enumerate(rows, start=1):
            if "sentence" in row and not row["sentence"]:
                loaded.skip("without a sentence", f"{split} row {number}")  # what `percept batch` left to be quoted
                continue
            asked, sentence, context = _read(row, name, f"{split} row {number}")
            written = blanked(sentence, asked.answer)
            where = f"{split} row {number}: {sentence!r}"
            if written is None:
                loaded.skip("without the answer in the sentence, word for word and once", where)
            elif (wrong := problem(asked, written)) is not None:
                loaded.skip("whose sentence a reader could not trust", f"{where}: {wrong}")
            elif (asked.prompt, written) in seen:
                loaded.skip("that occur twice", where)
            else:
                seen.add((asked.prompt, written))
                kept.append(Example(index, context, asked, written))
    if not any(loaded.splits.values()):
        first = f" The first: {loaded.skipped[0]}." if loaded.skipped else ""
        raise DataError(f"{name}: no sentence to learn from was found in {options.path}.{first}")
    lines = sorted(f"{e.ask.prompt}\0{e.written}" for part in loaded.splits.values() for e in part)
    loaded.fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return loaded


def _read(row: Mapping[str, Any], name: str, where: str) -> tuple[Ask, str, str]:
    """Return a row's question with its answer, its sentence, and its context."""
    question, context, sentence = (row.get(column) or "" for column in ("question", "context", "sentence"))
    columns = f"{name}: {where} has the columns {sorted(row)}"
    if not all(isinstance(each, str) and each.strip() for each in (question, context, sentence)):
        raise DataError(f"{columns}; expected question, context and sentence, each with a text.")
    if row.get("answers") is None:
        found = marked(context)
        if found is None:
            raise DataError(
                f"{columns}, and its answer is not marked: expected asterisks in the context, as in "
                "'Ada keeps **the light**.', or answers with text and answer_start."
            )
        return ask(question, *found), sentence, found[0]
    text, start = _answer(row["answers"])
    if not isinstance(text, str) or not isinstance(start, int) or context[start : start + len(text)] != text:
        raise DataError(f"{name}: {where}: the answer {str(text)[:40]!r} is not at {start} of its context.")
    return ask(question, context, start, start + len(text)), sentence, context


def _answer(answers: Any) -> tuple[Any, Any]:
    """Return text and start of the first answer, whether they are lists, as in SQuAD, or not."""
    first = answers[0] if isinstance(answers, list) and answers else answers
    if not isinstance(first, Mapping):
        return None, None
    found = [first.get("text"), first.get("answer_start")]
    return tuple(each[0] if isinstance(each, list) and each else each for each in found)  # type: ignore[return-value]
