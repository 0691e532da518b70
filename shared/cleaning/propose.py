"""From findings to a plan that a person edits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from shared.cleaning.plan import Decision
from shared.dataset.read import Dataset
from shared.exploring.findings import Finding
from shared.exploring.rows import JOINED
from shared.exploring.spelling import spelling_key
from shared.sources.splits import guard

_Row = tuple[str, int]
"""Digest and number."""


def propose(
    dataset: Dataset,
    findings: Iterable[Finding],
    decisions: Sequence[Decision],
    splits: Sequence[str],
    text: str | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a plan and decisions that mend what was found.

    What a person decided goes first: nothing else is proposed for such a row, and rows that a person kept stay as they
    are. Otherwise spellings of one label are merged, copies are dropped, contradictions get the label of the majority
    or, if there is none, are dropped, rows that are in two splits stay in the more guarded one, near-duplicates stay in
    one split, personal data are redacted, and rows without a text or a label are dropped. Likely label errors and cells
    that only look like missing values are left: nobody but a person can say what is right.

    Args:
        dataset: that was looked at.
        findings: of the exploration.
        decisions: of a person, as the page saves them.
        splits: of each row.
        text: the column of the texts, if there is one.
    """
    said = _Said(decisions)
    findings = list(findings)
    open_ties = {row for tie in ties(findings, decisions) for row in tie}
    has: set[str] = set()
    lacking: dict[str, None] = {}
    names: dict[str, dict[str, str]] = defaultdict(dict)
    apart: list[dict[str, Any]] = []
    changes: dict[_Row, dict[str, Any]] = {}
    for finding in findings:
        if said.settles(finding):
            continue
        has.add(finding.kind)
        if finding.kind == "missing" and finding.column is not None and finding.given is None:
            lacking[finding.column] = None
        if finding.kind == "label_spelling" and finding.column is not None:
            is_list = dataset.info.columns.get(finding.column) == "texts"
            names[finding.column].update(_renamed(str(finding.given), str(finding.suggested), is_list=is_list))
        if finding.kind == "near_duplicate":
            apart.append(_base(finding) | {"action": "together", "value": finding.other_sha256})
        line = _change(finding, splits, open_ties)
        if line is None or said.decided(line["sha256"], line["row"]):
            continue
        row = line["sha256"], line["row"]
        if row not in changes or line["action"] == "drop":  # a row that is left out needs no label
            changes[row] = line
    lines = [*(each.model_dump(exclude_none=True) for each in decisions), *changes.values(), *apart]
    steps: list[dict[str, Any]] = [
        {"step": "merge_labels", "column": column, "names": renamed} for column, renamed in names.items()
    ]
    if lines:
        steps.append({"step": "decide"})
    makes_copies = any(line["action"] == "relabel" and line.get("kind") == "contradiction" for line in lines)
    if "duplicate" in has or makes_copies:
        steps.append({"step": "drop_duplicates"} | ({"by": [text]} if text else {}))
    if "personal_data" in has and text:
        steps.append({"step": "redact", "columns": [text]})
    steps += [{"step": "missing", "column": column, "how": "drop"} for column in lacking]
    if not steps:
        steps.append({"step": "normalise_text", "columns": [text]} if text else {"step": "drop_duplicates"})
    return {"fingerprint": dataset.info.fingerprint, "steps": steps}, lines


def ties(findings: Iterable[Finding], decisions: Sequence[Decision]) -> list[list[_Row]]:
    """Return the rows of each group of copies whose labels have no majority, and that are proposed to be dropped.

    Rows that a person decided about are not among them. If these agree on a label, only rows with another one are.
    """
    said = _Said(decisions)
    groups: dict[int, list[Finding]] = defaultdict(list)
    first_of: dict[int, int] = {}
    for finding in findings:
        if finding.kind == "contradiction" and finding.suggested is None and finding.other is not None:
            first = first_of.get(finding.row, first_of.get(finding.other, min(finding.row, finding.other)))
            first_of[finding.row] = first_of[finding.other] = first
            groups[first].append(finding)
    found = []
    for group in groups.values():
        right, undecided = set(), []
        for finding in group:
            decision = said.about(finding)
            if decision is None:
                undecided.append(finding)
            elif decision.action == "relabel":
                right.add(spelling_key(str(decision.value)))
            elif decision.action != "drop":
                right.add(spelling_key(str(finding.given)))
        left = {spelling_key(str(finding.given)) for finding in undecided}
        if len(right | left) < 2:
            continue
        wrong = [each for each in undecided if len(right) != 1 or spelling_key(str(each.given)) not in right]
        if wrong:
            found.append([(each.sha256, each.row) for each in wrong])
    return found


class _Said:
    """What a person decided, by row."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.of_digest: dict[str, list[Decision]] = defaultdict(list)
        for each in decisions:
            self.of_digest[each.sha256].append(each)

    def decided(self, sha256: str, row: int) -> Decision | None:
        """Return what is to be done with a row; None also if it was only kept from something."""
        about = (each for each in self.of_digest.get(sha256, ()) if each.row in (None, row))
        return next((each for each in about if each.action != "keep"), None)

    def settles(self, finding: Finding) -> bool:
        """Whether a person decided about this very finding."""
        return any(
            each.row in (None, finding.row) and each.kind in (None, finding.kind)
            for each in self.of_digest.get(finding.sha256, ())
        )

    def about(self, finding: Finding) -> Decision | None:
        """Return what is to be done with the row of a finding, or that it was kept from it."""
        kept = (
            each
            for each in self.of_digest.get(finding.sha256, ())
            if each.row in (None, finding.row) and each.kind in (None, finding.kind)
        )
        return self.decided(finding.sha256, finding.row) or next(kept, None)


def _change(finding: Finding, splits: Sequence[str], open_ties: set[_Row]) -> dict[str, Any] | None:
    """Return the `drop` or `relabel` that a finding suggests; None for what steps mend, and what only a person can."""
    base = _base(finding)
    if finding.kind in ("leak", "near_leak") and finding.other is not None:
        if guard(splits[finding.other]) > guard(splits[finding.row]):
            base |= {"sha256": finding.other_sha256 or finding.sha256, "row": finding.other}
        return base | {"action": "drop"}
    if finding.kind in ("broken", "leak", "near_leak"):
        return base | {"action": "drop"}
    if finding.kind == "contradiction" and finding.suggested is not None:
        return base | {"action": "relabel", "column": finding.column, "value": finding.suggested}
    if finding.kind == "contradiction" and (finding.sha256, finding.row) in open_ties:
        return base | {"action": "drop"}
    return None


def _base(finding: Finding) -> dict[str, Any]:
    return {"sha256": finding.sha256, "row": finding.row, "kind": finding.kind}


def _renamed(given: str, suggested: str, *, is_list: bool) -> dict[str, str]:
    """Return old -> new name of the labels of a row."""
    pairs = zip(given.split(JOINED), suggested.split(JOINED), strict=False) if is_list else [(given, suggested)]
    return {old: new for old, new in pairs if old != new and spelling_key(old) == spelling_key(new)}
