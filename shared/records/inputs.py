"""The texts and photos of records, which are read only where they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import sqlalchemy as sa

from shared.records.store import Store, rows_in
from shared.records.tables import RECORDS


def texts_of(store: Store, ids: Sequence[int]) -> dict[int, str]:
    """Return id -> text of the records that have one; raises StoreError."""
    return {id_: str(text) for id_, text in _read(store, ids, "text").items()}


def photos_of(store: Store, ids: Sequence[int]) -> dict[int, bytes]:
    """Return id -> JPEG of the records that have one; raises StoreError."""
    return {id_: bytes(photo) for id_, photo in _read(store, ids, "photo").items()}  # type: ignore[call-overload]


def _read(store: Store, ids: Sequence[int], column: Literal["text", "photo"]) -> dict[int, object]:
    wanted = RECORDS.c[column]
    query = sa.select(RECORDS.c.id, wanted).where(wanted.is_not(None))
    with store.reading() as connection:
        return {row.id: row._mapping[wanted] for row in rows_in(connection, query, RECORDS.c.id, ids)}
