"""The soak in small: a few seconds with one killed worker. `make soak` takes ten minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.__main__ import plot, soak


@pytest.mark.server
@pytest.mark.slow
def test_a_few_seconds_of_good_and_hostile_traffic_with_a_killed_worker_break_no_promise(tmp_path: Path):
    report = soak(12, tmp_path)
    assert report.errors == []
    assert report.killed == 1
    assert report.good > 50
    assert report.hostile > 20
    assert report.hung_up > 10
    assert report.costly > 0
    assert report.calm_p99_ms is not None
    assert set(report.statuses) >= {"200", "400"}
    plot(report, tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 1000
