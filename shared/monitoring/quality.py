"""How often answers are right: what reviewers and callers say of some, and what the model itself expects of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shared.bundle.read import Bundle
from shared.intervals import effective, wilson
from shared.monitoring.windows import NO_ANSWER, Sample, weights_of
from shared.records.judging import agreed, is_right

AUDIT = "audit"
"""Reason of a review whose record was drawn at random."""
LEAST_SAID = 10
"""Answers with feedback in a band of confidence, and from which the share right is corrected."""
MOST_BANDS = 10


def quality(
    bundle: Bundle, rows: Sequence[Mapping[str, Any]], audits: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what reviewers, feedback and confidences say of a window's answers.

    Args:
        bundle: of the model that answered.
        rows: of the window.
        audits: records that were drawn at random and judged, with their `reviews`.

    Returns:
        `said`: records with feedback that tells right from wrong; `value`, `low` and `high`: the share right with its
        95 % interval, None without any; `corrected`: the same as it would be if all had given feedback alike, None of
        fewer than `LEAST_SAID`; `audited`: the same by reviewers, None without any audit; `liked` of `thumbs`: records
        that somebody found helpful, of those that somebody judged so; `expected`: mean confidence of what was given,
        None if nothing was.
    """
    parents = bundle.config.label_parents
    said = [(row, verdict) for row in rows if (verdict := _verdict(row, parents)) is not None]
    thumbs = [newest for row in rows if (newest := _newest(row, "helpful")) is not None]
    outcome, _ = NO_ANSWER[bundle.config.task]
    given = [row for row in rows if row["outcome"] != outcome and row["confidence"] is not None]
    expected = np.average([row["confidence"] for row in given], weights=weights_of(given)) if given else None
    return {
        "audited": _audited(audits, parents),
        **_share(said),
        "corrected": corrected(rows, said, outcome),
        "thumbs": len(thumbs),
        "liked": sum(thumbs),
        "expected": None if expected is None else float(expected),
    }


def corrected(
    rows: Sequence[Mapping[str, Any]], said: Sequence[tuple[Mapping[str, Any], bool]], outcome: str
) -> dict[str, float] | None:
    """Return the share right if feedback were as frequent for every confidence and outcome as it is for some.

    Answers with feedback are put into bands of confidence, apart where nothing was given, so that each band has about
    `LEAST_SAID`. What is right within a band counts for as much as the band has of the window. This removes what
    depends on confidence and outcome alone; that people answer more when annoyed, at the same confidence, stays.
    The interval is Wilson's for as many records as would say as much. Source: Holt and Smith 1979,
    "Post Stratification", JRSS A 142.

    Args:
        rows: of the window.
        said: those with feedback, and whether each is right.
        outcome: that gives nothing.

    Returns:
        `value`, `low` and `high`; None of fewer than `LEAST_SAID`.
    """
    if len(said) < LEAST_SAID:
        return None
    rows_at, said_at = _places(rows, outcome), _places([row for row, _ in said], outcome)
    verdicts, weights = np.array([float(verdict) for _, verdict in said]), weights_of([row for row, _ in said])
    all_weights = weights_of(rows)
    value, variance = 0.0, 0.0
    for in_window, with_said in _bands(rows_at, said_at):
        share = all_weights[in_window].sum() / all_weights.sum()
        sample = Sample(verdicts[with_said], weights[with_said])
        count = effective(weights[with_said])
        likely = (sample.mean * count + 0.5) / (count + 1)  # a band without an error is not one without doubt
        value += share * sample.mean
        variance += share**2 * likely * (1 - likely) / count
    middle = min(max(value, 0.5 / len(said)), 1 - 0.5 / len(said))
    low, high = map(float, wilson(value, middle * (1 - middle) / variance))
    return {"value": float(value), "low": low, "high": high}


def _audited(audits: Sequence[Mapping[str, Any]], parents: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """Return the share right by what most reviewers say of each record; None if there is none that tells."""
    said = []
    for row in audits:
        told = agreed([review for review in row["reviews"] if review["reason"] == AUDIT])
        verdict = is_right(row, told, parents) if told is not None else None
        said += [(row, verdict)] if verdict is not None else []
    return _share(said) if said else None


def _share(said: Sequence[tuple[Mapping[str, Any], bool]]) -> dict[str, Any]:
    found: dict[str, Any] = {"said": len(said), "value": None, "low": None, "high": None}
    if said:
        verdicts = np.array([verdict for _, verdict in said], dtype=np.float64)
        sample = Sample(verdicts, weights_of([row for row, _ in said]))
        low, high = map(float, wilson(sample.mean, sample.size))
        found |= {"value": sample.mean, "low": low, "high": high}
    return found


def _places(rows: Sequence[Mapping[str, Any]], outcome: str) -> tuple[np.ndarray, np.ndarray]:
    """Return bool [N]: which give nothing, and float64 [N]: confidences, 0 of those without a candidate."""
    without = np.array([row["outcome"] == outcome for row in rows], dtype=bool)
    return without, np.array([row["confidence"] or 0.0 for row in rows], dtype=np.float64)


def _bands(
    rows: tuple[np.ndarray, np.ndarray], said: tuple[np.ndarray, np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which records of the window, and which of those with feedback, are in one band."""
    halves = [(rows[0], said[0]), (~rows[0], ~said[0])]
    if min(said[0].sum(), (~said[0]).sum()) < LEAST_SAID:  # too few of one kind to be told apart
        halves = [(np.ones_like(rows[0]), np.ones_like(said[0]))]
    for in_window, with_said in halves:
        count = min(MOST_BANDS, int(with_said.sum()) // LEAST_SAID)
        edges = np.unique(np.quantile(said[1][with_said], np.arange(1, count) / count))
        of_rows, of_said = (np.searchsorted(edges, values, side="right") for values in (rows[1], said[1]))
        kept = np.unique(of_said[with_said])  # equal confidences may leave a band without feedback
        nearest = kept[np.abs(np.arange(len(edges) + 1)[:, np.newaxis] - kept).argmin(axis=1)]
        for band in kept:
            yield in_window & (nearest[of_rows] == band), with_said & (of_said == band)


def _verdict(row: Mapping[str, Any], parents: Mapping[str, Sequence[str]]) -> bool | None:
    """Return what the newest feedback that tells says."""
    told = [verdict for said in row["feedback"] if (verdict := is_right(row, said, parents)) is not None]
    return told[-1] if told else None


def _newest(row: Mapping[str, Any], name: str) -> bool | None:
    told = [bool(said[name]) for said in row["feedback"] if said[name] is not None]
    return told[-1] if told else None
