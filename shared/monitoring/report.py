"""What `percept monitor` says: from the store and a bundle to sentences and a page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from shared.bundle.read import Bundle
from shared.bundle.reference import read_reference
from shared.errors import ConfigError
from shared.exploring.photos import Looked, look
from shared.monitoring.alarms import Alarm, confidence_alarm, rate_alarm
from shared.monitoring.diagnosis import brightness, feature_moves, label_moves, languages, sizes
from shared.monitoring.groups import new_groups
from shared.monitoring.quality import quality
from shared.monitoring.sentences import AUDIT_DAYS, LEAST_RECORDS, described, quality_lines, too_few, verdict
from shared.monitoring.windows import NO_ANSWER, Sample, Window, of_records, of_reference
from shared.pages import render
from shared.records.inputs import photos_of, texts_of
from shared.records.queue import audited
from shared.records.store import Store

MOST_RECORDS = 100_000
MOST_FEATURES = 5000
MOST_TEXTS = 1000
"""Newest texts whose language is told."""
MOST_PHOTOS = 200
"""Newest photos whose brightness is told."""
_CLOCKS_DIFFER = timedelta(minutes=5)
QUIET, ALARM, TOO_FEW = "quiet", "alarm", "too few"


@dataclass(frozen=True)
class Wanted:
    """Which records are looked at, and what they are compared with."""

    since: timedelta | None = timedelta(hours=24)
    """How far back; None for as far as there are any."""
    last: int | None = None
    """At most so many, the newest."""
    against_hours: float | None = None
    """Compare with the records of so many hours before the window; None for the bundle's validation data."""
    version: str | None = None
    """Of this version alone."""


def check(bundle: Bundle, wanted: Wanted) -> None:
    """Refuse a bundle whose records cannot be looked at in this way.

    Raises:
        ConfigError: none are kept of its task, or there is nothing to compare with.
        BundleError: what it keeps of its validation data is broken.
    """
    task = bundle.config.task
    if task not in NO_ANSWER:
        raise ConfigError(f"{bundle.path} is a bundle for {task}, of which no records are kept. Name one for "
                          f"{', '.join(NO_ANSWER)}.")  # fmt: skip
    if read_reference(bundle) is None and wanted.against_hours is None:
        raise ConfigError(f"{bundle.path} has no reference.npz to compare with, as bundles of format 1. Compare with "
                          "earlier records by --against-hours 168, or train it again.")  # fmt: skip


def monitor(bundle: Bundle, store: Store, wanted: Wanted, now: datetime) -> dict[str, Any]:
    """Return what the records of a bundle's model say, JSON-able: see docs/monitoring.md.

    Args:
        bundle: whose model it is.
        store: of its records.
        wanted: which of them.
        now: with its zone; the end of the window.

    Raises:
        ConfigError: there is no such store, it has no record of the model, or there is nothing to compare with.
        StoreError: the store cannot be read.
    """
    check(bundle, wanted)
    task, reference = bundle.config.task, read_reference(bundle)
    _expect_records(bundle, store, wanted.version)
    end = now.astimezone(UTC).replace(tzinfo=None)
    start = end - wanted.since if wanted.since is not None else None
    name, most = bundle.config.name, min(wanted.last or MOST_RECORDS, MOST_RECORDS)
    rows = store.newest(name, most, version=wanted.version, since=start, until=end, features=MOST_FEATURES)
    first = min((row["time"] for row in rows), default=end)
    notes = _notes(bundle, rows, most, wanted)
    if store.newest(name, 1, version=wanted.version, since=end + _CLOCKS_DIFFER):
        notes.append("there are records later than now, which are left out: a clock is or was wrong.")
    found: dict[str, Any] = {
        "model": {"name": name, "version": bundle.config.version, "task": task, "folder": str(bundle.path)},
        "store": store.place,
        "window": {"from": _iso(start or first), "to": _iso(end), "records": len(rows)},
        "against": None, "state": TOO_FEW, "notes": notes, "alarms": [],
        "not_checked": [], "groups": [], "diagnosis": None, "quality": None,
    }  # fmt: skip
    if len(rows) < LEAST_RECORDS:
        return found | {"sentence": too_few(len(rows), f"{name} in the window", "a longer --since")}
    before: Window | None = None
    earlier: list[dict[str, Any]] = []
    if wanted.against_hours is not None:
        edge = start if start is not None and wanted.last is None else first
        earlier = store.newest(name, MOST_RECORDS, version=wanted.version, until=edge, features=MOST_FEATURES,
                               since=edge - timedelta(hours=wanted.against_hours))  # fmt: skip
        if len(earlier) < LEAST_RECORDS:
            of = f"{name} in the {wanted.against_hours:g} hours before it"
            return found | {"sentence": too_few(len(earlier), of, "more --against-hours")}
        before = of_records(bundle, earlier, f"the {wanted.against_hours:g} hours before")
    elif reference is not None:
        before = of_reference(bundle, reference)
    assert before is not None
    window = of_records(bundle, rows, "the window")
    alarms, not_checked = alarms_of(window, before)
    if not alarms:
        raise ConfigError(f"nothing of {name} can be compared with {before.name}. {' '.join(not_checked)}")
    is_raised = any(alarm.is_raised for alarm in alarms)
    texts, light = _inputs(store, task, rows)
    usual_texts, usual_light = _inputs(store, task, earlier)
    window, before = window.with_size("brightness", light), before.with_size("brightness", usual_light)
    return found | {
        "against": {"name": before.name, "examples": before.rows},
        "state": ALARM if is_raised else QUIET,
        "sentence": verdict(alarms, task, before.name),
        "alarms": [described(alarm, window, before, task) for alarm in alarms],
        "not_checked": not_checked,
        "diagnosis": {
            "labels": label_moves(bundle.labels, window, before),
            "features": feature_moves(window, before),
            "sizes": sizes(window, before),
            "languages": languages(list(texts.values())[:MOST_TEXTS], list(usual_texts.values())[:MOST_TEXTS]),
        },
        "groups": _with_inputs(store, new_groups(bundle, rows, before.features, texts), texts),
        "quality": quality(bundle, rows, _audits(store, name, wanted, end)),
    }


def alarms_of(now: Window, before: Window) -> tuple[list[Alarm], list[str]]:
    """Return the tests of a window against what was before, and a sentence for each that cannot be made."""
    alarms, not_checked = [], []
    if now.without is not None and before.without is not None:
        alarms.append(rate_alarm(now.without, before.without))
    else:
        not_checked.append("photos without a tag: not compared, because the bundle does not say how many there were; "
                           "--against-hours compares with earlier records.")  # fmt: skip
    if len(now.confidence.values) and len(before.confidence.values):
        alarms.append(confidence_alarm(now.confidence, before.confidence))
    else:
        not_checked.append("mean confidence: not compared, because there are no confidences.")
    return alarms, not_checked


def stored(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a finding may be kept: no text, no photo, and nothing of this machine."""
    model = {name: value for name, value in found["model"].items() if name != "folder"}
    groups = [
        {name: value for name, value in group.items() if name not in ("texts", "photos")} for group in found["groups"]
    ]
    return {**{name: value for name, value in found.items() if name != "store"}, "model": model, "groups": groups}


def page_of(found: Mapping[str, Any]) -> str:
    """Return the page, which needs nothing but itself."""
    script = (files("shared.monitoring") / "templates" / "monitor.js").read_text("utf-8")
    told = None if found["quality"] is None else quality_lines(found["quality"])
    return render("monitor", found["model"]["name"], {**found, "quality_lines": told}, script)


def _inputs(store: Store, task: str, rows: Sequence[Mapping[str, Any]]) -> tuple[dict[int, str], Sample | None]:
    """Return id -> text, the newest first, and how bright photos are, as far as the store has them."""
    if task == "tagging":
        return {}, brightness(photos_of(store, [row["id"] for row in rows[:MOST_PHOTOS]]).values())
    ids = [row["id"] for row in rows[:MOST_FEATURES]]
    kept = texts_of(store, ids)
    return {id_: kept[id_] for id_ in ids if id_ in kept}, None


def _with_inputs(store: Store, groups: Sequence[Mapping[str, Any]], texts: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return groups with the `texts` of their typical members, and with `photos`: small JPEGs in base64."""
    photos = photos_of(store, [id_ for group in groups for id_ in group["typical"]]) if groups and not texts else {}
    small = {id_: base64.b64encode(seen.thumb).decode() for id_, content in photos.items()
             if isinstance(seen := look(content), Looked)}  # fmt: skip
    return [
        {
            **group,
            "texts": [texts[id_] for id_ in group["typical"] if id_ in texts],
            "photos": [small[id_] for id_ in group["typical"] if id_ in small],
        }
        for group in groups
    ]


def _audits(store: Store, name: str, wanted: Wanted, end: datetime) -> list[dict[str, Any]]:
    """Return the records of a model that reviewers judged lately, and that were answered before `end`."""
    found = audited(store, name, since=end - timedelta(days=AUDIT_DAYS))
    return [row for row in found if row["time"] < end and wanted.version in (None, row["version"])]


def _expect_records(bundle: Bundle, store: Store, version: str | None) -> None:
    if not store.is_there():
        raise ConfigError(f"there is no store of records at {store.place}. A service makes it at its first answer, "
                          "with PERCEPT_RECORDS; name the same URL.")  # fmt: skip
    there = store.models()
    name = bundle.config.name
    if any(model == name and version in (None, of) for model, of, _ in there):
        return
    others = "; ".join(f"{model} {of} ({count:,})" for model, of, count in there) or "none"
    wanted = name if version is None else f"{name} {version}"
    raise ConfigError(f"{store.place} has no records of {wanted}. It has records of: {others}.")


def _notes(bundle: Bundle, rows: Sequence[Mapping[str, Any]], most: int, wanted: Wanted) -> list[str]:
    told = []
    others = [row["version"] for row in rows if row["version"] != bundle.config.version]
    if others:
        told.append(f"{len(others):,} of the records are of other versions ({', '.join(sorted(set(others)))}), whose "
                    "confidences and rules may differ; --same-version leaves them out.")  # fmt: skip
    sampled = sum(row["share"] < 1 for row in rows)
    if sampled:
        told.append(f"{sampled:,} of the records were sampled by the service; each counts for 1 / its share.")
    if len(rows) == most == MOST_RECORDS and wanted.last != most:
        told.append(f"there are more: only the newest {most:,} records are looked at.")
    return told


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds") + "Z"
