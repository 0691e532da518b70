"""How often answers are right: what people say of some, and what the model itself expects of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.bundle.read import Bundle
from shared.intervals import wilson
from shared.monitoring.windows import NO_ANSWER, Sample, weights_of


def quality(bundle: Bundle, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what feedback and confidences say of a window's answers.

    Returns:
        `said`: records with feedback that tells right from wrong; `value`, `low` and `high`: the share right with its
        95 % interval, None without any; `liked` of `thumbs`: records that somebody found helpful, of those that
        somebody judged so; `expected`: mean confidence of what was given, None if nothing was.
    """
    said = [(row, verdict) for row in rows if (verdict := _verdict(bundle, row)) is not None]
    thumbs = [newest for row in rows if (newest := _newest(row, "helpful")) is not None]
    outcome, _ = NO_ANSWER[bundle.config.task]
    given = [row for row in rows if row["outcome"] != outcome and row["confidence"] is not None]
    found: dict[str, Any] = {"said": len(said), "value": None, "low": None, "high": None}
    if said:
        verdicts = np.array([verdict for _, verdict in said], dtype=np.float64)
        sample = Sample(verdicts, weights_of([row for row, _ in said]))
        low, high = map(float, wilson(sample.mean, sample.size))
        found |= {"value": sample.mean, "low": low, "high": high}
    expected = np.average([row["confidence"] for row in given], weights=weights_of(given)) if given else None
    return {
        **found,
        "thumbs": len(thumbs),
        "liked": sum(thumbs),
        "expected": None if expected is None else float(expected),
    }


def is_right(bundle: Bundle, row: Mapping[str, Any], said: Mapping[str, Any]) -> bool | None:
    """Return whether an answer is right by one person's word; None if it does not tell.

    Args:
        bundle: of the model that answered.
        row: the record.
        said: one entry of its feedback.
    """
    if said["right"] is not None:
        return bool(said["right"])
    if said["labels"] is not None:
        return _with_parents(bundle, said["labels"]) == _with_parents(bundle, row["labels"])
    if said["answer"] is None:
        return None
    is_given = row["outcome"] != NO_ANSWER["qa"][0]
    wanted = _words(said["answer"])
    if is_given != bool(wanted):
        return False
    if not is_given:
        return True
    return None if row["answer"] is None else _words(row["answer"]) == wanted  # the words may not have been kept


def _verdict(bundle: Bundle, row: Mapping[str, Any]) -> bool | None:
    """Return what the newest feedback that tells says."""
    told = [verdict for said in row["feedback"] if (verdict := is_right(bundle, row, said)) is not None]
    return told[-1] if told else None


def _newest(row: Mapping[str, Any], name: str) -> bool | None:
    told = [bool(said[name]) for said in row["feedback"] if said[name] is not None]
    return told[-1] if told else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _with_parents(bundle: Bundle, labels: Sequence[str]) -> set[str]:
    """Return labels with all that they are kinds of: whoever says cat need not say animal."""
    found: set[str] = set()
    waiting = list(labels)
    while waiting:
        label = waiting.pop()
        if label not in found:
            found.add(label)
            waiting += bundle.config.label_parents.get(label, [])
    return found
