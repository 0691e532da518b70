"""What docs/deploying.md tells to type is understood, and the values and files that it names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.package import command
from shared.packaging.dockerfile import DOCKERFILE
from shared.serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text("utf-8")
LINES = [
    line.strip()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "helm" / "percept" / "values.yaml").read_text("utf-8"))


def starting(program: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in LINES if line.startswith(f"{program} ")]


def value(path: str) -> Any:
    found: Any = VALUES
    for part in path.split("."):
        found = found[part]
    return found


@pytest.mark.parametrize("words", starting("percept package"), ids=" ".join)
def test_package_understands_its_options(words: list[str]):
    with command.make_context("package", words[2:]) as context:
        assert context.params["service"] in {"vision", "nlp", "all"}


@pytest.mark.parametrize("words", starting("helm"), ids=" ".join)
def test_helm_lines_name_files_and_values_that_are_there(words: list[str]):
    files = [words[index + 1] for index, word in enumerate(words) if word == "-f"]
    assert files
    assert all((ROOT / file).is_file() for file in [f"{words[3]}/Chart.yaml", *files])
    settings = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    for assignment in [each for group in settings for each in group.split(",")]:
        value(assignment.partition("=")[0])


def test_docker_lines_use_the_place_of_the_recipe_and_a_file_that_is_there():
    assert any(word.endswith(DOCKERFILE) for words in starting("docker build") for word in words)
    assert (ROOT / "deploy" / "compose.yaml").is_file()
    assert "-f deploy/compose.yaml up" in PAGE


def test_values_and_settings_in_the_text_are_real():
    dotted = set(re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z_]+)+)(?::[^`]*)?`", PAGE)) - {"values.yaml", "constraints.txt"}
    named = {name for name in dotted if name.partition(".")[0] in VALUES}
    assert {"autoscaling.requestsInProgress", "networkPolicy.egress", "apiKeys.existingSecret"} <= named
    for name in named - {"settings.public"}:
        value(name)
    for name in ("drain_s", "shutdown_s", "knowledge_documents", "public", "device"):
        assert name in Settings.model_fields
        assert name in PAGE
    assert f"`drain_s` ({VALUES['settings']['drain_s']})" in PAGE
    assert f"`shutdown_s` ({VALUES['settings']['shutdown_s']})" in PAGE
