"""Sets of questions from SQuAD's nested JSON, tables and the hub in one form, checked and fingerprinted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nlp.tables import StoredRows, load_rows, splits_of, table_files
from shared.errors import ConfigError, DataError
from shared.sources.charsets import find_charset
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
    stored = _squad(place) or load_rows(options.path, cache_dir)
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


def _squad(place: Path) -> StoredRows | None:
    """Return flat rows of a file in SQuAD's nested form, or of a folder of such files; None for anything else."""
    files = table_files(place) if place.exists() else []
    if not files or {file.suffix.lower() for file in files} != {".json"}:
        return None
    nested = {file: _nested(file) for file in files}
    if not any(nested.values()):
        return None
    stored = StoredRows()
    split_of = splits_of(place, files)
    for file, rows in nested.items():
        if rows is None:
            raise DataError(f"{place}: {file.name} is not in SQuAD's form, as the others are. Move it away.")
        stored.splits.setdefault(split_of[file] or "train", []).extend(rows)
    if place.is_dir():
        told = "; ".join(
            f"{split_of[file] or 'train'} from {file.name} ({len(nested[file] or ()):,})" for file in files
        )
        stored.notes.append(f"splits: {told}")
    return stored


def _nested(file: Path) -> list[dict[str, Any]] | None:
    """Return flat rows of a file in SQuAD's nested form; None where it is something else."""
    try:
        content = json.loads(file.read_text(encoding=find_charset(file)[0]))
    except RecursionError as error:
        raise DataError(f"{file} is not JSON that can be read: it is nested too deeply.") from error
    except (OSError, ValueError):
        return None  # JSON lines perhaps
    articles = content.get("data") if isinstance(content, dict) else None
    if not isinstance(articles, list) or not any(isinstance(a, dict) and "paragraphs" in a for a in articles):
        return None
    try:
        return list(_flat(articles))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} has `data` but is not in SQuAD's form ({error!r}). Expected data[].paragraphs[] with context and "
            "qas[] of id, question and answers[] of text and answer_start."
        ) from error


def _flat(articles: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [] if asked.get("is_impossible") else asked["answers"]
                yield {
                    "id": asked.get("id"),
                    "title": article.get("title"),
                    "question": asked["question"],
                    "context": paragraph["context"],
                    "answers": {
                        "text": [answer["text"] for answer in answers],
                        "answer_start": [answer["answer_start"] for answer in answers],
                    },
                }


def _example(row: dict[str, Any], source: int, fallback_id: str, name: str) -> Example:
    answers = row.get("answers")
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
