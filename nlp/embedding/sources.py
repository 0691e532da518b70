"""Sets of questions with their answers, and with other words in which people ask them; checked and fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp.tables import load_rows
from shared.errors import DataError
from shared.sources.splits import GUARDED
from shared.sources.tables import Row, TableForm, as_text, normalised
from shared.training.data import LoadedSet

PASSAGE_CHARS = 300
"""Of question and answer together, as nlp.knowledge embeds them; a test holds the two to each other."""
QUESTION, ANSWER, GROUP = "question", "answer", "group"
PARAPHRASES, PARAPHRASE = "paraphrases", "paraphrase"


@dataclass
class Source:
    """One set of questions with their answers.

    Args:
        path: a table (CSV, TSV, Excel, JSON, JSON lines, parquet; packed by gzip, too), a folder of tables, or the name
            of a Hugging Face dataset ("name" or "name:configuration"). Its columns: `question` and `answer`;
            `paraphrases`, a list of the same question in other words, or `paraphrase` with one of them in each row; and
            if there are several FAQs, `group`, which one it is from.
        name: its name in reports; the last part of `path` if none is given.
        table: how text files are written, where that cannot be recognised.
        licence: for the model card.
        origin: where it comes from, for the model card.
    """

    path: str
    name: str | None = None
    table: TableForm = field(default_factory=TableForm)
    licence: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Example:
    """A question in other words, and the question with the answer that it should find."""

    source: int
    row: int
    """Its place in the set."""
    group: str
    """The questions among which its own must be found, such as those of one FAQ."""
    question: str
    answer: str
    paraphrase: str

    @property
    def passage(self) -> str:
        """What the knowledge base embeds of question and answer."""
        return passage_text(self.question, self.answer)

    @property
    def place(self) -> tuple[int, str]:
        """Its group, told from those of the same name in other sets."""
        return self.source, self.group


@dataclass(kw_only=True)
class LoadedSource(LoadedSet):
    """A set that was read and checked."""

    splits: dict[str, list[Example]] = field(default_factory=dict)
    """Stored split -> examples."""
    has_groups: bool = False
    """Whether the set says which group a question is from; else it is one group."""

    @property
    def examples(self) -> list[Example]:
        """All examples, in the order of the set."""
        return sorted((each for part in self.splits.values() for each in part), key=lambda each: each.row)

    def counts(self) -> dict[str, int]:
        found = self.examples
        return {
            "examples": len(found),
            "questions": len({(each.group, each.question) for each in found}),
            "groups": len({each.group for each in found}),
        }


def passage_text(question: str, answer: str) -> str:
    """Return what the knowledge base embeds of a question with its answer.

    >>> passage_text("Can I pay by card?", "Yes,  by any.")
    'Can I pay by card?. Yes, by any.'
    """
    return " ".join(f"{question}. {answer}".split())[:PASSAGE_CHARS].rstrip()


def load_source(options: Source, index: int, cache_dir: str | None = None) -> LoadedSource:
    """Return the set without empty cells, repeated words, and words that stand for several questions of a group.

    Of two equal ones the one in the more guarded split is kept (test, val, train), else the first.

    Raises:
        DataError: nothing is there, a column is missing or holds something else, or nothing is left.
    """
    name = options.name or Path(options.path).name or options.path
    stored = load_rows(options.path, cache_dir, options.table)
    loaded = LoadedSource(name=name, options=options, notes=list(stored.notes))
    for reason, line in stored.left_out:
        loaded.skip(reason, line)
    answers: dict[tuple[str, str], Example] = {}
    asked: dict[tuple[str, str], str] = {}
    place = 0
    for split in GUARDED:
        kept = loaded.splits.setdefault(split, [])
        for number, row in enumerate(stored.splits.get(split, []), start=1):
            where = f"{split} row {number}"
            question, answer, group = _texts(row, name, where)
            loaded.has_groups |= group is not None
            if not question or not answer:
                loaded.skip(f"without {'an answer' if question else 'a question'}", where)
                continue
            words = [each for each in _paraphrases(row, name, where) if each]
            if not words:
                loaded.skip("without other words for the question", f"{where}: {question!r}")
            for text in words:
                example = Example(index, place, group or name, question, answer, text)
                place += 1
                problem = _problem(example, answers, asked)
                if problem:
                    loaded.skip(problem, f"{where}: {text!r} for {question!r}")
                else:
                    kept.append(example)
    if not any(loaded.splits.values()):
        first = f" The first that was left out: {loaded.skipped[0]}." if loaded.skipped else ""
        raise DataError(
            f"{name}: no question with an answer and other words for it was found in {options.path}.{first}"
        )
    lines = sorted("\0".join((e.group, e.question, e.answer, e.paraphrase)) for e in loaded.examples)
    loaded.fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return loaded


def _problem(
    example: Example, answers: dict[tuple[str, str], Example], asked: dict[tuple[str, str], str]
) -> str | None:
    """Return why an example is left out, None if it is not; and remember it.

    Args:
        example: the next one.
        answers: (group, question) -> the first example of it.
        asked: (group, paraphrase) -> the question that it stands for.
    """
    question, text = normalised(example.question), normalised(example.paraphrase)
    if text == question:
        return "that only repeat the question"
    if answers.setdefault((example.group, question), example).answer != example.answer:
        return "whose question has another answer in the same group"
    before = asked.get((example.group, text))
    asked.setdefault((example.group, text), question)
    if before is None:
        return None
    return "that occur twice" if before == question else "that stand for several questions of a group"


def _texts(row: Row, name: str, where: str) -> tuple[str, str, str | None]:
    """Return a row's question, answer and group; the first two may be empty, and the group None."""
    missing = [column for column in (QUESTION, ANSWER) if column not in row]
    if missing or not {PARAPHRASES, PARAPHRASE} & set(row):
        raise DataError(
            f"{name} has the columns {', '.join(sorted(row))}; expected {QUESTION}, {ANSWER}, and {PARAPHRASES} (a "
            f"list of texts) or {PARAPHRASE} (one text in each row); {GROUP} where there are several FAQs."
        )
    for column in (QUESTION, ANSWER):
        if row[column] is not None and not isinstance(row[column], str):
            raise DataError(f"{name}: {where}: {column} holds {row[column]!r}; expected a text.")
    question, answer = ((row[column] or "").strip() for column in (QUESTION, ANSWER))
    return question, answer, as_text(row.get(GROUP)) or None


def _paraphrases(row: Row, name: str, where: str) -> Iterator[str]:
    found: Any = row.get(PARAPHRASES) if PARAPHRASES in row else row[PARAPHRASE]
    if PARAPHRASES not in row and isinstance(found, str):
        found = [found]
    if found is None or (isinstance(found, str) and not found.strip()):
        return
    if not isinstance(found, list) or not all(isinstance(each, str | None) for each in found):
        raise DataError(
            f"{name}: {where}: {PARAPHRASES if PARAPHRASES in row else PARAPHRASE} holds {str(found)[:60]!r}; expected "
            f"{PARAPHRASES} with a list of texts, or {PARAPHRASE} with one text in each row, as in a CSV file."
        )
    yield from ((each or "").strip() for each in found)
