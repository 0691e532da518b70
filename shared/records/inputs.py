"""The texts and photos of records, which are read only where they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import sqlalchemy as sa

from shared.records.store import Store
from shared.records.tables import RECORDS

_AT_ONCE = 1000
"""Databases limit the parameters of a query."""


def texts_of(store: Store, ids: Sequence[int]) -> dict[int, str]:
    """Return id -> text of the records that have one; raises StoreError."""
    return {id_: str(text) for id_, text in _read(store, ids, "text").items()}


def photos_of(store: Store, ids: Sequence[int]) -> dict[int, bytes]:
    """Return id -> JPEG of the records that have one; raises StoreError."""
    return {id_: bytes(photo) for id_, photo in _read(store, ids, "photo").items()}  # type: ignore[call-overload]


def _read(store: Store, ids: Sequence[int], column: Literal["text", "photo"]) -> dict[int, object]:
    wanted, found = RECORDS.c[column], {}
    with store.reading() as connection:
        for start in range(0, len(ids), _AT_ONCE):
            some = sa.select(RECORDS.c.id, wanted).where(RECORDS.c.id.in_(ids[start : start + _AT_ONCE]))
            found.update({row[0]: row[1] for row in connection.execute(some.where(wanted.is_not(None)))})
    return found
