"""The alert rules in Prometheus' own judgement: promtool takes them, and they fire when they should."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.promql import ALERTS

PROMTOOL = shutil.which("promtool")
CASES = {case["name"]: case for case in yaml.safe_load(Path(__file__).with_name("alert_cases.yml").read_text("utf-8"))}
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt install prometheus)")


def promtool(*arguments: str | Path) -> str:
    result = subprocess.run([str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_prometheus_takes_the_configuration_and_its_rules():
    assert "is valid" in promtool("check", "config", ALERTS.with_name("prometheus.yml"))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name) for name, case in CASES.items()],
)
def test_alerts_fire_when_they_should(case: dict[str, Any], tmp_path: Path):
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [case]}))
    promtool("test", "rules", file)
