"""Sets of questions from SQuAD's nested JSON, tables and the hub in one form, checked and fingerprinted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nlp.tables import load_rows
from shared.errors import ConfigError, DataError
from shared.sources.squad import read_squad
from shared.training.data import LoadedSet

MAX_WRONG_SHARE = 0.01


@dataclass
class Source:
    """One set of questions with passages.

    Args:
        path: a file in SQuAD's JSON (v1 or v2), JSON, JSON lines or parquet file with question, context and answers
            {text, answer_start}, a folder of such files, or the name of a Hugging Face dataset.
        name: its name in reports; the file's stem if none is given.
        split_by: what is never in two splits: all questions of one "title", or of one "context".
        val_share: share of the titles or contexts that validates; the data module's own if not given.
        test_share: share held back for the final test; the data module's own if not given.
        epoch_share: of its training questions, how many are drawn for each epoch: less for a large or noisy set.
        licence: for the model card.
        origin: where the questions come from, for the model card.
    """

    path: str
    name: str | None = None
    split_by: Literal["title", "context"] = "context"
    val_share: float | None = None
    test_share: float | None = None
    epoch_share: float = 1.0
    licence: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Example:
    """One question about one context."""

    id: str
    source: int
    title: str
    question: str
    context: str
    texts: tuple[str, ...]
    """Right answers as they are in the context; empty if it has none."""
    starts: tuple[int, ...]
    """Where each starts, in characters."""

    @property
    def is_answerable(self) -> bool:
        return bool(self.texts)


@dataclass(kw_only=True)
class LoadedSource(LoadedSet):
    """A set of questions that was read and checked."""

    splits: dict[str, list[Example]] = field(default_factory=dict)
    """Stored split -> examples."""

    def counts(self) -> dict[str, int]:
        examples = [example for part in self.splits.values() for example in part]
        return {"examples": len(examples), "unanswerable": sum(not example.is_answerable for example in examples)}


def load_source(options: Source, index: int, cache_dir: str | None = None) -> LoadedSource:
    """Return the set, each answer checked against its context; exact duplicates are left out and named.

    Raises:
        DataError: nothing can be read, a column is missing, or more than 1 % of the answers are not where they
            are said to be.
        ConfigError: an option cannot be.
    """
    name = options.name or Path(options.path).stem or options.path
    if not 0 < options.epoch_share <= 1:
        raise ConfigError(f"{name}: epoch_share must be above 0 and at most 1; came {options.epoch_share}.")
    place = Path(options.path).expanduser()
    stored = read_squad(place) or load_rows(options.path, cache_dir)
    loaded = LoadedSource(name=name, options=options, notes=list(stored.notes))
    seen: set[tuple[str, str, tuple[int, ...]]] = set()
    wrong = total = 0
    for split, rows in stored.splits.items():
        kept = loaded.splits.setdefault(split, [])
        for i, row in enumerate(rows):
            total += 1
            example = _example(row, index, f"{name}-{split}-{i}", name)
            problem = _problem(example)
            wrong += problem is not None
            key = (example.question, example.context, example.starts)
            if problem or key in seen:
                reason = "whose answer is wrong" if problem else "that occur twice"
                loaded.skip(reason, f"{split} row {i}: {problem or 'occurs twice'}")
                continue
            seen.add(key)
            kept.append(example)
    if wrong > MAX_WRONG_SHARE * total:
        raise DataError(f"{name}: {wrong} of {total} rows are wrong, the first: {loaded.skipped[0]}. "
                        "answer_start counts characters of the context, from 0.")  # fmt: skip
    if not any(loaded.splits.values()):
        raise DataError(f"{name}: no question was found in {options.path}.")
    loaded.fingerprint = _fingerprint(example for part in loaded.splits.values() for example in part)
    return loaded


def _example(row: dict[str, Any], source: int, fallback_id: str, name: str) -> Example:
    answers = row.get("answers")
    if isinstance(answers, str):  # as a dataset has them
        try:
            answers = json.loads(answers)
        except (ValueError, RecursionError):
            answers = None  # said below
    if isinstance(answers, list):  # a list of {text, answer_start}
        answers = {"text": [a["text"] for a in answers], "answer_start": [a["answer_start"] for a in answers]}
    if not (isinstance(answers, dict) and isinstance(row.get("question"), str) and isinstance(row.get("context"), str)):
        raise DataError(
            f"{name}: a row has the columns {sorted(row)}; expected question, context and answers with text and "
            "answer_start, as in SQuAD."
        )
    return Example(
        id=str(row.get("id") or fallback_id),
        source=source,
        title=str(row.get("title") or ""),
        question=row["question"],
        context=row["context"],
        texts=tuple(answers.get("text") or ()),
        starts=tuple(int(start) for start in answers.get("answer_start") or ()),
    )


def _problem(example: Example) -> str | None:
    if not example.question.strip() or not example.context.strip():
        return "the question or the context is empty"
    if len(example.texts) != len(example.starts):
        return f"{len(example.texts)} answers have {len(example.starts)} places"
    for text, start in zip(example.texts, example.starts, strict=True):
        if not text or start < 0 or example.context[start : start + len(text)] != text:
            return f"the answer {text[:40]!r} is not at {start}"
    return None


def _fingerprint(examples: Iterable[Example]) -> str:
    lines = sorted(
        hashlib.sha256("\0".join((e.question, e.context, *map(str, e.starts), *e.texts)).encode()).hexdigest()
        for e in examples
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
