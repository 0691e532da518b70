"""What `bentoml build` packs: the services with all that they need to serve on a CPU, and nothing of the training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from shared.bundle.read import Bundle

ROOT = Path(__file__).resolve().parents[1]
BENTOFILES = ["bentofile.yaml", "vision/bentofile.yaml"]


def content(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("name", BENTOFILES)
def test_a_bento_asks_for_the_core_dependencies_and_no_others(name: str):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert content(name)["python"]["packages"] == declared


def test_the_microservice_packs_what_the_whole_packs_but_for_the_others():
    whole, alone = (content(name) for name in BENTOFILES)
    assert set(whole["include"]) - set(alone["include"]) == {"/service.py"}
    assert whole["exclude"] == alone["exclude"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tag"), [(BENTOFILES[0], "percept"), (BENTOFILES[1], "percept_vision")])
def test_a_bento_is_built_and_what_is_in_it_can_be_served(name: str, tag: str, tagger_bundle: Bundle, tmp_path: Path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for folder in ("shared", "vision"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("service.py", "bentofile.yaml", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / file, tree)
    shutil.copytree(tagger_bundle.path, tree / "models" / "tagger")
    # BentoML looks for uv before it asks whether anything is to be locked, and would install it.
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\nexit 1\n")
    uv.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PERCEPT_", "BENTOML_"))} | {
        "BENTOML_HOME": str(tmp_path / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": f"{uv.parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PERCEPT_UI": "false",
    }

    def run(*arguments: str, folder: Path) -> str:
        result = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run("-m", "bentoml", "build", "-f", name, ".", folder=tree)
    (bento,) = (path for path in (tmp_path / "home" / "bentos" / tag).iterdir() if path.is_dir())
    source = bento / "src"
    assert (source / "models" / "tagger" / "model.onnx").is_file()
    assert (source / "vision" / "page").is_dir()
    assert not (source / "shared" / "training").exists()
    assert (source / "service.py").exists() == (name == "bentofile.yaml")
    assert "/v1/tag" in yaml.safe_load((bento / "apis" / "openapi.yaml").read_text())["paths"]
    target = content(name)["service"]
    serve = (
        "import bentoml, shared\n"
        "from starlette.testclient import TestClient\n"
        f"with TestClient(bentoml.load({target!r}, working_dir='.').to_asgi()) as client:\n"
        "    print(client.get('/readyz').headers['x-model-name'], shared.__file__)\n"
    )
    printed = run("-c", serve, folder=source).splitlines()
    assert f"{tagger_bundle.name} {source / 'shared' / '__init__.py'}" in printed
