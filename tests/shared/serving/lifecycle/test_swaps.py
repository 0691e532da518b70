"""Another bundle takes the place of one that serves: what is chosen, what is refused, and what each request gets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from shared.bundle.read import Golden, read_bundle
from shared.bundle.write import write_bundle
from shared.errors import Overloaded
from shared.serving.app import with_edge
from shared.serving.http.middleware import LEASE, Lease
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.lifecycle.swaps import Chosen, Report, SharedChoice, load_chosen
from shared.serving.observe.metrics import DIRECTORY
from shared.serving.settings import Settings
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle
from tests.pictures import plain
from vision.api import create_app
from vision.engine import TaggingEngine

KEY = {"authorization": "Bearer open-sesame"}
BUNDLES = {"first": ("cat", "dog", "car"), "second": ("dog", "cat", "car"), "third": ("car", "dog", "cat")}
"""Name and version -> what a red, a green and a blue photo are called."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles; copy what is to be changed."""
    folder = tmp_path_factory.mktemp("stored")
    for name, labels in BUNDLES.items():
        make_tagger_bundle(folder / name, labels, version=name)
    make_tagger_bundle(folder / "stranger", name="stranger")
    make_intent_bundle(folder / "intent")
    wrong = shutil.copytree(folder / "second", folder / "wrong")
    (wrong / "model.onnx").write_bytes((folder / "first" / "model.onnx").read_bytes()[:-1] + b"\0")
    (folder / "link").symlink_to(folder / "third")
    (folder / "outside").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    (folder / "file").write_text("no bundle")
    return folder


@contextmanager
def serving(stored: Path, **changes: object) -> Iterator[TestClient]:
    chosen = {"tagger": stored / "first", "bundles": stored, "device": "cpu", "admin_key": "open-sesame", "workers": 1}
    settings = Settings.model_validate({**chosen, **changes})
    lifecycle = Lifecycle(lambda: load_chosen(TaggingEngine.load, settings))
    app = with_edge(create_app(lifecycle, settings), settings, lifecycle.model)
    with TestClient(app, raise_server_exceptions=False) as client:
        client.lifecycle = lifecycle
        yield client


@pytest.fixture
def client(stored: Path) -> Iterator[TestClient]:
    with serving(stored) as client:
        yield client


def choose(client: TestClient, bundle: str, **headers: str):
    return client.put("/v1/model", json={"bundle": bundle}, headers=headers or KEY)


def answer(client: TestClient) -> tuple[str, str]:
    response = client.post("/v1/tag", content=plain())
    assert response.status_code == 200
    assert response.json()["model"]["version"] == response.headers["x-model-version"]
    return response.headers["x-model-version"], response.json()["results"][0]["tags"][0]["label"]


def test_what_serves_is_told_with_its_folder_and_its_workers(client: TestClient):
    body = client.get("/v1/model").json()
    (model,) = body["models"]
    since = model.pop("since")
    assert time.time() - time.mktime(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ")) + time.timezone < 60
    assert model == {
        "name": "tiny-tagger",
        "task": "tagging",
        "version": "first",
        "bundle": "first",
        "previous": None,
        "workers": 1,
    }
    assert (body["workers"], body["problems"]) == (1, [])


def test_the_chosen_bundle_answers_and_one_call_goes_back(client: TestClient):
    assert answer(client) == ("first", "cat")
    changed = choose(client, "second")
    assert changed.status_code == 200
    (model,) = changed.json()["models"]
    assert (model["version"], model["bundle"], model["previous"], model["workers"]) == ("second", "second", "first", 1)
    assert answer(client) == ("second", "dog")
    back = client.post("/v1/model/rollback", headers=KEY)
    assert (back.status_code, back.json()["models"][0]["bundle"]) == (200, "first")
    assert answer(client) == ("first", "cat")
    assert client.post("/v1/model/rollback?model=tiny-tagger", headers=KEY).json()["models"][0]["bundle"] == "second"


def test_a_link_stands_for_the_folder_that_it_names_now(client: TestClient):
    assert choose(client, "link").json()["models"][0]["bundle"] == "third"
    assert answer(client) == ("third", "car")


@pytest.mark.parametrize(
    ("bundle", "status", "said"),
    [
        ("nothing", 404, "there is no bundle 'nothing'"),
        ("file", 404, "there is no bundle 'file'"),
        ("outside", 404, "there is no bundle 'outside'"),
        ("intent", 404, "task 'intent', which this service does not serve"),
        ("stranger", 400, "holds the model 'stranger'"),
        ("wrong", 400, "wrong/model.onnx is not the file that was written"),
        ("../stored/second", 400, "is not a valid folder name"),
        ("..", 400, "is not a valid folder name"),
        ("/etc", 400, "is not a valid folder name"),
        ("", 422, "at least 1 character"),
    ],
)
def test_what_cannot_serve_is_refused_with_its_reason_and_nothing_changes(
    client: TestClient, stored: Path, bundle: str, status: int, said: str
):
    refused = choose(client, bundle)
    assert refused.status_code == status
    assert said in refused.json()["error"]["message"]
    assert str(stored) not in refused.text
    assert answer(client) == ("first", "cat")
    assert client.get("/v1/model").json()["models"][0]["previous"] is None


def test_a_network_that_answers_otherwise_than_trained_is_refused(client: TestClient, stored: Path):
    """No file of it is damaged: only its golden outputs tell."""
    good = read_bundle(stored / "second")
    write_bundle(
        stored / "untrue",
        good.config,
        files={"model.onnx": (good.path / "model.onnx").read_bytes()},
        preprocessor=json.loads((good.path / "preprocessor_config.json").read_text()),
        golden=Golden(good.golden.inputs, {"logits": good.golden.outputs["logits"] + 1}),
    )
    refused = choose(client, "untrue")
    assert refused.status_code == 400
    assert "does not answer as it did after training" in refused.json()["error"]["message"]
    assert "the previous one still serves" in refused.json()["error"]["message"]
    assert answer(client) == ("first", "cat")


@pytest.mark.parametrize("headers", [{"x-api-key": "wrong"}, {"accept": "*/*"}])
def test_only_the_admin_chooses(client: TestClient, headers: dict[str, str]):
    assert choose(client, "second", **headers).status_code == 401
    assert client.post("/v1/model/rollback", headers=headers).status_code == 401
    assert answer(client) == ("first", "cat")


def test_without_a_folder_of_bundles_nobody_chooses(stored: Path):
    with serving(stored, bundles=None) as client:
        for refused in (choose(client, "second"), client.post("/v1/model/rollback", headers=KEY)):
            assert refused.status_code == 403
            assert "PERCEPT_BUNDLES" in refused.json()["error"]["message"]
        assert client.get("/v1/model").json()["models"][0]["bundle"] == "first"


def test_a_rollback_needs_something_to_go_back_to_and_a_model_that_is_there(client: TestClient):
    assert "no bundle served before" in client.post("/v1/model/rollback", headers=KEY).json()["error"]["message"]
    assert client.post("/v1/model/rollback?model=other", headers=KEY).status_code == 404


def test_a_disk_that_takes_no_choice_leaves_all_as_it_was(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SharedChoice, "write", full)
    refused = choose(client, "second")
    assert refused.status_code == 503
    assert "could not be written (No space left on device)" in refused.json()["error"]["message"]
    assert answer(client) == ("first", "cat")
    monkeypatch.undo()
    assert choose(client, "second").status_code == 200


def test_a_worker_follows_what_another_chose_and_says_why_it_cannot(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    with SharedChoice.of_this_server() as shared, serving(stored) as client:

        def chosen_elsewhere(name: str, serial: int) -> None:
            chosen = Chosen(path=stored / name, serial=serial, since="2026-11-25T00:00:00Z", previous=stored / "first")
            shared.write({"tagging": chosen})

        def wait_until(is_so) -> None:
            end = time.monotonic() + 30
            while not is_so():
                assert time.monotonic() < end
                time.sleep(0.05)

        chosen_elsewhere("second", 1)
        wait_until(lambda: answer(client) == ("second", "dog"))
        chosen_elsewhere("wrong", 2)
        wait_until(lambda: client.get("/v1/model").json()["problems"])
        (problem,) = client.get("/v1/model").json()["problems"]
        assert "wrong/model.onnx is not the file that was written" in problem
        assert answer(client) == ("second", "dog")
        chosen_elsewhere("third", 3)
        wait_until(lambda: answer(client) == ("third", "car"))
        assert client.get("/v1/model").json()["problems"] == []


@pytest.mark.parametrize("error", [MemoryError("secret"), OSError(5, "secret"), RuntimeError("secret")])
def test_a_follower_outlives_any_error_and_says_that_there_was_one(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    monkeypatch.setenv(DIRECTORY, str(tmp_path))

    def wait_until(is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.05)

    def fail(*_: object) -> None:
        raise error

    chosen = Chosen(path=stored / "second", serial=1, since="2026-11-25T00:00:00Z", previous=stored / "first")
    with SharedChoice.of_this_server() as shared, serving(stored) as client:
        with monkeypatch.context() as broken:
            broken.setattr(TaggingEngine, "replaced", fail)
            shared.write({"tagging": chosen})
            wait_until(lambda: client.get("/v1/model").json()["problems"])
        (problem,) = client.get("/v1/model").json()["problems"]
        assert problem == f"second: {type(error).__name__}; this worker's log has more"
        assert answer(client) == ("first", "cat")
        shared.write({"tagging": chosen.model_copy(update={"serial": 2})})
        wait_until(lambda: answer(client) == ("second", "dog"))
        assert client.get("/v1/model").json()["problems"] == []


def test_a_worker_that_starts_again_takes_up_the_choice_and_survives_one_that_is_gone(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    with serving(stored) as client:
        assert choose(client, "second").status_code == 200
    with serving(stored) as client:
        assert answer(client) == ("second", "dog")
        (model,) = client.get("/v1/model").json()["models"]
        assert (model["bundle"], model["previous"], model["workers"]) == ("second", "first", 1)
    with SharedChoice.of_this_server() as shared:
        gone = shared.read()["tagging"].model_copy(update={"path": stored / "gone", "serial": 2})
        shared.write({"tagging": gone})
    with serving(stored) as client:
        assert answer(client) == ("first", "cat")


def test_one_choice_at_a_time_over_all_workers(tmp_path: Path):
    with SharedChoice(tmp_path).changing(), pytest.raises(Overloaded), SharedChoice(tmp_path).changing():
        raise AssertionError
    with SharedChoice(tmp_path).changing():
        pass


def test_reports_of_dead_workers_are_forgotten(tmp_path: Path):
    shared = SharedChoice(tmp_path)
    shared.report(Report(models={}))
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f"worker-{ended.pid}.json").write_text('{"models": {}}')
    assert len(shared.reports()) == 1
    assert [file.name for file in tmp_path.glob("worker-*")] == [f"worker-{os.getpid()}.json"]
    shared.forget()
    assert shared.reports() == []


def test_replaced_models_are_freed_and_a_used_one_after_its_last_request(stored: Path):
    settings = Settings.model_validate({"tagger": stored / "first", "device": "cpu"})
    lifecycle = Lifecycle(lambda: TaggingEngine.load(settings))

    async def run() -> None:
        async with lifecycle.run():
            lease = Lease()
            LEASE.set(lease)
            first = lifecycle()
            await lifecycle.replace(first.replaced("tagging", stored / "second"))
            assert lifecycle() is first
            assert lifecycle.newest() is not first
            assert lifecycle.model() == ("tiny-tagger", "first")
            await asyncio.sleep(0.05)
            assert (await first.tag(plain())).tags[0].label == "cat"
            lease.end()
            await asyncio.wait_for(lifecycle._retiring, 10)
            assert not first.is_ready
            assert lifecycle().version == "second"

    asyncio.run(run())
