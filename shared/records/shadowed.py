"""What a candidate answered silently, beside what the live model answered to the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from shared.records.store import Store, rows_in
from shared.records.tables import FEEDBACK, RECORDS, REVIEWS

_LARGE = frozenset({"features", "text", "context", "answer", "photo"})


def pairs(
    store: Store, model: str, version: str, last: int, *, since: datetime | None = None
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the newest answers of a live model with a candidate's to the same items, the newest first.

    Args:
        store: of the records.
        model: their name.
        version: of the candidate.
        last: at most so many.
        since: UTC without a zone; from then on.

    Returns:
        (live, candidate): the columns of each record, without texts and photos; the live one's also with its
        `feedback` and `reviews`, the oldest first.

    Raises:
        StoreError: the store cannot be read.
    """
    silent, live = RECORDS.alias("silent"), RECORDS.alias("live")
    same = sa.and_(
        *(live.c[name] == silent.c[name] for name in ("request_id", "item", "key", "model")),
        live.c.version == silent.c.shadow_of,
        live.c.shadow_of.is_(None),
        live.c.time <= silent.c.time,  # a request id may be used again: the newest before it is meant
    )
    query = sa.select(silent.c.id, sa.func.max(live.c.id)).join(live, same)
    query = query.where(silent.c.model == model, silent.c.version == version)
    if since is not None:
        query = query.where(silent.c.time >= since)
    query = query.group_by(silent.c.id).order_by(silent.c.id.desc()).limit(last)
    with store.reading() as connection:
        ids = [(candidate, of_live) for candidate, of_live in connection.execute(query)]
        columns = [column for column in RECORDS.c if column.name not in _LARGE]
        rows = rows_in(connection, sa.select(*columns), RECORDS.c.id, [each for both in ids for each in both])
        found = {row.id: dict(row._mapping) for row in rows}
        lives = list(dict.fromkeys(live for _, live in ids if live in found))  # others were deleted meanwhile
        for name, table in (("feedback", FEEDBACK), ("reviews", REVIEWS)):
            for of_live in lives:
                found[of_live][name] = []
            said = rows_in(connection, sa.select(table), table.c.record, lives)
            for row in sorted(said, key=lambda row: (row.time, row.id)):
                found[row.record][name].append(dict(row._mapping))
    return [(found[of_live], found[candidate]) for candidate, of_live in ids if {of_live, candidate} <= found.keys()]
