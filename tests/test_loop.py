"""The whole trip, in small: a service learns what it is newly asked, and answers what it knew as before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.server
def test_a_service_learns_what_it_is_newly_asked(tmp_path: Path):
    picture = tmp_path / "loop.png"
    command = [sys.executable, "examples/loop/loop.py", "--small", "--folder", str(tmp_path), "--picture", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "loop.json").read_text())
    assert found["state"] == "alarm"
    assert found["groups"]
    assert found["reviewed"]
    assert found["gate"] == "passes"
    assert found["improved"]["new_labels"]
    assert found["before"]["new"] == 0
    assert found["after"]["new"] > 0.4
    assert found["after"]["known"] > found["before"]["known"] - 0.05
    assert "| Ask again |" in done.stdout
    history = [json.loads(line)["what"] for line in (tmp_path / "registry" / "history.jsonl").read_text().splitlines()]
    assert history == ["taken up", "promoted"]
    with Image.open(picture) as drawn:
        assert drawn.width > 800
