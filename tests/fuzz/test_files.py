"""Hostile files and texts by the hundred: each is answered or refused, and quickly. 100,000 of them in `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import cases, run, sabotage
from tests.fuzz.run import fuzz

CASES = {"image": 2000, "text": 200, "document": 200, "pdf": 4}
GETS_THROUGH = {"image": "decoded", "text": "answered", "document": "read", "pdf": "read"}


@pytest.mark.parametrize("kind", CASES)
def test_a_hostile_file_is_answered_or_refused_and_ends_no_process(kind: str, tmp_path: Path):
    report = fuzz(kind, CASES[kind], kept=tmp_path)
    assert report.crashes == []
    assert report.faults == []
    assert sum(report.outcomes.values()) == report.cases == CASES[kind]
    assert report.outcomes[GETS_THROUGH[kind]] >= report.cases // 10  # else it would test the door alone
    assert Path(report.slowest_file).read_bytes() == cases.KINDS[kind](cases.numbered(kind, 1, report.slowest_case))[0]


def test_a_case_that_kills_its_process_or_never_ends_or_raises_is_counted_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run, "MAX_CASE_S", 1.0)
    report = fuzz("sabotage", 20, kept=tmp_path, module="tests.fuzz.sabotage")
    acts = [sabotage.act_of(cases.numbered("sabotage", 1, number)) for number in range(20)]
    assert set(acts) == {"die", "raise", "hang", "answer"}
    assert [each["case"] for each in report.crashes] == [at for at, act in enumerate(acts) if act in ("die", "hang")]
    assert {each["how"][:12] for each in report.crashes} == {"exit status ", "no end withi"}
    assert [each["case"] for each in report.faults] == [at for at, act in enumerate(acts) if act == "raise"]
    assert not report.is_clean
    assert all(Path(each["file"]).read_bytes() == b"case" for each in report.crashes + report.faults)
