"""Every recipe parses, and each has a twin that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scripts.tasks import find_task
from shared.errors import ConfigError
from shared.training.cli import fit_main

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = sorted(path for folder in ("vision", "nlp") for path in (CONFIGS / folder).glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipe_parses(path: Path, capsys: pytest.CaptureFixture[str]):
    task = find_task(path.stem.partition("_")[0])
    needed = [] if "source" in yaml.safe_load(path.read_text())["data"] else ["--data.source=photos"]
    with pytest.raises(SystemExit) as ended:
        fit_main(task, ["-c", str(path), *needed, "--print_config"])
    assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(path.read_text())
    [network] = {"architecture", "encoder", "language_model"} & set(written["model"])
    assert printed["model"][network] == written["model"][network]


def test_recipe_with_a_wrong_name_is_refused(tmp_path: Path):
    (tmp_path / "wrong.yaml").write_text("model:\n  archtecture: resnet18\n")
    with pytest.raises(ConfigError, match="archtecture"):
        fit_main(find_task("tagging"), ["-c", str(tmp_path / "wrong.yaml"), "--data.source=photos"])


@pytest.mark.parametrize("path", [path for path in RECIPES if "_" not in path.stem], ids=lambda path: path.name)
def test_recipe_has_a_smoke_twin(path: Path):
    assert path.with_name(f"{path.stem}_smoke.yaml").is_file()
