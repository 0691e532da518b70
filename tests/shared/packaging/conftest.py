"""One bento of the tiny language bundles, built and asked by `percept package`, for all tests of the folder."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.bundle.read import Bundle
from tests.server import environment

ROOT = Path(__file__).resolve().parents[3]
VERSION = "1.2.3"


@dataclass
class Packaged:
    home: Path
    output: Path
    printed: str

    @property
    def stored(self) -> Path:
        return self.home / "bentos" / "percept_nlp" / VERSION

    def model(self, name: str, version: str) -> Path:
        return self.home / "models" / name / version


def percept(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.main", *map(str, words)]
    variables = environment(PYTHONPATH=str(ROOT))
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def packaged(intent_bundle: Bundle, qa_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    folder = tmp_path_factory.mktemp("packaged")
    options = ["--version", VERSION, "--alias", "production", "--home", folder / "home", "--output", folder / "copy"]
    done = percept(folder, "package", "nlp", "--bundle", intent_bundle.path, "--bundle", qa_bundle.path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return Packaged(folder / "home", folder / "copy", done.stdout)
