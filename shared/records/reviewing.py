"""What reviewers said of records: kept beside them, read for the queue and for datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from shared.records.store import Store, rows_in
from shared.records.tables import RECORDS, REVIEWS


@dataclass(frozen=True)
class Review:
    """What a reviewer says of a record."""

    record: int
    labels: Sequence[str] | None
    """The right ones; empty: nothing that is known; None: set aside, or see `answer`."""
    answer: str | None
    """The right words; empty: there are none; None: set aside, or see `labels`."""
    comment: str | None
    reason: str
    """Why it was shown, one of `queue.REASONS`, or where the review is from."""


def keep_reviews(store: Store, model: str, reviewer: str, reviews: Sequence[Review]) -> tuple[list[int], int]:
    """Keep a reviewer's words on records, in place of that reviewer's earlier ones.

    Args:
        store: of the records.
        model: which answered them.
        reviewer: who says so.
        reviews: no record twice.

    Returns:
        Records that this model has not, and how many reviews were replaced. If there are such records, nothing is kept.

    Raises:
        StoreError: nothing was kept.
    """
    ids = [each.record for each in reviews]
    with store.writing() as connection:
        store.lock(connection, shared=True)
        there = set(_of_model(connection, model, ids))
        unknown = [record for record in ids if record not in there]
        if unknown or not ids:
            return unknown, 0
        mine = (REVIEWS.c.reviewer == reviewer, REVIEWS.c.record.in_(ids))
        replaced = connection.scalar(sa.select(sa.func.count()).where(*mine)) or 0
        insert = (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(REVIEWS)
        now = datetime.now(UTC).replace(tzinfo=None)
        rows = [
            {"record": each.record, "reviewer": reviewer, "time": now, "reason": each.reason, "answer": each.answer,
             "labels": None if each.labels is None else list(each.labels), "comment": each.comment}
            for each in reviews
        ]  # fmt: skip
        said = {name: insert.excluded[name] for name in ("time", "reason", "labels", "answer", "comment")}
        keep = insert.on_conflict_do_update(index_elements=["record", "reviewer"], set_=said)
        connection.execute(keep, rows)
    return [], replaced


def take_back(store: Store, record: int, reviewer: str) -> bool:
    """Delete what a reviewer said of a record, and of others with the same input; return whether there was anything."""
    with store.writing() as connection:
        found = connection.execute(sa.select(RECORDS.c.same, RECORDS.c.model).where(RECORDS.c.id == record)).first()
        is_alike = REVIEWS.c.record == record
        if found is not None and found.same is not None:
            is_alike |= sa.and_(RECORDS.c.same == found.same, RECORDS.c.model == found.model)
        mine = sa.select(REVIEWS.c.id).join(RECORDS, REVIEWS.c.record == RECORDS.c.id)
        ids = list(connection.scalars(mine.where(REVIEWS.c.reviewer == reviewer, is_alike)))
        if ids:
            connection.execute(sa.delete(REVIEWS).where(REVIEWS.c.id.in_(ids)))
    return bool(ids)


def photo_of(store: Store, record: int) -> bytes | None:
    """Return a record's photo as a JPEG; None if there is none."""
    with store.reading() as connection:
        found: bytes | None = connection.scalar(sa.select(RECORDS.c.photo).where(RECORDS.c.id == record))
        return found


def reviewed(store: Store, model: str, *, since: datetime | None = None) -> list[dict[str, Any]]:
    """Return a model's records that somebody reviewed, the oldest first, with text and photo and their `reviews`.

    Args:
        store: of the records.
        model: its name.
        since: UTC without a zone; reviewed from then on.

    Returns:
        Each record's columns, and `reviews`: those of all reviewers, the oldest first, each with `labels` (the right
        ones; empty: nothing that is known; None: set aside), `answer`, `reason` and `comment`.

    Raises:
        StoreError: the store cannot be read.
    """
    wanted = [RECORDS.c.model == model, RECORDS.c.shadow_of.is_(None)]
    reviews: dict[int, list[dict[str, Any]]] = {}
    with store.reading() as connection:
        query = sa.select(REVIEWS).join(RECORDS, REVIEWS.c.record == RECORDS.c.id).where(*wanted)
        for row in connection.execute(query.order_by(REVIEWS.c.time, REVIEWS.c.id)).mappings():
            reviews.setdefault(row["record"], []).append(dict(row))
        ids = [id_ for id_, said in reviews.items() if since is None or said[-1]["time"] >= since]
        found = [dict(row._mapping) for row in rows_in(connection, sa.select(RECORDS), RECORDS.c.id, ids)]
    return [row | {"reviews": reviews[row["id"]]} for row in sorted(found, key=lambda row: (row["time"], row["id"]))]


def _of_model(connection: sa.Connection, model: str, ids: Sequence[int]) -> list[int]:
    query = sa.select(RECORDS.c.id).where(RECORDS.c.id.in_(ids), RECORDS.c.model == model)
    return list(connection.scalars(query.where(RECORDS.c.shadow_of.is_(None))))
