"""Reviewed records as examples to learn from: what reviewers agree on, with where each example is from.

The one place where reviews become data: `percept review dataset` and `percept improve` both take it from here.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.bundle.read import Bundle
from shared.dataset.layout import LICENCE, PLACE, SHA256, SOURCE, TIME
from shared.errors import ConfigError
from shared.personal import masked
from shared.records.judging import agreed, opinion_of
from shared.records.reviewing import reviewed
from shared.records.store import Store
from shared.sources.tables import Row, normalised

OUT_OF_SCOPE = "oos"
"""The label of an utterance that no intent fits, as `percept fit intent` reads it."""
NAMES_OF_OUT_OF_SCOPE = frozenset({OUT_OF_SCOPE, "out_of_scope", "nlu_fallback"})
"""What data and people call it."""
TASKS = ("intent", "tagging", "qa")
_NAMED = 3


@dataclass(frozen=True)
class Example:
    """One input with what reviewers agree on."""

    key: str
    """The same for equal inputs: the text without case, spaces and marks at its end, or the SHA-256 of the photo."""
    labels: tuple[str, ...]
    """The right ones; () where nothing that is known fits, and of answers."""
    row: Row
    """Its columns, as `percept fit` reads them, with those of the provenance."""
    records: int = 1
    """That had this input."""

    @property
    def group(self) -> str | None:
        """Hash of the subject; None if it has none."""
        found: str | None = self.row["group"]
        return found


@dataclass
class Examples:
    """What reviews come to."""

    task: str
    examples: list[Example]
    """In the order of their records."""
    records: int
    """That somebody reviewed."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> records that became no example."""
    rows_left_out: list[Row] = field(default_factory=list)
    """Of left_out.parquet."""

    def leave_out(self, row: Row, reason: str, *, step: str = "review", count: int = 1) -> None:
        """Note that something of the reviews is no example, and why; without its content."""
        self.left_out[reason] += count
        shown = {SOURCE: row[SOURCE], PLACE: row[PLACE], "step": step, "reason": reason, "row": {}}
        self.rows_left_out.append(shown)

    @property
    def columns(self) -> dict[str, str]:
        """Column -> kind."""
        inputs = {
            "intent": {"text": "text", "label": "text"},
            "tagging": {"image": "image", "labels": "texts"},
            "qa": {"question": "text", "context": "text", "answers": "json"},
        }[self.task]
        told = ("group", "request_id", "reviewer", "reviewed", "reason", SOURCE, PLACE, TIME, LICENCE, SHA256)
        return {**inputs, **dict.fromkeys(told, "text"), "consent": "bool"}


def examples_of(store: Store, bundle: Bundle, *, since: datetime | None = None) -> Examples:
    """Return what reviewers agree on of a bundle's model as examples.

    Left out, and counted: what was set aside, what reviewers do not agree on by a majority, records without their
    input, those of forgotten subjects, and inputs that were given different labels. Equal inputs are one example.
    Personal data are masked, as they were when the record was written.

    Args:
        store: of the records and reviews.
        bundle: whose model it is.
        since: UTC without a zone; reviewed from then on.

    Raises:
        ConfigError: the bundle's task has no records.
        StoreError: the store cannot be read.
    """
    task = bundle.config.task
    check_task(bundle)
    rows = reviewed(store, bundle.config.name, since=since)
    rows = [row for row in rows if row["task"] == task]
    found = Examples(task, [], len(rows))
    subjects = sorted({row["subject"] for row in rows if row["subject"] is not None})
    hashes = dict(zip(subjects, store.hashes(subjects), strict=True))
    forgotten = store.forgotten()
    by_key: dict[str, list[Example]] = defaultdict(list)
    for record in rows:
        group = hashes.get(record["subject"])
        row = _provenance(record, group)
        if group in forgotten:
            found.leave_out(row, "of a subject that is to be forgotten")
            continue
        if record["consent"] is False:
            found.leave_out(row, "without consent")
            continue
        said = _agreed(record["reviews"])
        if isinstance(said, str):
            found.leave_out(row, said)
            continue
        example = _MAKE[task](record, said, row)
        if isinstance(example, str):
            found.leave_out(row, example)
        else:
            by_key[example.key].append(example)
    for same in by_key.values():
        if len({_said(each) for each in same}) > 1:
            for each in same:
                found.leave_out(each.row, "with several labels for one input")
            continue
        found.examples.append(Example(same[0].key, same[0].labels, same[0].row, len(same)))
    return found


def check_task(bundle: Bundle) -> None:
    """Refuse a bundle of whose task no records are kept; raises ConfigError."""
    if bundle.config.task not in TASKS:
        raise ConfigError(f"{bundle.path} is a bundle for {bundle.config.task}, of which no records are kept. Name one "
                          f"for {', '.join(TASKS)}.")  # fmt: skip


def counted(left_out: Mapping[str, int]) -> list[str]:
    """Return how many were left out and why, the most frequent reason first.

    >>> counted({"set aside": 2, "whose input was not kept": 1})
    ['2 set aside', '1 whose input was not kept']
    """
    return [f"{count:,} {reason}" for reason, count in sorted(left_out.items(), key=lambda each: -each[1])]


def _agreed(reviews: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...] | None, str | None] | str:
    """Return labels and answer that more than half of the reviewers gave, or why there are none."""
    if all(opinion_of(said) is None for said in reviews):
        return "set aside"
    best = agreed(reviews)
    if best is None:
        return "on which reviewers do not agree"
    return opinion_of(best) if best["labels"] is not None else None, best["answer"]


def _provenance(record: Mapping[str, Any], group: str | None) -> Row:
    said = record["reviews"]
    return {
        "group": group,
        "request_id": record["request_id"],
        "reviewer": ", ".join(sorted({each["reviewer"] for each in said})),
        "reviewed": _iso(max(each["time"] for each in said)),
        "reason": said[-1]["reason"],
        "consent": record["consent"],
        SOURCE: f"reviews of {record['model']}",
        PLACE: f"record {record['id']}",
        TIME: _iso(record["time"]),
        LICENCE: "unknown",
    }


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=UTC).isoformat(timespec="seconds")


def _said(example: Example) -> Any:
    return example.labels if example.row.get("answers") is None else str(example.row["answers"])


_Made = Example | str
"""An example, or why there is none."""


def _intent(record: Mapping[str, Any], said: tuple[tuple[str, ...] | None, str | None], row: Row) -> _Made:
    labels, _ = said
    text = masked(record["text"] or "").strip()
    if not text:
        return "whose input was not kept"
    if labels is None or len(labels) > 1:
        return "without one intent"
    labels = () if set(labels) <= NAMES_OF_OUT_OF_SCOPE else labels
    label = labels[0] if labels else OUT_OF_SCOPE
    return Example(normalised(text), labels, {"text": text, "label": label, **row, SHA256: _sha256(text.encode())})


def _photo(record: Mapping[str, Any], said: tuple[tuple[str, ...] | None, str | None], row: Row) -> _Made:
    labels, _ = said
    if record["photo"] is None:
        return "whose input was not kept"
    if not labels:
        return "without a tag, which `percept fit tagging` cannot learn from"
    digest = _sha256(record["photo"])
    image = {"bytes": record["photo"], "path": f"{digest[:16]}.jpg"}
    return Example(digest, labels, {"image": image, "labels": list(labels), **row, SHA256: digest})


def _answer(record: Mapping[str, Any], said: tuple[tuple[str, ...] | None, str | None], row: Row) -> _Made:
    _, answer = said
    question, context = masked(record["text"] or "").strip(), masked(record["context"] or "")
    if not question or not context.strip():
        return "whose input was not kept"
    if answer is None:
        return "without an answer"
    place = context.find(answer.strip()) if answer.strip() else 0
    if place < 0:
        return "whose answer is not in the text"
    answers = (
        {"text": [answer.strip()], "answer_start": [place]} if answer.strip() else {"text": [], "answer_start": []}
    )
    content = {"question": question, "context": context, "answers": answers}
    return Example(f"{normalised(question)}\n{context}", (), {**content, **row, SHA256: _sha256(str(content).encode())})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_MAKE = {"intent": _intent, "tagging": _photo, "qa": _answer}
