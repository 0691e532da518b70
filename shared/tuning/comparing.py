"""Bundles beside each other on the same examples: which is better, by how much, and whether the data can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from shared.errors import ConfigError, DataError
from shared.training.metrics import reliability_rows
from shared.training.outcomes import Outcomes
from shared.training.worth import interval
from shared.tuning.paired import SURE, Difference, difference, holm

LEAST_OF_A_PART = 10
"""Examples of a label or a length, below which nothing is said of it."""
NAMED_PARTS = 8
"""Labels that are named at most where nothing is said of them."""
SHOWN_APART = 60
"""Examples that one bundle answers better, on the page."""
_LENGTHS = 4
_UNCLEAR = "not clear"


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Entry:
    """A bundle with its answers."""

    name: str
    outcomes: Outcomes
    milliseconds: float
    """Of the network alone, for one input at a time; the median."""
    megabytes: float
    """Of the file that is served."""
    folder: str = ""
    """As the user named it."""
    version: str = ""
    """The bundle's own name and version."""


def compare(entries: Sequence[Entry], language_of: Callable[[str | None], str | None] | None = None) -> dict[str, Any]:
    """Return all that a comparison says, JSON-able.

    Only examples that every bundle was judged on count.

    Args:
        entries: the bundles with their answers.
        language_of: names the language of a text, so that each is looked at by itself where there are several.

    Raises:
        ConfigError: the bundles cannot be compared.
        DataError: no example was answered by all.
    """
    if len(entries) < 2:
        raise ConfigError("a comparison needs two bundles or more.")
    measures = {entry.outcomes.measure for entry in entries}
    if len(measures) > 1:
        raise ConfigError(f"the bundles are measured by different means: {', '.join(sorted(measures))}.")
    entries, left_out = on_shared_examples(entries)
    first = entries[0].outcomes
    order = sorted(range(len(entries)), key=lambda i: -float(entries[i].outcomes.values.mean()))
    pairs = []
    for one, other in combinations(order, 2):  # the first is the better one
        apart = difference(entries[other].outcomes.values, entries[one].outcomes.values)
        pairs.append((one, other, apart))
    chances = holm([apart.p for _, _, apart in pairs])
    at_once = len(pairs)
    told = [
        {"first": entries[one].name, "second": entries[other].name, **_rounded(asdict(apart)), "p_all": round(p, 5),
         "is_sure": p < SURE, "sentence": _sentence(entries[one], entries[other], apart, p, at_once)}
        for (one, other, apart), p in zip(pairs, chances, strict=True)
    ]  # fmt: skip
    best, second = entries[order[0]], entries[order[1]]
    parts, not_shown = _parts(best, second, language_of)
    return {
        "measure": first.measure,
        "explained": first.explained,
        "is_right_or_wrong": all(bool(np.isin(entry.outcomes.values, (0, 1)).all()) for entry in (best, second)),
        "examples": len(first.values),
        "left_out": left_out,
        "bundles": [_described(entries[i]) for i in order],
        "pairs": told,
        "verdict": _verdict(entries, order, told),
        "parts": parts,
        "not_shown": not_shown,
        "apart": _apart(best, second),
    }


def on_shared_examples(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """Return the entries with the examples that all have, in one order, and how many examples not all have.

    Raises:
        DataError: no example was answered by all.
    """
    places = [{id(example): i for i, example in enumerate(entry.outcomes.examples)} for entry in entries]
    common = [key for key in places[0] if all(key in each for each in places[1:])]
    if not common:
        raise DataError("the bundles know none of the same labels, so that there is nothing to compare them on.")
    everything = {key for each in places for key in each}
    found = []
    for entry, each in zip(entries, places, strict=True):
        rows, of = [each[key] for key in common], entry.outcomes
        chosen = replace(
            of,
            examples=[of.examples[i] for i in rows],
            values=of.values[rows],
            answers=[of.answers[i] for i in rows],
            confidences=of.confidences[rows],
            labels=[of.labels[i] for i in rows],
            lengths=[of.lengths[i] for i in rows],
            texts=None if of.texts is None else [of.texts[i] for i in rows],
        )
        found.append(replace(entry, outcomes=chosen))
    return found, len(everything) - len(common)


def _described(entry: Entry) -> dict[str, Any]:
    values, confidences = entry.outcomes.values, entry.outcomes.confidences
    low, high = interval(values)
    given = ~np.isnan(confidences)
    rows = reliability_rows(confidences[given], values[given]) if given.any() else []
    error = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(1, given.sum())
    return {
        "name": entry.name,
        "folder": entry.folder,
        "version": entry.version,
        "value": round(float(values.mean()), 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "given": round(float(given.mean()), 5) if given.any() else None,
        "ece": round(float(error), 5) if given.any() else None,
        "reliability": rows,
        "milliseconds": round(entry.milliseconds, 3),
        "megabytes": round(entry.megabytes, 2),
    }


def _sentence(one: Entry, other: Entry, apart: Difference, p: float, at_once: int) -> str:
    means = f"{100 * one.outcomes.values.mean():.1f} and {100 * other.outcomes.values.mean():.1f}"
    span = f"{100 * apart.value:+.1f} points, 95 % interval {100 * apart.low:+.1f} to {100 * apart.high:+.1f}"
    if p < SURE:
        return (f"{one.name} is better than {other.name}: {one.outcomes.measure} {means} % ({span}). "
                f"{_chance(p, at_once)}")  # fmt: skip
    if apart.better == apart.worse == 0:
        return f"{one.name} and {other.name} answer all {apart.examples:,} examples equally well."
    needed = _needed(apart)
    more = f" A difference as large as this one would take about {needed:,} examples." if needed else ""
    return (f"These {apart.examples:,} examples cannot tell {one.name} from {other.name}: {one.outcomes.measure} "
            f"{means} % ({span}). {_chance(p, at_once)} So many examples show differences from "
            f"{100 * apart.detectable:.1f} points on.{more}")  # fmt: skip


def _needed(apart: Difference) -> int | None:
    """Return how many examples would show the difference that was seen, four times in five."""
    if abs(apart.value) < 1e-9:
        return None
    exact = apart.examples * (apart.detectable / abs(apart.value)) ** 2
    step = 10 ** max(0, len(str(int(exact))) - 2)
    return int(np.ceil(exact / step) * step)


def _chance(p: float, at_once: int) -> str:
    """Return how often chance does as much, in a sentence.

    >>> _chance(0.008, 1)
    'If the two were equally good, a difference this large would come up 8 times in 1,000.'
    """
    whole = 100 if p >= 0.1 else 1000
    times = round(p * whole)
    often = f"{times} times in {whole:,}" if times > 1 else "once in 1,000" if times else "less than once in 1,000"
    if p >= 0.995:
        often = "nearly always"
    if at_once == 1:
        return f"If the two were equally good, a difference this large would come up {often}."
    return (f"If all were equally good, a difference this large would come up in one of the {at_once} comparisons "
            f"{often}.")  # fmt: skip


def listed(counts: Mapping[str, int]) -> str:
    """Return names with their numbers, the most frequent first, as many as a line takes.

    >>> listed({"invoice": 5, "login": 7})
    'login 7, invoice 5'
    """
    order = sorted(counts, key=lambda name: -counts[name])
    named = ", ".join(f"{name} {counts[name]:,}" for name in order[:NAMED_PARTS])
    return f"{named} and {len(order) - NAMED_PARTS:,} more" if len(order) > NAMED_PARTS else named


def _verdict(entries: Sequence[Entry], order: Sequence[int], pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return what the comparison comes to, in a sentence or two."""
    best = entries[order[0]]
    open_ = [pair["second"] for pair in pairs if pair["first"] == best.name and not pair["is_sure"]]
    if not open_:
        if len(entries) == 2:
            return str(pairs[0]["sentence"])
        value = f"{best.outcomes.measure} {100 * best.outcomes.values.mean():.1f} %"
        return f"{best.name} is better than each of the others ({value}; all comparisons together hold at 95 %)."
    lead = str(pairs[0]["sentence"]) if len(entries) == 2 else (
        f"{best.name} is ahead, and the data cannot tell it from {' or '.join(open_)}."
    )  # fmt: skip
    rivals = [best, *(entry for entry in entries if entry.name in open_)]
    fastest = min(rivals, key=lambda entry: entry.milliseconds)
    slowest = max(entry.milliseconds for entry in rivals)
    if slowest < 1.2 * fastest.milliseconds:
        return lead
    return f"{lead} {fastest.name} is the fastest of them: {fastest.milliseconds:.1f} ms, against {slowest:.1f}."


def _parts(
    best: Entry, second: Entry, language_of: Callable[[str | None], str | None] | None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return how the two best do on each label, length and language, and kind of part -> what is not shown of it.

    Labels that they differ most on come first.
    """
    one, other = best.outcomes, second.outcomes
    sizes = np.array(one.lengths)
    which = np.searchsorted(np.unique(np.quantile(sizes, np.linspace(0, 1, _LENGTHS + 1)[1:-1])), sizes)
    spans = {int(i): (sizes[which == i].min(), sizes[which == i].max()) for i in np.unique(which)}
    lengths = ["{} to {} {}".format(*spans[int(i)], one.length_unit) for i in which]
    found: list[dict[str, Any]] = []
    not_shown: dict[str, str] = {}
    parts: dict[str, Sequence[str]] = {"label": one.labels, "length": lengths}
    if language_of is not None and one.texts is not None:
        languages = [language_of(text) or _UNCLEAR for text in one.texts]
        counted = Counter(languages)
        if sum(count >= LEAST_OF_A_PART for name, count in counted.items() if name != _UNCLEAR) > 1:
            parts["language"] = languages
    for kind, names in parts.items():
        counts = Counter(names)
        order = dict.fromkeys(lengths[int(i)] for i in np.argsort(sizes, kind="stable")) if kind == "length" else counts
        few = {name: counts[name] for name in order if counts[name] < LEAST_OF_A_PART}
        if few:
            what, verb = (f"1 {kind}", "is") if len(few) == 1 else (f"{len(few):,} {kind}s", "are")
            not_shown[kind] = f"{what} with fewer than {LEAST_OF_A_PART} examples {verb} not shown: {listed(few)}"
        rows: list[dict[str, Any]] = []
        for name in (name for name in order if counts[name] >= LEAST_OF_A_PART and len(counts) > 1):
            chosen = np.array([each == name for each in names])
            apart = difference(other.values[chosen], one.values[chosen])
            rows.append({"kind": kind, "name": name, "examples": apart.examples,
                         "first": round(float(one.values[chosen].mean()), 4),
                         "second": round(float(other.values[chosen].mean()), 4), "value": round(apart.value, 4),
                         "low": round(apart.low, 4), "high": round(apart.high, 4), "p": apart.p})  # fmt: skip
        for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
            row |= {"p": round(row["p"], 5), "is_sure": p < SURE}
        found += rows if kind == "length" else sorted(rows, key=lambda row: -abs(row["value"]))
    return found, not_shown


def _apart(best: Entry, second: Entry) -> list[dict[str, Any]]:
    """Return some examples that one of the two answers better, the surest of the worse ones first."""
    one, other = best.outcomes, second.outcomes
    moved = one.values - other.values
    sure = np.nan_to_num(np.where(moved > 0, other.confidences, one.confidences))
    rows = [i for i in np.lexsort((-sure, -np.abs(moved))) if moved[i] != 0]
    return [
        {"text": None if one.texts is None else one.texts[i][:300], "label": one.labels[i],
         "first": _answered(one, i), "second": _answered(other, i)}
        for i in rows[:SHOWN_APART]
    ]  # fmt: skip


def _answered(outcomes: Outcomes, i: int) -> dict[str, Any]:
    """Return an answer, how sure it was and how good it is."""
    answer, confidence = outcomes.answers[i], float(outcomes.confidences[i])
    return {
        "answer": None if answer is None else answer[:300],
        "confidence": None if answer is None or np.isnan(confidence) else round(confidence, 4),
        "value": round(float(outcomes.values[i]), 3),
    }


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in values.items()}
