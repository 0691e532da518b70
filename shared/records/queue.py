"""The queue for reviewers: which records of a model are worth a person's look first, and why.

All of it is read from the newest records, at most `MOST_RECORDS`, of which only small columns come into memory.
Records with identical inputs are one item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
import sqlalchemy as sa

from shared.intervals import effective, wilson
from shared.records.judging import NO_ANSWER, agreed, is_right, opinion_of
from shared.records.store import Store
from shared.records.tables import FEEDBACK, FINDINGS, RECORDS, REVIEWS

Why = Literal["disagreed", "group", "shadow", "uncertain", "audit", "reviewers"]
"""Somebody says that the answer is wrong; it is in a new group; a candidate answered something else; the model was not
sure; drawn at random; two reviewers disagree."""
REASONS: tuple[Why, ...] = get_args(Why)
MOST_RECORDS = 20_000
"""The newest of a model; older ones are not offered."""
MOST_REVIEWS = 50_000
AUDIT_SHARE = 0.1
"""Of what is shown, and at most of all records, is drawn at random."""
LOW_CONFIDENCE = 0.6
"""An answer below it is uncertain."""
NEAR = 0.2
"""No answer is uncertain where the score was at most so much below the least with which one was given."""
_EVERY = round(1 / AUDIT_SHARE)
_SHOWN = tuple(column for column in RECORDS.c if column.name not in ("features", "photo"))


@dataclass(frozen=True)
class Item:
    """One input to be looked at."""

    record: dict[str, Any]
    """The record's columns without features and photo, and `has_photo`."""
    reason: Why
    group: str | None
    """Name of the new group that it is in."""
    said: dict[str, Any] | None
    """What speaks against the answer: `labels` and `answer`, of the newest feedback or of the candidate."""
    feedback: list[dict[str, Any]]
    reviews: list[dict[str, Any]]
    """Of all reviewers, the oldest first, on this record or one with the same input."""
    stands_for: int
    """Records with this input, itself among them."""


@dataclass(frozen=True)
class Audit:
    """How good the answers are by a random sample: nothing decided what is in it but a hash of the record's id."""

    count: int
    right: float | None
    low: float | None
    high: float | None
    """Ends of the 95 % interval (Wilson)."""


@dataclass(frozen=True)
class Queue:
    """What a reviewer has before them."""

    task: str | None
    """None without records."""
    records: int
    """Looked at."""
    with_inputs: int
    """Of these, such as have a text or a photo."""
    items: list[Item]
    counts: dict[str, int]
    """Reason -> items that are left."""
    left: int
    """Items that are worth a look or drawn."""
    done_today: int
    """Reviews of this reviewer since midnight, UTC."""
    labels: list[str]
    """In the records."""
    reviewed_labels: list[str]
    """That reviewers gave."""
    audit: Audit


@dataclass(slots=True)
class _Same:
    """Records with one input."""

    rows: list[Any]
    """The newest first."""
    drawn: Any
    """The record that is drawn first."""
    place: float
    """Where that is in the random order."""
    reviews: list[dict[str, Any]] = field(default_factory=list)
    is_mine: bool = False


def draw(record: int) -> float:
    """Return where a record is in the random order of all, from 0 to 1.

    >>> 0.09 < sum(draw(record) < 0.1 for record in range(10_000)) / 10_000 < 0.11
    True
    """
    digest = hashlib.sha256(f"percept audit {record}".encode()).digest()
    return float(int.from_bytes(digest[:8], "big") / 2**64)


def known_models(store: Store) -> list[tuple[str, str]]:
    """Return name and task of the models of the newest records."""
    columns = (RECORDS.c.model, RECORDS.c.task)
    newest = sa.select(*columns).where(RECORDS.c.shadow_of.is_(None)).order_by(RECORDS.c.id.desc())
    part = newest.limit(MOST_RECORDS).subquery()
    with store.reading() as connection:
        return sorted((name, task) for name, task in connection.execute(sa.select(part).distinct()))


def task_of(store: Store, model: str) -> str | None:
    """Return the task of a model by its newest record; None if there is none."""
    query = sa.select(RECORDS.c.task).where(RECORDS.c.model == model).order_by(RECORDS.c.id.desc()).limit(1)
    with store.reading() as connection:
        found: str | None = connection.scalar(query)
        return found


def known_labels(store: Store, model: str) -> set[str]:
    """Return the labels in the newest records of a model, for one that is not served."""
    query = sa.select(RECORDS.c.labels).where(RECORDS.c.model == model, RECORDS.c.shadow_of.is_(None))
    with store.reading() as connection:
        found = connection.scalars(query.order_by(RECORDS.c.id.desc()).limit(MOST_RECORDS))
        return {label for labels in found for label in labels}


def queue(
    store: Store,
    model: str,
    reviewer: str,
    *,
    reason: Why | None = None,
    limit: int = 50,
    parents: Mapping[str, Sequence[str]] | None = None,
) -> Queue:
    """Return what this reviewer should look at first.

    Args:
        store: of the records.
        model: its name.
        reviewer: whose reviews are done.
        reason: only items with this one; "reviewers": those on which two reviewers disagree, one's own among them.
        limit: at most so many items.
        parents: label -> the labels that it is a kind of, which need not be said.

    Raises:
        StoreError: the store cannot be read.
    """
    parents = parents or {}
    with store.reading() as connection:
        seen, rows = _rows(connection, model)
        sames, of_record = _grouped(rows)
        oldest = rows[-1].id if rows else 0
        reviews = _add_reviews(connection, model, reviewer, sames, of_record)
        found = _reasons(connection, model, oldest, rows, parents)
        for same in sames.values():
            if len(same.rows) > 1:
                same.rows.sort(key=lambda row: (_rank(found.get(row.id)), -row.id))
        ordered, counts, left = _ordered(sames, found, reason)
        items = _items(connection, ordered[:limit], found)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return Queue(
        task=seen[1],
        records=seen[0],
        with_inputs=len(rows),
        items=items,
        counts=counts,
        left=left,
        done_today=sum(each["reviewer"] == reviewer and each["time"] >= midnight for each in reviews),
        labels=sorted({label for row in rows for label in row.labels}),
        reviewed_labels=sorted({label for each in reviews for label in each["labels"] or ()}),
        audit=_audit(sames.values(), parents),
    )


def audited(store: Store, model: str, *, since: datetime | None = None) -> list[dict[str, Any]]:
    """Return the records of a random sample that reviewers judged: by these, the share right has no bias.

    Records are shown in the order of `draw`. The sample is all before the last one that was judged as drawn, whatever
    reason they were judged for. Those alone that were judged as drawn would lack what was doubtful enough to be judged
    for another reason before, and so look too good. What was said of one input counts for all records with it.

    Args:
        store: of the records.
        model: its name.
        since: UTC without a zone; judged from then on.

    Returns:
        Small columns of each, and `reviews`, the oldest first, all with the reason "audit".

    Raises:
        StoreError: the store cannot be read.
    """
    with store.reading() as connection:
        _, rows = _rows(connection, model)
        sames, of_record = _grouped(rows)
        _add_reviews(connection, model, "", sames, of_record)
    return [
        {**row._mapping, "reviews": [{**each, "reason": "audit"} for each in reviews]}
        for row, reviews in _sample(sames.values())
        if since is None or reviews[-1]["time"] >= since
    ]


def _rows(connection: sa.Connection, model: str) -> tuple[tuple[int, str | None], list[Any]]:
    """Return how many records there are with their task, and small columns of those that have an input."""
    columns = [RECORDS.c[name] for name in ("id", "time", "request_id", "item", "version", "outcome", "labels",
                                            "confidence", "out_of_scope_score", "share", "answer", "same",
                                            "task")]  # fmt: skip
    has_input = sa.or_(RECORDS.c.text.is_not(None), RECORDS.c.photo.is_not(None)).label("has_input")
    query = sa.select(*columns, has_input).where(RECORDS.c.model == model, RECORDS.c.shadow_of.is_(None))
    found = list(connection.execute(query.order_by(RECORDS.c.id.desc()).limit(MOST_RECORDS)))
    return (len(found), found[0].task if found else None), [row for row in found if row.has_input]


def _grouped(rows: Iterable[Any]) -> tuple[dict[str, _Same], dict[int, _Same]]:
    """Return what is the same -> its records, and record -> the same; records of version 1 are each alone."""
    sames: dict[str, _Same] = {}
    of_record: dict[int, _Same] = {}
    for row in rows:
        name, place = row.same or f"#{row.id}", draw(row.id)
        same = sames.get(name)
        if same is None:
            same = sames[name] = _Same([row], row, place)
        else:
            same.rows.append(row)
            if place < same.place:
                same.drawn, same.place = row, place
        of_record[row.id] = same
    return sames, of_record


def _add_reviews(
    connection: sa.Connection, model: str, reviewer: str, sames: Mapping[str, _Same], of_record: Mapping[int, _Same]
) -> list[dict[str, Any]]:
    """Add the newest reviews to what they are about, and return them, the oldest first."""
    query = sa.select(REVIEWS, RECORDS.c.same).join(RECORDS, REVIEWS.c.record == RECORDS.c.id)
    query = query.where(RECORDS.c.model == model).order_by(REVIEWS.c.id.desc()).limit(MOST_REVIEWS)
    reviews = sorted(map(dict, connection.execute(query).mappings()), key=lambda each: (each["time"], each["id"]))
    for each in reviews:
        same = of_record.get(each["record"]) or sames.get(each["same"] or "")
        if same is not None:  # of a reviewer's words on one input the newest count
            same.reviews = [other for other in same.reviews if other["reviewer"] != each["reviewer"]] + [each]
            same.is_mine = same.is_mine or each["reviewer"] == reviewer
    return reviews


@dataclass(frozen=True)
class _Found:
    reason: Why
    place: float
    """Among others with the same reason: lower comes first."""
    group: str | None = None
    said: dict[str, Any] | None = None


def _rank(found: _Found | None) -> tuple[int, float]:
    return (len(REASONS), 0.0) if found is None else (REASONS.index(found.reason), found.place)


def _reasons(
    connection: sa.Connection, model: str, oldest: int, rows: Sequence[Any], parents: Mapping[str, Sequence[str]]
) -> dict[int, _Found]:
    """Return record -> why it is worth a look, the weightiest reason."""
    doubtful = _doubts(rows)
    feedback = _feedback(connection, model, oldest)
    groups = _groups(connection, model)
    candidates = _candidates(connection, model, oldest)
    found: dict[int, _Found] = {}
    for row in rows:
        said = feedback.get(row.id)
        other = candidates.get((row.request_id, row.item, row.version))
        if said is not None and is_right(row._mapping, said, parents) is False:
            told = {"labels": said["labels"], "answer": said["answer"], "by": "feedback"}
            found[row.id] = _Found("disagreed", -row.id, said=told)
        elif row.id in groups:
            place, name = groups[row.id]
            found[row.id] = _Found("group", place, group=name)
        elif other is not None and _differs(row, other):
            found[row.id] = _Found("shadow", -row.id, said={**other, "by": other["version"]})
        elif row.id in doubtful:
            found[row.id] = _Found("uncertain", doubtful[row.id])
    return found


def _doubts(rows: Sequence[Any]) -> dict[int, float]:
    """Return record -> how little unsure the model was about it, from 0 to `NEAR`, for those that are uncertain.

    The threshold is taken from the records: the least score with which something was answered.
    """
    edge: float | None = None
    without: list[tuple[int, float]] = []
    found: dict[int, float] = {}
    for row in rows:
        score = _deciding(row)
        if score is None:
            continue
        if row.outcome in NO_ANSWER:
            without.append((row.id, score))
            continue
        edge = score if edge is None else min(edge, score)
        if row.confidence is not None and row.confidence < LOW_CONFIDENCE:
            found[row.id] = NEAR * row.confidence / LOW_CONFIDENCE
    least = 0.5 if edge is None else edge
    return found | {record: max(0.0, least - score) for record, score in without if least - score <= NEAR}


def _deciding(row: Any) -> float | None:
    """Return the score by which it is decided whether there is an answer."""
    score = row.confidence if row.out_of_scope_score is None else 1 - row.out_of_scope_score
    return None if score is None else float(score)


def _feedback(connection: sa.Connection, model: str, oldest: int) -> dict[int, dict[str, Any]]:
    """Return record -> its newest feedback that tells right from wrong."""
    query = sa.select(FEEDBACK).join(RECORDS, FEEDBACK.c.record == RECORDS.c.id)
    query = query.where(RECORDS.c.model == model, FEEDBACK.c.record >= oldest)
    found: dict[int, dict[str, Any]] = {}
    for row in connection.execute(query.order_by(FEEDBACK.c.time.desc()).limit(MOST_RECORDS)).mappings():
        if any(row[name] is not None for name in ("right", "labels", "answer")):
            found.setdefault(row["record"], dict(row))
    return found


def _groups(connection: sa.Connection, model: str) -> dict[int, tuple[float, str]]:
    """Return record -> place and name of the new group that a monitor found it in.

    The newest finding is the one that was written last, whatever its clock said.
    """
    query = sa.select(FINDINGS.c.found).where(FINDINGS.c.model == model)
    found = connection.scalar(query.order_by(FINDINGS.c.id.desc()).limit(1))
    groups = found.get("groups") if isinstance(found, dict) else None
    return {
        record: (float(place), str(group["name"]))
        for place, group in enumerate(groups if isinstance(groups, list) else ())
        if {"name", "records"} <= group.keys()  # another version of Percept may have written it
        for record in group["records"]
    }


def _candidates(connection: sa.Connection, model: str, oldest: int) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Return (request, item, live version) -> what a candidate answered beside it."""
    names = ("request_id", "item", "shadow_of", "labels", "answer", "outcome", "version", "task")
    query = sa.select(*(RECORDS.c[name] for name in names)).where(
        RECORDS.c.model == model, RECORDS.c.shadow_of.is_not(None), RECORDS.c.id >= oldest - MOST_RECORDS
    )
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for row in connection.execute(query.order_by(RECORDS.c.id.desc()).limit(MOST_RECORDS)):
        is_qa = row.task == "qa"
        is_given = row.outcome not in NO_ANSWER
        answer = (row.answer if is_given else "") if is_qa else None
        said = {"labels": None if is_qa else row.labels, "answer": answer, "version": row.version, "is_given": is_given}
        found.setdefault((row.request_id, row.item, row.shadow_of), said)
    return found


def _differs(row: Any, other: Mapping[str, Any]) -> bool:
    """Return whether a candidate answered otherwise; its words may not have been kept."""
    return other["is_given"] != (row.outcome not in NO_ANSWER) or is_right(row._mapping, other, {}) is False


def _ordered(
    sames: Mapping[str, _Same], found: Mapping[int, _Found], wanted: Why | None
) -> tuple[list[tuple[Why, _Same]], dict[str, int], int]:
    """Return what is to be shown, the weightiest first and every tenth drawn at random; and how much is left."""
    of_reason: dict[Why, list[_Same]] = {reason: [] for reason in REASONS}
    for same in sames.values():
        if same.reviews and len({opinion_of(each) for each in same.reviews} - {None}) > 1:
            of_reason["reviewers"].append(same)
        if same.is_mine:
            continue
        first = found.get(same.rows[0].id)
        if first is not None:
            of_reason[first.reason].append(same)
        if same.place < AUDIT_SHARE:
            of_reason["audit"].append(same)
    for same_reason, those in of_reason.items():
        if same_reason == "audit":
            those.sort(key=lambda same: same.place)
        else:  # what nobody has looked at goes first, but a group stays together
            those.sort(key=lambda same: _place(found.get(same.rows[0].id), same))
    counts: dict[str, int] = {reason: len(those) for reason, those in of_reason.items()}
    weighty = [(reason, same) for reason in REASONS[:4] for same in of_reason[reason]]
    mixed = _mixed(weighty, [("audit", same) for same in of_reason["audit"]])
    return (mixed if wanted is None else [(wanted, same) for same in of_reason[wanted]]), counts, len(mixed)


def _place(found: _Found | None, same: _Same) -> tuple[float, bool, float, int]:
    is_group = found is not None and found.reason == "group"
    place = found.place if found is not None else 0.0
    return (place if is_group else 0.0, bool(same.reviews), place, -same.rows[0].id)


def _mixed(weighty: list[tuple[Why, _Same]], drawn: list[tuple[Why, _Same]]) -> list[tuple[Why, _Same]]:
    """Return all, every tenth drawn at random as long as there are some; what is drawn is not shown twice."""
    mixed: list[tuple[Why, _Same]] = []
    taken: set[int] = set()
    waiting = iter(drawn)
    for each in weighty:
        if len(mixed) % _EVERY == _EVERY - 1:
            other = next((other for other in waiting if id(other[1]) not in taken), None)
            if other is not None:
                mixed.append(other)
                taken.add(id(other[1]))
        if id(each[1]) not in taken:
            mixed.append(each)
            taken.add(id(each[1]))
    return mixed + [other for other in waiting if id(other[1]) not in taken]


def _items(connection: sa.Connection, chosen: Sequence[tuple[Why, _Same]], found: Mapping[int, _Found]) -> list[Item]:
    picked = [(reason, same, same.drawn if reason == "audit" else same.rows[0]) for reason, same in chosen]
    ids = [row.id for _, _, row in picked]
    query = sa.select(*_SHOWN, RECORDS.c.photo.is_not(None).label("has_photo")).where(RECORDS.c.id.in_(ids))
    records = {row["id"]: dict(row) for row in connection.execute(query).mappings()}
    feedback: dict[int, list[dict[str, Any]]] = {}
    query = sa.select(FEEDBACK).where(FEEDBACK.c.record.in_(ids)).order_by(FEEDBACK.c.time, FEEDBACK.c.id)
    for each in connection.execute(query).mappings():
        feedback.setdefault(each["record"], []).append(dict(each))
    items = []
    for reason, same, row in picked:
        if row.id not in records:  # deleted meanwhile
            continue
        why = found.get(row.id)
        is_why = why is not None and why.reason == reason
        items.append(
            Item(
                record=records[row.id],
                reason=reason,
                group=why.group if why is not None and is_why else None,
                said=why.said if why is not None and is_why else None,
                feedback=feedback.get(row.id, []),
                reviews=same.reviews,
                stands_for=len(same.rows),
            )
        )
    return items


def _sample(sames: Iterable[_Same]) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Return the records of the random sample, each with what reviewers said of it for whatever reason."""
    judged = [(draw(row.id), row, same.reviews) for same in sames if same.reviews for row in same.rows]
    as_drawn = {each["record"] for _, _, reviews in judged for each in reviews if each["reason"] == "audit"}
    last = max((place for place, row, _ in judged if row.id in as_drawn), default=-1.0)
    return [(row, reviews) for place, row, reviews in judged if place <= last]


def _audit(sames: Iterable[_Same], parents: Mapping[str, Sequence[str]]) -> Audit:
    """Return how good the answers of the sample are."""
    verdicts: list[bool] = []
    weights: list[float] = []
    for row, reviews in _sample(sames):
        said = agreed(reviews)
        verdict = is_right(row._mapping, said, parents) if said is not None else None
        if verdict is not None:
            verdicts.append(verdict)
            weights.append(1 / row.share if row.share else 1.0)
    if not verdicts:
        return Audit(0, None, None, None)
    share = float(np.average(verdicts, weights=weights))
    low, high = map(float, wilson(share, effective(np.array(weights))))
    return Audit(len(verdicts), share, low, high)
