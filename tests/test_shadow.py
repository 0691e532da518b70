"""Shadow mode as operators see it: a candidate's answers are recorded, and no caller ever notices the candidate."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

import nlp.api
import vision.api
from nlp.engine import LanguageEngine
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.records.record import Record
from shared.serving.app import with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.recording import shadow as shadows
from shared.serving.recording.notes import recorder_of
from shared.serving.recording.shadow import Candidate, Shadow, Skipped
from shared.serving.settings import Settings
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle, make_qa_bundle
from tests.live import wait_until
from tests.pictures import GREEN, plain
from vision.engine import TaggingEngine

ADMIN = {"X-API-Key": "the admin's"}
LANGUAGE, VISION = (nlp.api.create_app, LanguageEngine), (vision.api.create_app, TaggingEngine)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for version in ("live", "next", "other"):
        make_intent_bundle(folder / version, version=version)
    for version in ("qa-live", "qa-next"):
        make_qa_bundle(folder / version, version=version)
    for version in ("tagger-live", "tagger-next"):
        make_tagger_bundle(folder / version, version=version)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


@pytest.fixture
def settings_of(bundles: Path, tmp_path: Path, file: Path) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        chosen: dict[str, Any] = {
            "device": "cpu", "tagger": bundles / "tagger-live", "intent": bundles / "live", "qa": bundles / "qa-live",
            "encoder": "none", "writer": "none", "knowledge": tmp_path / "knowledge.sqlite", "bundles": bundles,
            "knowledge_documents": "none", "admin_key": ADMIN["X-API-Key"], "records": f"sqlite:///{file}",
            "shadow": [bundles / "next", bundles / "qa-next"], "shadow_share": 1.0,
        }  # fmt: skip
        return Settings(**{**chosen, **changes})

    return make


@pytest.fixture
def opened(settings_of: Callable[..., Settings]) -> Open:
    @contextmanager
    def make(kind: Any = LANGUAGE, **changes: Any) -> Iterator[TestClient]:
        settings = settings_of(**changes)
        create_app, engine = kind
        lifecycle: Lifecycle[Any] = Lifecycle(lambda: engine.load(settings))
        app = with_edge(create_app(lifecycle, settings), settings, lifecycle.model)
        with TestClient(app, raise_server_exceptions=False) as client:
            client.shadows = recorder_of(settings).shadows
            yield client

    return make


def kept(file: Path, columns: str, where: str = "shadow_of IS NOT NULL") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        query = f"SELECT {columns} FROM percept_records WHERE {where} ORDER BY id"  # noqa: S608 ours
        return connection.execute(query).fetchall()


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"percept_shadow_{name}_total", labels) or 0.0


def answered(version: str = "next", model: str = "tiny-intent") -> float:
    return count("answers", model=model, version=version)


def ask(client: TestClient, text: str = "book a flight", **headers: str) -> Any:
    answer = client.post("/v1/intent", json={"text": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_candidate_answers_the_same_items_and_only_records_show_it(opened: Open, file: Path):
    before, of_qa = answered(), answered("qa-next", "tiny-qa")
    sent = {"X-Request-ID": "r1", "X-Subject": "zoe", "X-Consent": "yes"}
    with opened(records_level="inputs", shadow_share=1.0) as client:
        answer = client.post("/v1/intent", json={"texts": ["book a flight", "xyz"]}, headers=sent)
        client.post("/v1/answer", json={"question": "who is it", "context": "it is ada"})
        wait_until(lambda: (answered(), answered("qa-next", "tiny-qa")) == (before + 2, of_qa + 1))
        assert answer.headers["x-model-version"] == "live"
        assert "next" not in client.get("/v1/model").text
    columns = "request_id, item, outcome, labels, subject, consent, characters, text, context, answer, photo, features"
    assert kept(file, f"version, shadow_of, {columns}") == [
        ("next", "live", "r1", 0, "in_scope", '["book_flight"]', "zoe", 1, 13, None, None, None, None, None),
        ("next", "live", "r1", 1, "out_of_scope", "[]", "zoe", 1, 3, None, None, None, None, None),
        ("qa-next", "qa-live", *kept(file, "request_id", "task = 'qa'")[0], 0, "answered", "[]", None, None, 9, None,
         None, None, None, None),
    ]  # fmt: skip
    assert kept(file, "version, text", "shadow_of IS NULL AND task = 'intent'") == [
        ("live", "book a flight"), ("live", "xyz")
    ]  # fmt: skip


def test_photos_are_answered_again_and_those_that_take_much_are_left_out(
    opened: Open, bundles: Path, file: Path, monkeypatch: pytest.MonkeyPatch
):
    before, large = answered("tagger-next", "tiny-tagger"), count("dropped", reason="large")
    with opened(VISION, shadow=[bundles / "tagger-next"]) as client:
        client.post("/v1/tag", content=plain(GREEN), headers={"content-type": "image/png"})
        wait_until(lambda: answered("tagger-next", "tiny-tagger") == before + 1)
        monkeypatch.setattr("vision.engine._is_large", lambda _: True)
        client.post("/v1/tag", content=plain(GREEN), headers={"content-type": "image/png"})
        wait_until(lambda: count("dropped", reason="large") == large + 1)
    assert kept(file, "labels, width, height, photo") == [('["dog"]', 64, 48, None)]


@pytest.mark.parametrize(("changes", "again"), [({"shadow_share": 0.0}, 0), ({"records_share": 0.0}, 1)])
def test_only_what_is_recorded_and_sampled_is_answered_again(opened: Open, file: Path, changes: Any, again: int):
    before = answered()
    with opened(**changes) as client:
        ask(client)
        ask(client, "xyz")
        wait_until(lambda: answered() == before + again)
    assert kept(file, "outcome") == [("out_of_scope",)] * again


def test_without_consent_no_candidate_is_asked_and_a_deleted_subject_is_gone_from_its_answers(opened: Open, file: Path):
    before, written = answered(), REGISTRY.get_sample_value("percept_records_written_total") or 0.0
    with opened() as client:
        ask(client, **{"X-Consent": "no"})
        ask(client, **{"X-Subject": "zoe"})
        wait_until(lambda: REGISTRY.get_sample_value("percept_records_written_total") == written + 2)
        assert answered() == before + 1
        answer = client.delete("/v1/records?subject=zoe", headers=ADMIN)
        assert answer.json() == {"records": 2, "feedback": 0}
    assert kept(file, "id", "1 = 1") == []


def test_a_candidate_that_hangs_holds_up_nobody_and_what_waits_for_it_is_bounded(
    opened: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shadows, "MAX_WAITING", 5)
    go_on, began = threading.Event(), threading.Event()

    def hang(_: Any) -> Any:
        began.set()
        assert go_on.wait(60)
        return {"outcome": "in_scope", "confidence": 0.5}

    dropped, stopped = count("dropped", reason="queue_full"), count("dropped", reason="stopped")
    with opened() as client:
        shadow = client.shadows["intent"]
        shadow.candidate = replace(shadow.candidate, answer=hang)
        ask(client)
        assert began.wait(60)
        for _ in range(12):
            ask(client)
        assert count("dropped", reason="queue_full") == dropped + 7
        threading.Timer(0.2, go_on.set).start()
    assert count("dropped", reason="stopped") == stopped + 5


def test_what_goes_wrong_with_a_candidate_is_counted_and_the_next_item_is_answered(opened: Open, file: Path):
    failed, before = count("failed"), answered()
    with opened() as client:
        shadow = client.shadows["intent"]
        real = shadow.candidate.answer

        def sometimes(text: str) -> Any:
            if text == "xyz":
                raise RuntimeError(text)
            return real(text)

        shadow.candidate = replace(shadow.candidate, answer=sometimes)
        ask(client, "xyz")
        ask(client)
        wait_until(lambda: answered() == before + 1)
    assert count("failed") == failed + 1
    assert kept(file, "outcome") == [("in_scope",)]


def test_it_goes_on_when_the_live_model_is_replaced_until_the_candidate_is_live_itself(opened: Open, file: Path):
    with opened() as client:
        for version in ("live", "other", "next", "live"):
            if version != "live" or client.get("/v1/model").json()["models"][0]["version"] != "live":
                answer = client.put("/v1/model", json={"bundle": version}, headers=ADMIN)
                assert answer.status_code == 200, answer.text
            before = answered()
            ask(client)
            if version != "next":
                wait_until(lambda before=before: answered() == before + 1)
    assert kept(file, "version, shadow_of") == [("next", "live"), ("next", "other"), ("next", "live")]


def test_a_candidate_waits_until_the_live_model_has_nothing_in_hand(intent_bundle: Bundle):
    asked: list[str] = []
    records: list[Record] = []
    busy = threading.Event()
    busy.set()
    looked = threading.Semaphore(0)

    def is_busy() -> bool:
        looked.release()
        return busy.is_set()

    shadow = Shadow(fake(intent_bundle, lambda text: asked.append(text) or SAID), 1.0, records.append)
    shadow.offer(record(), "one", is_busy)
    for _ in range(3):
        assert looked.acquire(timeout=60)
    assert asked == []
    busy.clear()
    wait_until(lambda: len(records) == 1)
    assert asked == ["one"]
    assert (records[0].shadow_of, records[0].text, records[0].share) == ("v1", None, 0.5)
    shadow.close()


def test_what_a_busy_worker_does_not_come_to_makes_room_for_newer_ones(
    intent_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shadows, "MAX_WAIT_S", 0.0)
    dropped = count("dropped", reason="busy")
    shadow = Shadow(fake(intent_bundle, lambda _: SAID), 1.0, lambda _: None)
    shadow.offer(record(), "one", lambda: True)
    wait_until(lambda: count("dropped", reason="busy") == dropped + 1)
    shadow.close()


def test_large_inputs_fill_the_queue_by_their_bytes(intent_bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    dropped = count("dropped", reason="queue_full")
    shadow = Shadow(fake(intent_bundle, lambda _: SAID), 1.0, lambda _: None)
    for _ in range(3):
        shadow.offer(record(), bytes(6 << 20), lambda: True)
    assert count("dropped", reason="queue_full") == dropped + 1
    shadow.close()


SAID: Any = {"outcome": "in_scope", "confidence": 0.9}


def record() -> Record:
    return Record(
        request_id="r1", item=0, seconds=0.0, key="", task="intent", model="tiny-intent", version="v1",
        outcome="in_scope", labels=["a"], scores=[0.9], confidence=0.9, out_of_scope_score=0.1, share=0.5, text="hello",
    )  # fmt: skip


def fake(bundle: Bundle, answer: Callable[[Any], Any]) -> Candidate:
    class Closed:
        def close(self) -> None: ...

    def checked(again: Any) -> Any:
        if again is None:
            raise Skipped
        return answer(again)

    return Candidate(bundle, Closed(), checked)  # type: ignore[arg-type]


# Refused before anything is served


def test_without_records_it_does_not_start(settings_of: Callable[..., Settings]):
    with pytest.raises(ConfigError, match="PERCEPT_SHADOW needs PERCEPT_RECORDS"):
        LanguageEngine.check(settings_of(records=None))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (make_tagger_bundle, ConfigError, "'tagging', which this service does not serve"),
        (lambda path: make_intent_bundle(path, name="stranger"), ConfigError, "fit it with --name tiny-intent"),
        (lambda path: make_intent_bundle(path, version="x", prefix="new_"), ConfigError, "does not know 3 of the"),
        (lambda path: path.mkdir(), BundleError, "config.json"),
    ],
)
def test_a_candidate_that_does_not_fit_is_refused(
    settings_of: Callable[..., Settings], tmp_path: Path, make: Any, error: type[Exception], message: str
):
    make(tmp_path / "candidate")
    settings = settings_of(shadow=[tmp_path / "candidate"], tagger="none")
    with pytest.raises(error, match=message):
        LanguageEngine.check(settings)
    with pytest.raises(error, match=message):
        LanguageEngine.load(settings)


def test_two_candidates_for_one_task_are_refused(settings_of: Callable[..., Settings], bundles: Path):
    with pytest.raises(ConfigError, match=r"are both for the task 'intent'. Name one"):
        LanguageEngine.check(settings_of(shadow=[bundles / "next", bundles / "other"]))


def test_a_candidate_that_serves_by_now_is_left_out(opened: Open, bundles: Path):
    with opened(shadow=[bundles / "live"]) as client:
        assert client.shadows == {}
        ask(client)


def test_the_variable_names_several_folders(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERCEPT_SHADOW", "a/b, c")
    assert Settings().shadow == [Path("a/b"), Path("c")]
