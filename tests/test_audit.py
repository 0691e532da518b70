"""The SBOM names all that CPU serving installs, and nothing of the training; an unreachable service is said so."""

from __future__ import annotations

import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests import audit
from tests.audit import ROOT, known_harm, normalised, sboms, versions

HEAVY = {"torch", "transformers", "pytorch-lightning", "datasets", "pytest"}


@pytest.fixture(scope="module")
def documents() -> dict[str, dict]:
    return sboms()


@pytest.mark.parametrize("install", ["core", "demo"])
def test_the_sbom_names_all_that_is_installed_with_its_version(documents: dict, install: str):
    document = documents[install]
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "percept"
    named = {normalised(part["name"]): part["version"] for part in document["components"]}
    assert named == versions(audit.INSTALLS[install])
    assert named["onnxruntime"] == version("onnxruntime")
    assert named.keys().isdisjoint(HEAVY)
    assert ("gradio" in named) == (install == "demo")
    refs = {part["bom-ref"] for part in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    assert {ref for each in document["dependencies"] for ref in each["dependsOn"]} <= refs
    assert all(part.get("licenses") for part in document["components"] if part["name"] in ("pillow", "bentoml"))


def test_all_that_is_declared_is_in_it():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {normalised(line.split(";")[0].split(">")[0].split("<")[0].split("=")[0].strip()) for line in declared}
    assert wanted <= set(versions("")) | {"uvloop"}  # not on Windows


def test_a_service_that_cannot_be_reached_fails_clearly(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(click.ClickException, match="cannot ask the vulnerability service, so nothing is known"):
        known_harm({"pillow": version("pillow")})


@pytest.mark.parametrize(
    ("said", "harmed"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', []),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}]}', ["a"]),
    ],
)
def test_what_pip_audit_says_is_read(said: str, harmed: list[str], monkeypatch: pytest.MonkeyPatch):
    done = subprocess.CompletedProcess([], 0, stdout=said, stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert [each["name"] for each in known_harm({"a": "1"})] == harmed


def test_packages_that_were_skipped_are_no_success(monkeypatch: pytest.MonkeyPatch):
    said = '{"dependencies": [{"name": "a", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}]}'
    done = subprocess.CompletedProcess([], 0, stdout=said, stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(click.ClickException, match="knows nothing of 1 of 2 packages"):
        known_harm({"a": "1", "b": "1"})


def test_the_command_writes_both_documents(documents: dict[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit, "sboms", lambda: documents)
    told = CliRunner().invoke(audit.main, ["--sbom-only", "--output", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["percept-core.cdx.json", "percept-demo.cdx.json"]
    assert "components" in told.output
