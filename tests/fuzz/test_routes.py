"""schemathesis over every documented route of every service: a few hundred requests here, 10,000 in `make fuzz`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.project import PROJECT_ROOT
from tests.fuzz.routes import SERVICES
from tests.server import environment

ROUTES = {
    "vision.service:Vision": {"POST /v1/tag", "POST /hf/image-classification", "POST /v2/models/{name}/infer"},
    "nlp.service:Language": {"POST /v1/intent", "POST /v1/answer", "POST /model/parse", "PUT /v1/knowledge/{document}"},
}
ROUTES["service:Percept"] = ROUTES["vision.service:Vision"] | ROUTES["nlp.service:Language"]


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
def test_no_documented_route_fails_or_breaks_its_promise_whatever_is_sent(service: str, tmp_path: Path):
    is_whole = service == "service:Percept"  # it has the routes of both others: the borders of fields are tried there
    options = ["--examples", "12", "--coverage"] if is_whole else ["--examples", "5", "--no-coverage"]
    result = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.routes", service, str(tmp_path), *options],
        cwd=PROJECT_ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["faults"] == []
    assert report["requests"] >= (900 if is_whole else 40)
    assert set(report["operations"]) >= ROUTES[service]
    assert not [status for status in report["statuses"] if status.startswith("5") or status == "none"]
    assert report["statuses"]["200"] >= report["requests"] // 10  # good data gets through to the models
