"""What MLflow is told of promotions and rollbacks, and that it never stands in their way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from scripts.main import main
from shared.bundle.read import Bundle
from shared.improving.registry import Registry
from shared.improving.tracking import log_change
from tests.bundles import make_tagger_bundle

FIGURES = {"examples": 3000, "measure": "right answers", "live": 0.9, "bounds": {"quality": 0.01}, "failed": ["a"]}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return [make_tagger_bundle(folder / name, version=name) for name in ("v1", "v2")]


@pytest.fixture
def registry(tmp_path: Path, bundles: list[Bundle]) -> Registry:
    registry = Registry(tmp_path / "registry")
    registry.promote(bundles[1], bundles[0], by="ada", verdict="passes", reason="better", figures=FIGURES)
    return registry


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking store of files: needs no server and no database."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    return f"file://{tmp_path / 'mlruns'}"


def test_a_promotion_is_a_run_with_its_figures_verdict_page_and_tags(registry: Registry, uri: str):
    is_logged, told = log_change(uri, "tagger", registry.history()[-1], page="<html>passed</html>", outcome="live")
    assert is_logged, told
    assert told == "MLflow has it as a run of the experiment percept-tagger."
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("percept-tagger")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("promoted v2", "FINISHED")
    assert run.data.metrics == {"examples": 3000, "live": 0.9, "bounds.quality": 0.01}
    tags = {key.removeprefix("percept."): value for key, value in run.data.tags.items() if key.startswith("percept.")}
    told_tags = {"model": "tagger", "from": "v1", "to": "v2", "by": "ada", "verdict": "passes", "reason": "better",
                 "forced": "false", "outcome": "live", "measure": "right answers"}  # fmt: skip
    assert told_tags.items() <= tags.items()
    [page] = client.list_artifacts(run.info.run_id)
    assert Path(client.download_artifacts(run.info.run_id, page.path)).read_text() == "<html>passed</html>"


def test_a_rollback_is_a_run_of_the_same_experiment(registry: Registry, uri: str):
    log_change(uri, "tiny-tagger", registry.history()[-1])
    words = ["registry", "rollback", str(registry.folder), "--reason", "worse", "--mlflow", uri]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("percept-tiny-tagger")
    assert experiment is not None
    names = [run.info.run_name for run in client.search_runs([experiment.experiment_id])]
    assert sorted(names) == ["promoted v2", "rolled back v1"]


def test_a_server_that_is_gone_is_named_and_the_rollback_stays(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = CliRunner().invoke(main, ["registry", "rollback", str(registry.folder)])
    assert done.exit_code == 0, done.output
    assert "percept: MLflow could not be told everything" in done.stderr
    assert registry.live() == "v1"


def test_without_mlflow_installed_it_says_how_to_install_it(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    is_logged, told = log_change("http://127.0.0.1:9", "tagger", registry.history()[-1])
    assert not is_logged
    assert "pip install 'percept[mlflow]'" in told
