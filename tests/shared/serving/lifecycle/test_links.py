"""A link that leads to another bundle changes what serves, where that is wanted; else nothing changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from shared.serving.app import with_edge
from shared.serving.lifecycle import swaps as aliases
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.lifecycle.swaps import Aliases, load_chosen
from shared.serving.settings import Settings
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle
from tests.pictures import plain
from vision.api import create_app
from vision.engine import TaggingEngine

BUNDLES = {"first": ("cat", "dog", "car"), "second": ("dog", "cat", "car")}
"""Folder and version -> what a red, a green and a blue photo are called."""
PATIENCE_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, labels in BUNDLES.items():
        make_tagger_bundle(tmp_path / name, labels, version=name)
    point(tmp_path, "first")
    return tmp_path


def point(folder: Path, name: str) -> None:
    """Let the link lead to a folder, as `ln -sfn` does."""
    (folder / "new").symlink_to(folder / name)
    (folder / "new").rename(folder / "live")


@contextmanager
def serving(folder: Path, **changes: object) -> Iterator[TestClient]:
    settings = Settings.model_validate({"tagger": folder / "live", "device": "cpu", "workers": 1, **changes})
    lifecycle = Lifecycle(lambda: load_chosen(TaggingEngine.load, settings))
    app = with_edge(create_app(lifecycle, settings), settings, lifecycle.model)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def version(client: TestClient) -> str:
    response = client.post("/v1/tag", content=plain())
    assert response.status_code == 200
    label = response.json()["results"][0]["tags"][0]["label"]
    assert label == BUNDLES[response.headers["x-model-version"]][0]
    return response.headers["x-model-version"]


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def test_a_link_that_leads_elsewhere_changes_what_serves(folder: Path):
    with serving(folder, follow_links=True) as client:
        assert version(client) == "first"
        point(folder, "second")
        wait_for(lambda: version(client) == "second")
        (model,) = client.get("/v1/model").json()["models"]
        assert (model["bundle"], model["previous"], model["workers"]) == ("second", "first", 1)
        point(folder, "first")
        wait_for(lambda: version(client) == "first")


def test_without_the_setting_a_link_is_looked_at_once(folder: Path):
    with serving(folder, bundles=folder, admin_key="open-sesame") as client:
        point(folder, "second")
        time.sleep(2.5)
        assert version(client) == "first"


@pytest.mark.parametrize("wrong", ["broken", "stranger", "intent"])
def test_a_link_to_what_cannot_serve_changes_nothing_and_is_said(folder: Path, wrong: str):
    make_tagger_bundle(folder / "stranger", name="stranger")
    make_intent_bundle(folder / "intent")
    make_tagger_bundle(folder / "broken")
    (folder / "broken" / "model.onnx").write_bytes(b"half of it")
    with serving(folder, follow_links=True) as client:
        point(folder, wrong)
        wait_for(lambda: bool(client.get("/v1/model").json()["problems"]))
        (problem,) = client.get("/v1/model").json()["problems"]
        assert wrong in problem
        assert str(folder) not in problem
        assert version(client) == "first"
        point(folder, "second")
        wait_for(lambda: version(client) == "second")
        assert client.get("/v1/model").json()["problems"] == []


def test_a_failure_of_any_kind_is_said_and_the_link_is_looked_at_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> TaggingEngine:
        raise MemoryError

    with serving(folder, follow_links=True) as client:
        with monkeypatch.context() as patched:
            patched.setattr(TaggingEngine, "replaced", fails)
            point(folder, "second")
            wait_for(lambda: bool(client.get("/v1/model").json()["problems"]))
        assert "MemoryError" in client.get("/v1/model").json()["problems"][0]
        wait_for(lambda: version(client) == "second")
        assert client.get("/v1/model").json()["problems"] == []


def test_a_bundle_whose_files_come_later_serves_when_they_are_there(folder: Path):
    """A copy that goes on while the link leads to it already."""
    model = folder / "second" / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:100])
    with serving(folder, follow_links=True) as client:
        point(folder, "second")
        wait_for(lambda: bool(client.get("/v1/model").json()["problems"]))
        model.write_bytes(content)
        wait_for(lambda: version(client) == "second")


def test_a_link_at_rest_is_not_reported_and_a_refused_one_comes_again_after_longer_and_longer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    now = 100.0
    monkeypatch.setattr(aliases.time, "monotonic", lambda: now)
    links = Aliases({"tagging": folder / "live"})
    second = (folder / "second").resolve()
    assert list(links.changed()) == []
    point(folder, "second")
    waits = []
    for _ in range(8):
        assert list(links.changed()) == [("tagging", second)]
        links.put_off("tagging", second)
        since = now
        while not list(links.changed()):
            now += 0.5
        waits.append(now - since)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    links.settle("tagging", second)
    assert list(links.changed()) == []


def test_a_link_that_leads_nowhere_for_a_moment_is_no_change(folder: Path):
    links = Aliases({"tagging": folder / "live"})
    (folder / "live").unlink()
    assert list(links.changed()) == []
    point(folder, "first")
    assert list(links.changed()) == []


def test_links_in_a_circle_are_no_change_and_nothing_ends_for_it(folder: Path):
    links = Aliases({"tagging": folder / "live"})
    (folder / "other").symlink_to(folder / "live")
    point(folder, "other")
    assert list(links.changed()) == []
    point(folder, "second")
    assert [task for task, _ in links.changed()] == ["tagging"]


def test_a_link_that_changed_while_the_model_was_loaded_has_changed(folder: Path):
    loaded = (folder / "live").resolve()
    point(folder, "second")
    links = Aliases({"tagging": folder / "live"}, {"tagging": loaded})
    assert list(links.changed()) == [("tagging", (folder / "second").resolve())]


def test_the_problem_is_gone_when_the_link_leads_back_to_what_serves(folder: Path):
    make_tagger_bundle(folder / "stranger", name="stranger")
    with serving(folder, follow_links=True) as client:
        point(folder, "stranger")
        wait_for(lambda: bool(client.get("/v1/model").json()["problems"]))
        point(folder, "first")
        wait_for(lambda: client.get("/v1/model").json()["problems"] == [])
        assert version(client) == "first"
