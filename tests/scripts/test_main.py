"""The `percept` command: its help is cheap, its errors are a line, its subcommands get what they are told."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import shared.serving.host.server
import shared.training.cli
from scripts.main import EXTRA_OF, SUBCOMMANDS, main
from scripts.options import find_recipe
from scripts.tasks import TASKS, find_task
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.task import resolve
from tests.bundles import make_tagger_bundle

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "pytorch_lightning", "jsonargparse", "datasets", "matplotlib", "bentoml", "gradio", "onnxruntime"]


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def modules_after(code: str) -> set[str]:
    """Modules that a fresh Python holds after the code."""
    tail = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_lists_every_subcommand():
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_is_there(name: str):
    assert isinstance(import_module(f"scripts.{name.replace(chr(45), chr(95))}").command, click.Command)


def test_help_loads_no_heavy_library():
    code = "from scripts.main import main; main(['--help'], standalone_mode=False)"
    assert modules_after(code).isdisjoint([*HEAVY, "numpy", "PIL"])


def test_predicting_on_the_cpu_loads_no_training_library(tagger_bundle: Bundle, tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    args = ["predict", str(tagger_bundle.path), str(tmp_path / "red.png"), "--device", "cpu"]
    code = f"from scripts.main import main; main({args!r}, standalone_mode=False)"
    assert modules_after(code).isdisjoint({"torch", "pytorch_lightning", "jsonargparse", "datasets", "matplotlib"})


def test_version_is_printed():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("percept, version ")


def test_an_unknown_subcommand_is_refused():
    result = run("trian")
    assert result.exit_code == 2
    assert "No such command 'trian'" in result.stderr


def test_an_expected_error_is_one_line_without_a_traceback():
    result = run("info", "nowhere")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("percept: no bundle at nowhere: it does not exist")
    assert len(result.stderr.splitlines()) == 1


def test_a_bug_is_not_swallowed(monkeypatch: pytest.MonkeyPatch):
    def broken(path: Path) -> Bundle:
        raise ZeroDivisionError

    monkeypatch.setattr("scripts.info.read_bundle", broken)
    assert isinstance(run("info", "x").exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("subcommand", "args"), [("evaluate", ["b"]), ("export", ["b", "--int8"]), ("fit", ["tagging"])]
)
def test_without_the_training_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, subcommand: str, args):
    for name in list(sys.modules):
        if name.partition(".")[0] == "jsonargparse" or name == "shared.training.cli":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", None)
    result = run(subcommand, *args)
    assert result.exit_code == 2
    assert "Run: pip install 'percept[train]'" in result.stderr


def test_a_missing_module_of_nobodys_extra_is_a_bug(monkeypatch: pytest.MonkeyPatch):
    def broken(path: Path) -> Bundle:
        raise ModuleNotFoundError("No module named 'shared.nothing'", name="shared.nothing")

    monkeypatch.setattr("scripts.info.read_bundle", broken)
    assert isinstance(run("info", "x").exception, ModuleNotFoundError)


def test_extras_are_those_that_pyproject_declares():
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    called_otherwise = {"sklearn": "scikit-learn"}
    for module, extra in EXTRA_OF.items():
        name = called_otherwise.get(module, module.replace("_", "-"))
        assert any(line.startswith(name) for line in declared[extra]), module


@pytest.mark.parametrize("name", TASKS)
def test_every_part_of_a_task_can_be_imported(name: str):
    task = find_task(name)
    assert task.name == name
    assert all(callable(resolve(part)) for part in (task.predictor, task.network, task.module, task.data))


def test_fit_passes_everything_after_the_task_on(monkeypatch: pytest.MonkeyPatch, tagger_bundle: Bundle):
    seen: list[object] = []

    def fit_main(task: object, args: list[str], *, command: str) -> Bundle:
        seen.extend((task, args, command))
        return tagger_bundle

    monkeypatch.setattr(shared.training.cli, "fit_main", fit_main)
    recipe = "configs/vision/tagging.yaml"
    result = run("fit", "tagging", "--data.source", "photos", "-c", recipe, "--help", "--model.lr=1")
    assert result.exit_code == 0, result.output
    others = ["--data.source", "photos", "--help", "--model.lr=1"]
    command = f"percept fit tagging -c {recipe} {' '.join(others)}"
    assert seen == [TASKS["tagging"], ["-c", str(find_recipe(recipe)), *others], command]
    assert f"percept serve {tagger_bundle.path}" in result.stdout


def test_fit_help_names_the_tasks_and_trains_nothing():
    result = run("fit", "--help")
    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in TASKS)


def test_a_recipe_that_comes_with_percept_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("configs/nlp/intent.yaml") == ROOT / "configs" / "nlp" / "intent.yaml"
    own = tmp_path / "configs" / "nlp" / "intent.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("data: {}\n")
    assert find_recipe("configs/nlp/intent.yaml").resolve() == own
    with pytest.raises(ConfigError, match=r"no recipe none.yaml. .* configs/nlp/qa.yaml"):
        find_recipe("none.yaml")


def test_fit_of_an_unknown_task_lists_the_known_ones():
    result = run("fit", "juggling")
    assert result.exit_code == 2
    assert "there is no task 'juggling'; there is tagging" in result.stderr


def test_serve_passes_its_options_on(monkeypatch: pytest.MonkeyPatch):
    seen: list[object] = []
    monkeypatch.setattr(shared.serving.host.server, "serve", lambda bundles, **options: seen.extend((bundles, options)))
    result = run(
        "serve", "a", "b", "--port", "8080", "--workers", "3", "--device", "cpu", "--no-ui", "--host", "0.0.0.0"
    )
    assert result.exit_code == 0, result.output
    options = {"host": "0.0.0.0", "port": 8080, "workers": 3, "device": "cpu", "ui": False}
    assert seen == [[Path("a"), Path("b")], options]


def test_serve_without_options_serves_the_starters_on_this_machine_alone(monkeypatch: pytest.MonkeyPatch):
    seen: list[object] = []
    monkeypatch.setattr(shared.serving.host.server, "serve", lambda bundles, **options: seen.extend((bundles, options)))
    assert run("serve").exit_code == 0
    assert seen == [[], {"host": "127.0.0.1", "port": 3000, "workers": None, "device": None, "ui": None}]


@pytest.mark.parametrize("args", [["--port", "70000"], ["--workers", "0"], ["--device", "tpu"]])
def test_serve_refuses_impossible_options(args: list[str]):
    result = run("serve", *args)
    assert result.exit_code == 2
    assert args[0] in result.stderr


def test_info_shows_what_the_bundle_holds(tagger_bundle: Bundle):
    result = run("info", tagger_bundle.path)
    assert result.exit_code == 0
    for part in ("tiny-tagger", "2026.11.23-00000000", "3: cat, dog, car", "temperature 1", "model.onnx", "as written"):
        assert part in result.stdout


def test_info_as_json_holds_labels_decision_and_digests(tagger_bundle: Bundle):
    found = json.loads(run("info", tagger_bundle.path, "--json").stdout)
    assert found["labels"] == ["cat", "dog", "car"]
    assert found["decision"]["temperature"] == 1.0
    assert set(found["files"]) == set(tagger_bundle.config.files)
    assert all(file["verified"] for file in found["files"].values())


def test_info_of_a_damaged_bundle_names_the_file(tmp_path: Path):
    bundle = make_tagger_bundle(tmp_path / "b")
    (bundle.path / "model.onnx").write_bytes(b"broken")
    result = run("info", bundle.path)
    assert result.exit_code == 2
    assert "model.onnx is not the file that was written" in result.stderr


def test_on_windows_it_says_where_percept_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    result = run("info", "somewhere")
    assert result.exit_code == 2
    assert result.stderr.startswith("percept: Percept runs on Linux and macOS.")
