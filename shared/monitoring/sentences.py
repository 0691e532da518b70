"""What `percept monitor` found in sentences, for a terminal, the store and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.monitoring.alarms import FALSE_ALARMS, Alarm
from shared.monitoring.windows import FAR, NO_ANSWER, Window

AUDIT_DAYS = 30
"""How far back reviews of records that were drawn at random are looked for: people review later than records come."""
LEAST_RECORDS = 100
SHOWN_GROUPS = 5
SHOWN_CHARACTERS = 60


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
    return told + _group_lines(found["groups"]) + quality_lines(found["quality"])


def described(alarm: Alarm, now: Window, before: Window, task: str) -> dict[str, Any]:
    """Return an alarm with what it says in words, JSON-able."""
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


def verdict(alarms: Sequence[Alarm], task: str, against: str) -> str:
    """Return what all alarms say together.

    Args:
        alarms: those that were checked.
        task: of the bundle.
        against: what the window was compared with.
    """
    says = {"no_answer_rate": f"more is {NO_ANSWER[task][1]}", "mean_confidence": "the model is less sure"}
    raised = " and ".join(says[alarm.stat] for alarm in alarms if alarm.is_raised)
    beside = f"the bundle's {against}" if against == "validation data" else against
    if raised:
        return f"Something has changed: {raised} than in {beside}."
    return f"No alarm: nothing speaks for a change from {beside} (each alarm is false in {_percent(FALSE_ALARMS)})."


def too_few(count: int, whose: str, remedy: str) -> str:
    """Return that so many records do not tell, how many more would, and what can be done."""
    more = LEAST_RECORDS - count
    return (f"Too few records to tell: {count} of {whose}; it takes {LEAST_RECORDS}, so {more} more. Wait, or ask for "
            f"{remedy}.")  # fmt: skip


def quality_lines(found: Mapping[str, Any]) -> list[str]:
    """Return what the quality says, the most reliable figure first."""
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


def _interval(found: Mapping[str, Any]) -> str:
    return f"95 % interval {_percent(found['low'])} to {_percent(found['high'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}" if p < 0.1 else f"p = {p:.2f}"
