"""What `percept serve` hands to the server: options win over the environment, the environment over the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import shared.serving.host.carrier
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.serving.host.server import serve
from shared.serving.settings import Settings, read_settings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[tuple[str, Settings]]]:
    """The service of each server that would have started, with its settings."""
    found: list[tuple[str, Settings]] = []

    def start(target: str, *_: object, **__: object) -> None:
        found.append((target, read_settings()))

    monkeypatch.setattr(shared.serving.host.carrier, "start_server", start)
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    for name in before:
        if name.startswith("PERCEPT_"):
            del os.environ[name]
    os.environ["BENTOML_HOME"] = str(tmp_path)
    yield found
    os.environ.clear()  # `serve` tells its workers by the environment
    os.environ.update(before)


def test_environment_and_file_hold_where_no_option_is_given(
    started: list[tuple[str, Settings]], tagger_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mine.yaml").write_text("device: cpu\nui: false\nworkers: 3\n")
    monkeypatch.setenv("PERCEPT_CONFIG", "mine.yaml")  # relative: the workers run in another folder
    monkeypatch.setenv("PERCEPT_WORKERS", "2")
    serve([tagger_bundle.path], port=0)
    [(target, settings)] = started
    assert target == "vision.service:Vision"
    assert (settings.device, settings.ui, settings.workers) == ("cpu", False, 2)
    assert settings.tagger == tagger_bundle.path.resolve()


@pytest.mark.parametrize("name", ["bundles", "knowledge", "knowledge_documents", "encoder", "api_keys_file"])
def test_a_relative_path_in_the_settings_is_relative_to_where_percept_was_started(
    name: str,
    started: list[tuple[str, Settings]],
    tagger_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv(f"PERCEPT_{name.upper()}", "mine")
    serve([tagger_bundle.path], port=0)
    [(_, settings)] = started
    assert getattr(settings, name) == tmp_path / "mine"


def test_options_win(started: list[tuple[str, Settings]], tagger_bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERCEPT_DEVICE", "cuda")
    serve([tagger_bundle.path], port=0, device="cpu", ui=False, workers=1)
    [(_, settings)] = started
    assert (settings.device, settings.ui, settings.workers) == ("cpu", False, 1)


@pytest.mark.parametrize(
    ("tasks", "target"),
    [
        (["tagging"], "vision.service:Vision"),
        (["intent"], "nlp.service:Language"),
        (["qa"], "nlp.service:Language"),
        (["qa", "intent"], "nlp.service:Language"),
        (["qa", "tagging"], "service:Percept"),
        (["tagging", "intent", "qa"], "service:Percept"),
    ],
)
def test_the_bundles_choose_the_service_and_no_other_bundle_is_served(
    started: list[tuple[str, Settings]],
    tagger_bundle: Bundle,
    intent_bundle: Bundle,
    qa_bundle: Bundle,
    tasks: list[str],
    target: str,
    monkeypatch: pytest.MonkeyPatch,
):
    bundles = {"tagging": tagger_bundle, "intent": intent_bundle, "qa": qa_bundle}
    monkeypatch.setenv("PERCEPT_INTENT", str(intent_bundle.path))  # options win
    serve([bundles[task].path for task in tasks], port=0)
    [(chosen, settings)] = started
    assert chosen == target
    for task, setting in (("tagging", "tagger"), ("intent", "intent"), ("qa", "qa")):
        expected = bundles[task].path.resolve() if task in tasks else None
        assert settings.bundle(setting) == expected, setting


def test_without_a_bundle_all_that_the_settings_name_is_served(
    started: list[tuple[str, Settings]], qa_bundle: Bundle, tagger_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PERCEPT_QA", str(qa_bundle.path))
    monkeypatch.setenv("PERCEPT_TAGGER", str(tagger_bundle.path))
    monkeypatch.setenv("PERCEPT_INTENT", "none")
    monkeypatch.setenv("PERCEPT_KNOWLEDGE", "mine.sqlite")  # relative: the workers run in another folder
    here = Path.cwd()
    serve([], port=0)
    [(target, settings)] = started
    assert target == "service:Percept"
    assert (settings.tagger, settings.intent, settings.qa) == (tagger_bundle.path, "none", qa_bundle.path)
    assert settings.knowledge == here / "mine.sqlite"


def test_two_bundles_of_one_task_are_refused(started: list[tuple[str, Settings]], qa_bundle: Bundle):
    with pytest.raises(ConfigError, match="two bundles are for the task 'qa'"):
        serve([qa_bundle.path, qa_bundle.path], port=0)
    assert started == []


def test_a_bundle_that_is_named_and_not_there_is_an_error_and_a_starter_that_is_not_there_is_left_out(
    started: list[tuple[str, Settings]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("TAGGER", "INTENT", "QA"):
        monkeypatch.setenv(f"PERCEPT_{name}", "none")
    with pytest.raises(ConfigError, match="there is no bundle to serve"):
        serve([], port=0)
    monkeypatch.setenv("PERCEPT_QA", str(tmp_path / "nothing"))
    with pytest.raises(BundleError, match="no bundle at"):
        serve([], port=0)
    assert started == []
