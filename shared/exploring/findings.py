"""What looks wrong in a dataset, one finding per line, so that programs and people can act on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KINDS = {
    "broken": "cannot be read",
    "leak": "the same in two splits",
    "near_leak": "nearly the same in two splits",
    "duplicate": "the same as another",
    "near_duplicate": "nearly the same as another",
    "contradiction": "the same with another label, or with one where it has none",
    "label_spelling": "a label that differs from another only in case, blanks or punctuation",
    "label_error": "looks like another label",
    "personal_data": "has personal data in it",
    "missing": "lacks a value",
    "outlier": "is far from all others",
}
"""Kind -> what is said of a row."""


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong with one row, or with a row beside another."""

    kind: str
    row: int
    """Its number in the dataset, from 0."""
    sha256: str
    """Of its content, by which a decision about it is kept."""
    score: float
    """0 to 1, the most suspicious first; only findings of one kind compare."""
    message: str
    """For people, in a sentence."""
    other: int | None = None
    """The number of the row that it is like."""
    other_sha256: str | None = None
    column: str | None = None
    given: Any = None
    """What it has."""
    suggested: Any = None
    """What it might better have."""


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write JSON lines, without what a finding does not say."""
    with path.open("w", encoding="utf-8") as file:
        for finding in findings:
            said = {name: value for name, value in asdict(finding).items() if value is not None}
            said["score"] = round(finding.score, 4)
            file.write(json.dumps(said, ensure_ascii=False) + "\n")


def read_findings(path: Path) -> list[Finding]:
    """Return the findings of a file."""
    with path.open(encoding="utf-8") as file:
        return [Finding(**json.loads(line)) for line in file if line.strip()]


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by kind, and of each kind the most suspicious first."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda each: (order[each.kind], -each.score, each.row))
