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
from shared.monitoring.alarms import FALSE_ALARMS, Alarm, confidence_alarm, rate_alarm
from shared.monitoring.diagnosis import brightness, feature_moves, label_moves, languages, sizes
from shared.monitoring.groups import new_groups
from shared.monitoring.quality import quality
from shared.monitoring.windows import FAR, NO_ANSWER, Sample, Window, of_records, of_reference
from shared.pages import render
from shared.records.inputs import photos_of, texts_of
from shared.records.queue import audited
from shared.records.store import Store

LEAST_RECORDS = 100
MOST_RECORDS = 100_000
MOST_FEATURES = 5000
MOST_TEXTS = 1000
"""Newest texts whose language is told."""
MOST_PHOTOS = 200
"""Newest photos whose brightness is told."""
AUDIT_DAYS = 30
"""How far back reviews of records that were drawn at random are looked for: people review later than records come."""
SHOWN_GROUPS = 5
SHOWN_CHARACTERS = 60
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
        return found | {"sentence": _too_few(len(rows), f"{name} in the window", "a longer --since")}
    before: Window | None = None
    earlier: list[dict[str, Any]] = []
    if wanted.against_hours is not None:
        edge = start if start is not None and wanted.last is None else first
        earlier = store.newest(name, MOST_RECORDS, version=wanted.version, until=edge, features=MOST_FEATURES,
                               since=edge - timedelta(hours=wanted.against_hours))  # fmt: skip
        if len(earlier) < LEAST_RECORDS:
            of = f"{name} in the {wanted.against_hours:g} hours before it"
            return found | {"sentence": _too_few(len(earlier), of, "more --against-hours")}
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
        "sentence": _verdict(alarms, task, before.name),
        "alarms": [_described(alarm, window, before, task) for alarm in alarms],
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


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return what was found for a terminal, one line for each finding."""
    told = [found["sentence"]]
    marks = {True: "ALARM", False: "ok"}
    told += [f"{marks[each['is_raised']]:<6}{each['sentence']} {each['power']}" for each in found["alarms"]]
    told += [f"      {line}" for line in [*found["not_checked"], *explained(found), *found["notes"]]]
    return told


def explained(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each part of the diagnosis and of the quality."""
    if found["diagnosis"] is None:
        return []
    labels, features = found["diagnosis"]["labels"], found["diagnosis"]["features"]
    told = []
    if labels is not None and labels["moved"]:
        moved = ", ".join(f"{each['label']} {_percent(each['before'])} -> {_percent(each['now'])}"
                          for each in labels["moved"])  # fmt: skip
        chance = "" if labels["p"] is None else f" (chi-squared, {_p(labels['p'])})"
        told.append(f"labels that moved most: {moved}{chance}.")
    if features is not None:
        told.append(
            f"features: the cosine of the mean with the reference's is {features['cosine']:.3f}, and "
            f"{_percent(features['far'])} of {features['records']:,} records are farther than {_percent(FAR)} of the "
            "reference."
        )
    for size in found["diagnosis"]["sizes"]:
        low, middle, high = size["now"]
        show = _percent if size["name"] == "brightness" else "{:,.0f}".format
        was = f"; before {show(size['before'][1])}" if size["before"] else ""
        told.append(
            f"{size['name'].replace('_', ' ')}: mostly {show(low)} to {show(high)}, middle {show(middle)}{was}."
        )
    for each in found["diagnosis"]["languages"][:1]:
        was = "" if each["before"] is None else f"; before {_percent(each['before'])}"
        others = [f"{_language(other)} {_percent(other['now'])}" for other in found["diagnosis"]["languages"][1:]]
        rest = f", then {', '.join(others)}" if others else ""
        told.append(f"languages: {_language(each)} {_percent(each['now'])}{was}{rest}.")
    return told + _group_lines(found["groups"]) + _quality_lines(found["quality"])


def page_of(found: Mapping[str, Any]) -> str:
    """Return the page, which needs nothing but itself."""
    script = (files("shared.monitoring") / "templates" / "monitor.js").read_text("utf-8")
    told = None if found["quality"] is None else _quality_lines(found["quality"])
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


def _described(alarm: Alarm, now: Window, before: Window, task: str) -> dict[str, Any]:
    is_rate = alarm.stat == "no_answer_rate"
    name = NO_ANSWER[task][1] if is_rate else "mean confidence"
    show = _percent if is_rate else "{:.3f}".format
    of = "of" if is_rate else "in"
    whose = "validation examples" if before.name == "validation data" else f"in {before.name}"
    was = f"{show(alarm.before)} {of} {before.rows:,} {whose}"
    power = "So few would not have shown any change four times in five."
    if alarm.detectable is not None:
        power = f"Four times in five, {show(alarm.detectable)} or {'more' if is_rate else 'less'} would be seen."
    return {
        "stat": alarm.stat,
        "name": name,
        "before": alarm.before,
        "now": alarm.now,
        "p": alarm.p,
        "detectable": alarm.detectable,
        "is_raised": alarm.is_raised,
        "sentence": f"{name}: {show(alarm.now)} {of} {now.rows:,} records, {was} ({_p(alarm.p)}).",
        "power": power,
    }


def _verdict(alarms: Sequence[Alarm], task: str, against: str) -> str:
    says = {"no_answer_rate": f"more is {NO_ANSWER[task][1]}", "mean_confidence": "the model is less sure"}
    raised = " and ".join(says[alarm.stat] for alarm in alarms if alarm.is_raised)
    beside = f"the bundle's {against}" if against == "validation data" else against
    if raised:
        return f"Something has changed: {raised} than in {beside}."
    return f"No alarm: nothing speaks for a change from {beside} (each alarm is false in {_percent(FALSE_ALARMS)})."


def _too_few(count: int, whose: str, remedy: str) -> str:
    more = LEAST_RECORDS - count
    return (f"Too few records to tell: {count} of {whose}; it takes {LEAST_RECORDS}, so {more} more. Wait, or ask for "
            f"{remedy}.")  # fmt: skip


def _language(found: Mapping[str, Any]) -> str:
    return found["code"] or "not clear"


def _group_lines(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    told = []
    for group in groups[:SHOWN_GROUPS]:
        near = "" if group["nearest"] is None else f"; the nearest label is {group['nearest']}"
        such = f', such as "{_short(group["texts"][0])}"' if group["texts"] else ""
        told.append(f"new: {group['size']:,} records like {group['name']}{such}{near}.")
    if len(groups) > SHOWN_GROUPS:
        told.append(f"new: {len(groups) - SHOWN_GROUPS} smaller groups; the page and --json have them.")
    return told


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _quality_lines(found: Mapping[str, Any]) -> list[str]:
    told = []
    audited, fair = found["audited"], found["corrected"]
    if audited is not None:
        told.append(
            f"quality: {_percent(audited['value'])} of {audited['said']:,} answers of the last {AUDIT_DAYS} days that "
            f"were drawn at random and reviewed are right ({_interval(audited)}). Rely on this one."
        )
    if found["said"]:
        told.append(
            f"{'by feedback' if audited else 'quality'}: {_percent(found['value'])} of {found['said']:,} answers with "
            f"feedback are right ({_interval(found)}). Who gives feedback is no random sample: often it is those who "
            "are annoyed."
        )
    if fair is not None:
        told.append(
            f"corrected: {_percent(fair['value'])} ({_interval(fair)}) if feedback were as frequent at every "
            "confidence. That people say more when they are annoyed remains in it."
        )
    if not told:
        told.append("quality: nobody has said yet whether an answer is right.")
    if found["thumbs"]:
        told.append(f"helpful: {found['liked']:,} of {found['thumbs']:,} answers that were judged so.")
    if found["expected"] is not None:
        told.append(
            f"expected: {_percent(found['expected'])} right by the model's own confidence, which is optimistic: where "
            "inputs have changed it hides about half of a loss."
        )
    return told


def _interval(found: Mapping[str, Any]) -> str:
    return f"95 % interval {_percent(found['low'])} to {_percent(found['high'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}" if p < 0.1 else f"p = {p:.2f}"


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds") + "Z"
