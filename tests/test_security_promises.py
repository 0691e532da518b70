"""Each promise of docs/security.md names tests, and each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8").partition("## Every promise and its test")[2]
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]
PROMISES = [row for row in ROWS if not row.startswith("| threat |")]
DEFINED = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^\s*(?:async )?def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.split("|")[1].strip())
def test_a_promise_names_tests_that_are_there(row: str):
    threat, promise, tests = (part.strip() for part in row.strip("|").split("|"))
    assert threat
    assert promise
    named = re.findall(r"`(test_\w+)`", tests)
    assert named, "a promise without a test is none"
    assert [name for name in named if name not in DEFINED] == []


def test_the_table_is_found():
    assert len(PROMISES) >= 30
