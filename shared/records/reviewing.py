"""What reviewers said of records: kept beside them, read for the queue and for datasets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from shared.records.store import Store
from shared.records.tables import RECORDS, REVIEWS


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
        ids = [id_ for id_, said in reviews.items() if since is None or _newest(said) >= since]
        found = _records_of(connection, ids)
    return [row | {"reviews": reviews[row["id"]]} for row in found]


def _newest(said: Sequence[dict[str, Any]]) -> datetime:
    newest: datetime = said[-1]["time"]
    return newest


def _records_of(connection: sa.Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return records by their ids, the oldest first; a thousand at a time, since databases limit parameters."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(ids), 1000):
        some = sa.select(RECORDS).where(RECORDS.c.id.in_(ids[start : start + 1000]))
        rows += [dict(row) for row in connection.execute(some).mappings()]
    return sorted(rows, key=lambda row: (row["time"], row["id"]))
