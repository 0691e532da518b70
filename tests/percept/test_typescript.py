"""The TypeScript example: its types agree with docs/openapi.json, and it asks a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.pictures import GREEN, plain
from tests.server import Server

ROOT = Path(__file__).resolve().parents[2]
WRONG = """
import { Percept } from "./percept.js";
const tagged = await new Percept("http://localhost").tag();
console.log(tagged.results[0]!.labels);
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
]


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "npm_config_update_notifier": "false"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, built."""
    root = tmp_path_factory.mktemp("typescript")
    (root / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "openapi.json", root / "docs")
    folder = root / "examples" / "typescript"
    unmade = shutil.ignore_patterns("node_modules", "build", "*.d.ts", "package-lock.json")
    shutil.copytree(ROOT / "examples" / "typescript", folder, ignore=unmade)
    installed = call(folder, "npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1")
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install: {installed.stderr[-300:]}")
    built = call(folder, "npm", "run", "build")
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_a_field_that_is_not_described_is_no_typescript(example: Path):
    (example / "wrong.ts").write_text(WRONG)
    checked = call(example, "npx", "tsc", "--noEmit")
    (example / "wrong.ts").unlink()
    assert checked.returncode != 0
    assert "wrong.ts" in checked.stdout
    assert "'labels' does not exist" in checked.stdout


@pytest.mark.server
def test_it_asks_both_services(example: Path, server: Server, tmp_path: Path):
    (tmp_path / "green.png").write_bytes(plain(GREEN))
    (tmp_path / "bad.png").write_bytes(b"no photo")
    files = [str(tmp_path / "green.png"), str(tmp_path / "bad.png")]
    asked = call(example, "node", "build/example.js", server.url, *files)
    assert asked.returncode == 0, asked.stderr
    green, bad, music, nothing, answer = asked.stdout.splitlines()
    assert green == f"{files[0]} [ 'dog 0.98' ]"
    assert "not a picture" in bad
    assert (music, nothing, answer) == ("play_music", "out of scope", "Ada")


@pytest.mark.server
def test_it_says_what_the_service_said(example: Path, server: Server, tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"no photo")
    asked = call(example, "node", "build/example.js", server.url, str(tmp_path / "bad.png"))
    assert asked.returncode == 1
    assert "(400 invalid_image, request " in asked.stderr
