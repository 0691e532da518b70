"""What `percept monitor` found, kept in the store beside the records: the newest thousand of each model.

Only numbers, sentences, names of labels and groups, and ids of records are kept, never a text or a photo: a finding
outlives the records that it is of, and whoever was forgotten must not remain in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from shared.records.store import Store
from shared.records.tables import FINDINGS

MOST_KEPT = 1000
"""Findings of one model: at one every half hour, those of three weeks."""
MAX_BYTES = 1 << 20
"""Of one finding as JSON."""


@dataclass(frozen=True)
class Finding:
    """One look at a model's records."""

    time: datetime
    """UTC without a zone; by the clock of the machine that looked."""
    model: str
    version: str
    state: str
    """quiet, alarm or too few."""
    found: Mapping[str, Any]


def keep_finding(store: Store, finding: Finding) -> None:
    """Write a finding and delete the oldest of its model beyond `MOST_KEPT`.

    Args:
        store: of the records.
        finding: without anything that somebody sent.

    Raises:
        StoreError: it could not be written.
    """
    mine = FINDINGS.c.model == finding.model
    values = {"time": finding.time, "model": finding.model, "version": finding.version, "state": finding.state}
    with store.writing() as connection:
        connection.execute(sa.insert(FINDINGS).values(**values, found=bounded(finding.found)))
        newest = sa.select(FINDINGS.c.id).where(mine).order_by(FINDINGS.c.id.desc())
        oldest = connection.scalar(newest.offset(MOST_KEPT).limit(1))
        if oldest is not None:
            connection.execute(sa.delete(FINDINGS).where(mine, FINDINGS.c.id <= oldest))


def newest_findings(store: Store, model: str | None = None) -> list[Finding]:
    """Return the newest finding of each model, or of one, sorted by name; nothing if nobody has looked.

    The newest is the one that was written last, whatever its clock said.

    Raises:
        StoreError: the store cannot be read.
    """
    with store.reading() as connection:
        newest = sa.select(sa.func.max(FINDINGS.c.id)).group_by(FINDINGS.c.model)
        query = sa.select(FINDINGS).where(FINDINGS.c.id.in_(newest)).order_by(FINDINGS.c.model)
        if model is not None:
            query = query.where(FINDINGS.c.model == model)
        return [
            Finding(row["time"], row["model"], row["version"], row["state"], row["found"])
            for row in connection.execute(query).mappings()
        ]


def bounded(found: Mapping[str, Any], most: int = MAX_BYTES) -> dict[str, Any]:
    """Return a finding that has at most so many bytes as JSON: ids of groups go first, then groups, then the rest.

    >>> bounded({"state": "alarm", "groups": [{"name": "a", "records": list(range(9))}]}, 60)
    {'state': 'alarm', 'groups': [{'name': 'a', 'records': [0, 1]}]}
    """
    kept = dict(found)
    while len(orjson.dumps(kept)) > most:
        groups: Sequence[Mapping[str, Any]] = kept.get("groups") or []
        longest = max((len(group.get("records", ())) for group in groups), default=0)
        if longest > 1:
            kept["groups"] = [{**group, "records": group["records"][: longest // 2]} for group in groups]
        elif groups:
            kept["groups"] = list(groups)[: len(groups) // 2]
        else:
            largest = max((name for name in kept if kept[name]), key=lambda name: len(orjson.dumps(kept[name])))
            kept[largest] = None
    return kept
