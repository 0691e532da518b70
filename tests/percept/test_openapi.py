"""docs/openapi.json is what the all-in-one service says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from percept.calls import READY, Blocking, Call, Routes
from tests.server import environment

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "openapi.json"


def committed() -> dict[str, Any]:
    return json.loads(FILE.read_text("utf-8"))


def write(file: Path, home: Path, **settings: str) -> dict[str, Any]:
    """What `percept openapi` writes."""
    command = [sys.executable, "-m", "scripts.main", "openapi", str(file)]
    env = environment(BENTOML_HOME=str(home), **settings)
    result = subprocess.run(
        command, cwd=home, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(file.read_text("utf-8"))


def test_the_committed_description_is_up_to_date(tmp_path: Path):
    written = write(tmp_path / "openapi.json", tmp_path)
    assert written == committed(), "routes have changed. Run: make openapi"
    assert (tmp_path / "openapi.json").read_bytes() == FILE.read_bytes()


def test_it_follows_the_settings(tmp_path: Path):
    written = write(tmp_path / "openapi.json", tmp_path, PERCEPT_MAX_TOP_K="7")
    parameters = {each["name"]: each for each in written["paths"]["/v1/tag"]["post"]["parameters"]}
    assert "7" in json.dumps(parameters["top_k"])
    assert written != committed()


class Described(Routes, Blocking):
    """Gives the calls themselves in place of their answers."""

    def _send(self, make: Callable[[], Call[Any]], *, reads_files: bool) -> Any:
        return make()


def test_every_route_of_the_client_is_described():
    client = Described()
    made: list[Any] = [
        client.tag(b""),
        client.tag_many([b""]),
        client.intent(""),
        client.intents([""]),
        client.feedback("", right=True),
        client.answer(""),
        client.understand(""),
        client.documents(),
        client.models(),
        client.serve_bundle(""),
        client.roll_back(),
        READY,
    ]
    paths = committed()["paths"]
    assert all(call.method.lower() in paths[call.path] for call in made)
    one = paths["/v1/knowledge/{document}"]
    assert {"get", "put", "delete"} <= one.keys()
