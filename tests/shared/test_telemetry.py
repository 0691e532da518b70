"""No library that a service stands on tells anybody about it, or about the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADS_A_MODEL = """
from pathlib import Path
from shared.bundle.read import read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.runtime.golden import check_golden
bundle = read_bundle(Path("models/intent"))
check_golden(bundle, OnnxRuntime(bundle))
"""
SUPPRESS = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY"}
"""ONNX Runtime is silent by itself on machines that test; here it must be because of us."""


def files_after(folder: Path, code: str) -> list[str]:
    """Return what a process leaves in its home and its temporary folder."""
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in SUPPRESS and not name.startswith("PYTEST")}
    places = {"HOME": str(folder), "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept | places, check=True)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_model_that_runs_leaves_no_trace_in_the_users_home(tmp_path: Path):
    assert files_after(tmp_path / "ours", LOADS_A_MODEL) == []
