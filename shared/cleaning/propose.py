"""From findings to a plan that a person edits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from shared.cleaning.plan import Decision
from shared.dataset.read import Dataset
from shared.exploring.findings import KINDS, Finding

_DROPPED = ("broken", "leak", "near_leak")
"""Kinds of findings whose rows are proposed to be left out."""


def propose(
    dataset: Dataset,
    findings: Iterable[Finding],
    decisions: Sequence[Decision],
    splits: Sequence[str],
    text: str | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a plan and decisions that mend what was found.

    What a person decided goes first, and rows that a person kept stay as they are. Otherwise copies are dropped,
    contradictions get the label of the majority or are dropped, rows that are in two splits stay in the more guarded
    one, near-duplicates stay in one split, personal data are redacted, and rows without a text or a label are dropped.
    Likely label errors are only looked at: nobody but a person can say that a label is wrong.

    Args:
        dataset: that was looked at.
        findings: of the exploration.
        decisions: of a person, as the page saves them.
        splits: of each row.
        text: the column of the texts, if there is one.
    """
    said = {(each.sha256, each.kind or kind, each.row) for each in decisions for kind in KINDS}
    lines = [each.model_dump(exclude_none=True) for each in decisions]
    steps: list[dict[str, Any]] = []
    has: set[str] = set()
    lacking: dict[str, None] = {}
    for finding in findings:
        if {(finding.sha256, finding.kind, row) for row in (finding.row, None)} & said:
            continue
        has.add(finding.kind)
        line = _line(finding, splits)
        if line is not None:
            lines.append(line)
        if finding.kind == "missing" and finding.column is not None:
            lacking[finding.column] = None
    if lines:
        steps.append({"step": "decide"})
    if "duplicate" in has:
        steps.append({"step": "drop_duplicates"} | ({"by": [text]} if text else {}))
    if "personal_data" in has and text:
        steps.append({"step": "redact", "columns": [text]})
    steps += [{"step": "missing", "column": column, "how": "drop"} for column in lacking]
    if not steps:
        steps.append({"step": "normalise_text", "columns": [text]} if text else {"step": "drop_duplicates"})
    return {"fingerprint": dataset.info.fingerprint, "steps": steps}, lines


def _line(finding: Finding, splits: Sequence[str]) -> dict[str, Any] | None:
    """Return the decision that a finding suggests; None for those of steps, and those that only a person can make."""
    base = {"sha256": finding.sha256, "row": finding.row, "kind": finding.kind}
    if finding.kind in ("leak", "near_leak") and finding.other is not None:
        row, digest = finding.row, finding.sha256
        if _rank(splits[finding.other]) > _rank(splits[finding.row]):
            row, digest = finding.other, finding.other_sha256 or digest
        return {"sha256": digest, "row": row, "kind": finding.kind, "action": "drop"}
    if finding.kind in _DROPPED:
        return {**base, "action": "drop"}
    if finding.kind == "contradiction":
        if finding.suggested is None:
            return {**base, "action": "drop"}
        return {**base, "action": "relabel", "column": finding.column, "value": finding.suggested}
    if finding.kind == "near_duplicate":
        return {**base, "action": "together", "value": finding.other_sha256}
    return None


def _rank(split: str) -> int:
    """Return how little guarded a split is."""
    return {"test": 0, "val": 1}.get(split, 2)
