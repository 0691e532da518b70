"""A candidate's silent answers beside those that callers got: how often they agree, what changes, and who was right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from shared.bundle.read import Bundle
from shared.intervals import effective, wilson
from shared.pages import render
from shared.records.judging import NO_ANSWER, is_right
from shared.tuning.paired import SURE, difference

MAX_CHANGES = 200
"""Kinds of changes that are listed."""
_NOTHING = {"intent": "out of scope", "tagging": "no tag", "qa": "no answer"}
Pair = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The live record with its `feedback` and `reviews`, and the candidate's of the same item."""


def compare_silent(bundle: Bundle, found: Sequence[Pair]) -> dict[str, Any]:
    """Return how a candidate's silent answers compare with the live model's, for at least one pair.

    Args:
        bundle: the candidate's.
        found: as `shared.records.shadowed.pairs` gives them.

    Returns:
        JSON-able. `agreement`: the share that got the same labels, with its 95 % interval; `sides`: figures of both;
        `changes`: which answers became which, the most frequent first; `judged`: the answers that somebody judged and
        McNemar's exact test of them, None without any; `sentence`: all that in words. A record counts for 1 / `share`.
    """
    weights = np.array([1 / candidate["share"] for _, candidate in found], dtype=np.float64)
    is_same = np.array([_answer(live) == _answer(candidate) for live, candidate in found])
    agreement = float(np.average(is_same, weights=weights))
    low, high = map(float, wilson(agreement, effective(weights)))
    sides = [_side([pair[place] for pair in found], weights) for place in (0, 1)]
    compared = {
        "model": bundle.name,
        "task": bundle.config.task,
        "candidate": bundle.version,
        "live": sorted({live["version"] for live, _ in found}),
        "pairs": len(found),
        "first": min(live["time"] for live, _ in found).isoformat(timespec="seconds"),
        "last": max(live["time"] for live, _ in found).isoformat(timespec="seconds"),
        "agreement": {"value": agreement, "low": low, "high": high},
        "sides": {"live": sides[0], "candidate": sides[1]},
        "changes": _changes(bundle.config.task, found),
        "judged": _judged(bundle, found),
    }
    return {**compared, "sentence": _sentence(compared)}


def shadow_page(compared: Mapping[str, Any]) -> str:
    """Return the page of what `compare_silent` found, which needs nothing but itself."""
    script = (files("shared.improving") / "templates" / "shadow.js").read_text("utf-8")
    return render("shadow", compared["model"], compared, script)


def _answer(row: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    return row["outcome"], frozenset(row["labels"])


def _side(rows: Sequence[Mapping[str, Any]], weights: np.ndarray) -> dict[str, float | None]:
    def mean(values: Sequence[float | None]) -> float | None:
        given = [place for place, value in enumerate(values) if value is not None]
        if not given:
            return None
        return float(np.average([float(values[place] or 0) for place in given], weights=weights[given]))

    return {
        "without_answer": mean([float(row["outcome"] in NO_ANSWER) for row in rows]),
        "confidence": mean([row["confidence"] for row in rows]),
        "out_of_scope_score": mean([row["out_of_scope_score"] for row in rows]),
    }


def _changes(task: str, found: Sequence[Pair]) -> list[dict[str, Any]]:
    def shown(row: Mapping[str, Any]) -> str:
        if row["outcome"] in NO_ANSWER:
            return _NOTHING[task]
        return ", ".join(sorted(row["labels"])) or "an answer"

    counted: Counter[tuple[str, str]] = Counter()
    sure: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for live, candidate in found:
        if _answer(live) != _answer(candidate):
            change = shown(live), shown(candidate)
            counted[change] += 1
            if live["confidence"] is not None and candidate["confidence"] is not None:
                sure.setdefault(change, []).append((live["confidence"], candidate["confidence"]))
    result = []
    for change, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MAX_CHANGES]:
        before, now = np.mean(sure[change], axis=0).tolist() if change in sure else (None, None)
        result.append({"from": change[0], "to": change[1], "count": count, "confidence": [before, now]})
    return result


def _judged(bundle: Bundle, found: Sequence[Pair]) -> dict[str, Any] | None:
    """Return what people's word says of both, as far as it tells of both."""
    verdicts = [verdict for live, candidate in found if (verdict := _verdict(bundle, live, candidate)) is not None]
    if not verdicts:
        return None
    sides = np.array(verdicts, dtype=np.float64)
    apart = difference(sides[:, 0], sides[:, 1])
    return {
        "examples": len(verdicts),
        "live": float(sides[:, 0].mean()),
        "candidate": float(sides[:, 1].mean()),
        "difference": apart.value,
        "low": apart.low,
        "high": apart.high,
        "p": apart.p,
        "better": apart.better,
        "worse": apart.worse,
        "detectable": apart.detectable,
        "is_sure": apart.p < SURE,
    }


def _verdict(bundle: Bundle, live: Mapping[str, Any], candidate: Mapping[str, Any]) -> tuple[bool, bool] | None:
    """Return whether each is right by the newest word that tells of both; what reviewers say comes first."""
    for said in [*reversed(live["reviews"]), *reversed(live["feedback"])]:
        both = _is_right(bundle, live, live, said), _is_right(bundle, candidate, live, said)
        if both[0] is not None and both[1] is not None:
            return both[0], both[1]
    return None


def _is_right(bundle: Bundle, row: Mapping[str, Any], live: Mapping[str, Any], said: Mapping[str, Any]) -> bool | None:
    """Return whether a record is right by what somebody said of the live one; None if that does not tell."""
    is_question = bundle.config.task == "qa"
    if said.get("right") is not None:
        if is_question and row is not live:
            return None  # the words of the two are not kept
        is_same = _answer(row) == _answer(live)
        return is_same if said["right"] else False if is_same else None
    return is_right({**row, "answer": None}, said, bundle.config.label_parents)


def _sentence(found: Mapping[str, Any]) -> str:
    agreement, sides, judged = found["agreement"], found["sides"], found["judged"]
    nothing = _NOTHING[found["task"]]
    said = [
        f"Of {found['pairs']:,} answers, the candidate gives {100 * agreement['value']:.1f} % as the live model does "
        f"(95 % sure: {100 * agreement['low']:.1f} to {100 * agreement['high']:.1f} %). For "
        f"{100 * sides['candidate']['without_answer']:.1f} % it says “{nothing}”, the live model for "
        f"{100 * sides['live']['without_answer']:.1f} %."
    ]
    if judged is None:
        said.append("Nobody has said yet which of them is right.")
    else:
        verdict = "the candidate is better" if judged["difference"] > 0 else "the candidate is worse"
        chance = f"p = {judged['p']:.2g}"
        told = verdict if judged["is_sure"] else "they are too few, or too much alike, to tell which is better"
        said.append(
            f"Where people said what is right ({judged['examples']:,}), the live model is right in "
            f"{100 * judged['live']:.1f} %, the candidate in {100 * judged['candidate']:.1f} %: {told} ({chance})."
        )
    return " ".join(said)
