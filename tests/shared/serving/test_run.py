"""What `percept serve` hands to the server: options win over the environment, the environment over the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import shared.serving.bento
from shared.bundle.read import Bundle
from shared.serving.run import serve
from shared.serving.settings import Settings, read_settings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """What the settings are for each server that would have started."""
    found: list[Settings] = []
    monkeypatch.setattr(shared.serving.bento, "start_server", lambda *_, **__: found.append(read_settings()))
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PERCEPT_"):
            monkeypatch.delenv(name)
    for name in ("BENTOML_HOME", "PERCEPT_TAGGER", "PERCEPT_DEVICE", "PERCEPT_UI", "PERCEPT_WORKERS", "PERCEPT_CONFIG"):
        monkeypatch.setenv(name, "")  # so that all of it is undone afterwards
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    return found


def test_environment_and_file_hold_where_no_option_is_given(
    started: list[Settings], tagger_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mine.yaml").write_text("device: cpu\nui: false\nworkers: 3\n")
    monkeypatch.setenv("PERCEPT_CONFIG", "mine.yaml")  # relative: the workers run in another folder
    monkeypatch.setenv("PERCEPT_WORKERS", "2")
    serve([tagger_bundle.path], port=0)
    [settings] = started
    assert (settings.device, settings.ui, settings.workers) == ("cpu", False, 2)
    assert settings.tagger == tagger_bundle.path.resolve()


def test_options_win(started: list[Settings], tagger_bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERCEPT_DEVICE", "cuda")
    serve([tagger_bundle.path], port=0, device="cpu", ui=False, workers=1)
    [settings] = started
    assert (settings.device, settings.ui, settings.workers) == ("cpu", False, 1)
