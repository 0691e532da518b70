"""What `bentoml build` packs: the services with all that they need to serve on a CPU, and nothing of the training."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from shared.bundle.read import Bundle
from shared.serving.access.keys import add_key

ROOT = Path(__file__).resolve().parents[1]
BENTOFILES = {
    "percept": "bentofile.yaml",
    "percept_vision": "vision/bentofile.yaml",
    "percept_nlp": "nlp/bentofile.yaml",
}
"""Name of the bento -> its file."""
MODELS = {"percept": ["tagger", "intent", "qa"], "percept_vision": ["tagger"], "percept_nlp": ["intent", "qa"]}


def content(name: str) -> dict:
    return yaml.safe_load((ROOT / BENTOFILES[name]).read_text())


def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["records"], *extras["postgres"], *extras["extractors"]]


@pytest.mark.parametrize("name", BENTOFILES)
def test_a_bento_asks_for_the_core_dependencies_and_what_settings_switch_on_and_no_others(name: str):
    assert content(name)["python"]["packages"] == declared()


def test_each_microservice_packs_what_the_whole_packs_but_for_the_other():
    whole, vision, language = (set(content(name)["include"]) for name in BENTOFILES)
    documents = {"/README.md", "/CONTRIBUTING.md", "/docs/*.md"}  # the knowledge base's first
    assert whole - vision == {
        "/service.py",
        "/nlp/**/*",
        "/models/intent/*",
        "/models/qa/*",
        "/models/encoder/*",
        "/models/writer/*",
        *documents,
    }
    assert whole - language == {"/service.py", "/vision/**/*", "/models/tagger/*"}
    assert vision | language < whole
    assert len({str(content(name)["exclude"]) for name in BENTOFILES}) == 1


def test_the_lock_has_every_core_dependency_in_the_tested_version_with_its_hashes():
    locked = re.findall(
        r"^([\w.-]+)==(\S+)(?: ; [^\n]*)? \\\n    --hash=sha256:[0-9a-f]{64}",
        (ROOT / "requirements.lock").read_text(),
        re.M,
    )
    tested = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.M))
    same = {normalised(name): version for name, version in tested.items()}
    assert {name: version for name, version in locked if same.get(normalised(name)) != version} == {}
    names = {normalised(name) for name, _ in locked}
    assert {normalised(Requirement(each).name) for each in declared()} <= names
    for name, version in locked:
        bounds = next((Requirement(each).specifier for each in declared() if Requirement(each).name == name), None)
        assert bounds is None or version in bounds


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.slow
@pytest.mark.parametrize("name", BENTOFILES)
def test_a_bento_is_built_and_what_is_in_it_can_be_served(
    name: str, tagger_bundle: Bundle, intent_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path
):
    tree = tmp_path / "tree"
    tree.mkdir()
    for folder in ("shared", "vision", "nlp", "docs"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("service.py", "bentofile.yaml", "LICENSE", "README.md", "CONTRIBUTING.md", "pyproject.toml"):
        shutil.copy(ROOT / file, tree)
    for model, bundle in (("tagger", tagger_bundle), ("intent", intent_bundle), ("qa", qa_bundle)):
        shutil.copytree(bundle.path, tree / "models" / model)
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
        "PERCEPT_KNOWLEDGE": str(tmp_path / "knowledge.sqlite"),
    }

    def run(*arguments: str, folder: Path) -> str:
        result = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run("-m", "bentoml", "build", "-f", BENTOFILES[name], ".", folder=tree)
    (bento,) = (path for path in (tmp_path / "home" / "bentos" / name).iterdir() if path.is_dir())
    source = bento / "src"
    assert sorted(path.name for path in (source / "models").iterdir()) == sorted(MODELS[name])
    assert (source / "vision" / "page").is_dir() == ("tagger" in MODELS[name])
    assert (source / "nlp" / "page").is_dir() == ("qa" in MODELS[name])
    assert not (source / "shared" / "training").exists()
    assert (source / "service.py").exists() == (name == "percept")
    paths = yaml.safe_load((bento / "apis" / "openapi.yaml").read_text())["paths"]
    assert ("/v1/tag" in paths, "/v1/answer" in paths) == ("tagger" in MODELS[name], "qa" in MODELS[name])
    target = content(name)["service"]
    serve = (
        "import os, bentoml, shared\n"
        "from starlette.testclient import TestClient\n"
        f"with TestClient(bentoml.load({target!r}, working_dir='.').to_asgi()) as client:\n"
        "    print('without a key', client.get('/v1/knowledge').status_code, client.post('/v1/tag').status_code)\n"
        "    client.headers['x-api-key'] = os.environ['KEY']\n"
        "    print(client.get('/readyz').headers['x-model-name'], shared.__file__)\n"
        "    print(*[document['id'] for document in client.get('/v1/knowledge').json().get('documents', [])])\n"
    )
    keys = tmp_path / "keys.json"
    environment |= {"KEY": add_key(keys, "shop"), "PERCEPT_API_KEYS_FILE": str(keys)}
    printed = run("-c", serve, folder=source).splitlines()
    names = {"tagger": tagger_bundle.name, "intent": intent_bundle.name, "qa": qa_bundle.name}
    served = ", ".join(names[model] for model in MODELS[name])
    assert "without a key 401 401" in printed
    assert f"{served} {source / 'shared' / '__init__.py'}" in printed
    assert any("percept/docs/serving.md" in line for line in printed) == ("qa" in MODELS[name])
