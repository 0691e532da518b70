"""Records and feedback of the services as clients see them: what is kept, what is not, and that answers never wait."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect
from prometheus_client import REGISTRY
from sqlalchemy import event
from starlette.testclient import TestClient

import nlp.api
import service
import vision.api
from nlp.demo import page
from nlp.engine import LanguageEngine
from shared.bundle.read import Bundle
from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.records import store as stores
from shared.records import writer as writers
from shared.serving.access.keys import add_key
from shared.serving.app import edge_layers, with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.page.tabs import mount_pages
from shared.serving.recording import notes
from shared.serving.recording.notes import recorder_of
from shared.serving.settings import Settings
from tests.browser import launched
from tests.browser import opened as browser_page
from tests.live import wait_until
from tests.pictures import BLUE, GREEN, encode, plain
from tests.server import serving
from vision.engine import TaggingEngine

ADMIN = {"X-API-Key": "the admin's"}
DOCUMENT = b"# Le moteur\n\n## Histoire\n\nLe moteur a \xc3\xa9t\xc3\xa9 d\xc3\xa9crit par Ada en 1815.\n"
LANGUAGE, VISION = (nlp.api.create_app, LanguageEngine), (vision.api.create_app, TaggingEngine)
NASTY = "'; DROP TABLE percept_records; -- \" \x01 \u202e %s"

Open = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records" / "records.sqlite"


@pytest.fixture
def opened(
    tagger_bundle: Bundle, intent_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path, file: Path
) -> Callable[..., Any]:
    """Opens a client of a service that records in `file`."""
    file.parent.mkdir()

    @contextmanager
    def make(kind: Any = LANGUAGE, **changes: Any) -> Iterator[TestClient]:
        chosen: dict[str, Any] = {
            "device": "cpu", "tagger": tagger_bundle.path, "intent": intent_bundle.path, "qa": qa_bundle.path,
            "encoder": "none", "writer": "none", "knowledge": tmp_path / "knowledge.sqlite",
            "knowledge_documents": "none", "admin_key": ADMIN["X-API-Key"], "records": f"sqlite:///{file}",
        }  # fmt: skip
        settings = Settings(**{**chosen, **changes})
        create_app, engine = kind
        lifecycle: Lifecycle[Any] = Lifecycle(lambda: engine.load(settings))
        app = with_edge(create_app(lifecycle, settings), settings, lifecycle.model)
        with TestClient(app, raise_server_exceptions=False) as client:
            client.recorder = recorder_of(settings)
            yield client

    return make


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"percept_records_{name}_total", labels) or 0.0


def kept(file: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return what is in the store; call it once the service has ended, or after `settled`."""
    with closing(sqlite3.connect(file)) as connection:
        query = f"SELECT {columns} FROM percept_records ORDER BY id"  # noqa: S608 ours
        return connection.execute(query).fetchall()


def settled(written: float) -> None:
    wait_until(lambda: count("written") >= written)


def ask(client: TestClient, text: str = "book a flight", **headers: str) -> str:
    """Ask for an intent and return the request's id."""
    answer = client.post("/v1/intent", json={"text": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def give(client: TestClient, request_id: str, headers: Any = None, **said: Any) -> Any:
    return client.post("/v1/feedback", json={"request_id": request_id, **said}, headers=headers)


def read(client: TestClient, request_id: str, headers: Any = ADMIN) -> Any:
    return client.get(f"/v1/records/{request_id}", headers=headers)


# What is kept


def test_outcomes_hold_neither_text_nor_features_nor_the_words_of_an_answer(opened: Open, file: Path):
    with opened() as client:
        client.post("/v1/intent", json={"texts": ["book a flight", 5, "xyz"]}, headers={"X-Request-ID": "three"})
        client.post("/v1/answer", json={"question": "who is it", "context": "it is ada"})
    found = kept(file, "request_id, item, task, model, outcome, labels, characters, text, context, answer, features")
    assert found[0] == ("three", 0, "intent", "tiny-intent", "in_scope", '["book_flight"]', 13, None, None, None, None)
    assert found[1] == ("three", 2, "intent", "tiny-intent", "out_of_scope", "[]", 3, None, None, None, None)
    assert found[2][1:] == (0, "qa", "tiny-qa", "answered", "[]", 9, None, None, None, None)
    assert not any(word in file.read_bytes() for word in (b"book a flight", b"it is ada", b"who is it"))


def test_features_are_those_of_the_network_in_half_precision(opened: Open, file: Path):
    intent = PROJECT_ROOT / "models" / "intent"
    with opened(intent=intent, qa="none", records_level="features") as client:
        ask(client, "what is the weather like")
        ask(client)
    sizes = [len(each) // 2 for (each,) in kept(file, "features")]
    outputs = json.loads((intent / "config.json").read_text())["signature"]["outputs"]
    assert sizes == [each["shape"][-1] for each in outputs if each["name"] == "features"] * 2
    assert kept(file, "text") == [(None,), (None,)]


def test_inputs_are_kept_with_personal_data_masked(opened: Open, file: Path):
    with opened(records_level="inputs") as client:
        ask(client, "book a flight for ada@example.org, +44 20 7946 0958")
        client.post("/v1/answer", json={"question": "who is it", "context": "it is ada, ada@example.org"})
    assert kept(file, "text, context, answer") == [
        ("book a flight for [e-mail], [telephone]", None, None),
        ("who is it", "it is ada, [e-mail]", "ada"),
    ]
    assert b"ada@example.org" not in file.read_bytes()


def test_a_photo_is_kept_as_a_small_jpeg_and_each_image_has_its_item(opened: Open, file: Path):
    photos = [plain(GREEN, (1600, 900)), b"no photo", plain(BLUE)]
    with opened(VISION, records_level="inputs") as client:
        answer = client.post("/v1/tag?min_score=0", files=[("image", ("x", photo, "image/png")) for photo in photos])
        assert [set(each) for each in answer.json()["results"]][1] == {"error"}
        client.post("/hf/image-classification", content=photos[2], headers={"content-type": "image/png"})
    found = kept(file, "item, outcome, labels, width, height, photo, confidence")
    assert sorted(each[:5] for each in found[:2]) == [
        (0, "tagged", '["dog"]', 1600, 900), (2, "tagged", '["car"]', 64, 48)
    ]  # fmt: skip
    assert found[2][:5] == (0, "tagged", '["car"]', 64, 48)
    for *_, photo, confidence in found:
        image = Image.open(io.BytesIO(photo))
        assert image.format == "JPEG"
        assert max(image.size) <= 512
        assert confidence == pytest.approx(0.982, abs=1e-3)


def test_a_level_below_inputs_keeps_no_photo(opened: Open, file: Path):
    with opened(VISION, records_level="features") as client:
        client.post("/v1/tag", content=plain(GREEN), headers={"content-type": "image/png"})
    assert kept(file, "photo, width, height") == [(None, 64, 48)]


def test_of_what_is_understood_the_intent_is_item_0_and_the_answer_item_1(opened: Open, file: Path):
    with opened(records_level="inputs") as client:
        client.put("/v1/knowledge/moteur.md", content=DOCUMENT, headers=ADMIN)
        client.post("/v1/understand", json={"text": "combien de francs ?"})
        client.post("/model/parse", json={"text": "play a song"})
        client.post("/hf/text-classification", json={"inputs": ["play a song", "book a flight"]})
        client.post("/hf/question-answering", json={"inputs": {"question": "qui", "context": "c'est ada"}})
        client.post(
            "/openai/v1/chat/completions", json={"model": "tiny-qa", "messages": [{"role": "user", "content": "qui"}]}
        )
    assert [(task, item) for task, item in kept(file, "task, item")] == [
        ("intent", 0), ("qa", 1), ("intent", 0), ("intent", 0), ("intent", 1), ("qa", 0), ("qa", 0)
    ]  # fmt: skip


def test_sure_answers_are_sampled_and_all_others_are_kept(opened: Open, file: Path):
    with opened(records_share=0.0) as client:
        for _ in range(5):
            ask(client, "book a flight")
            ask(client, "xyz")
    assert kept(file, "outcome, share") == [("out_of_scope", 1.0)] * 5


def test_a_sample_says_how_likely_it_was(opened: Open, file: Path, monkeypatch: pytest.MonkeyPatch):
    draws = iter([0.1, 0.9, 0.2, 0.8])
    monkeypatch.setattr(notes, "_random", type("Draws", (), {"random": lambda: next(draws)}))
    with opened(records_share=0.25, records_sure_from=0.99) as client:
        for _ in range(4):
            client.post("/v1/intent", json={"texts": ["book a flight", "play a song"]})
    assert kept(file, "item, share") == [(0, 0.25), (1, 0.25)] * 2


def test_below_the_confidence_that_counts_as_sure_all_is_kept(opened: Open, file: Path):
    with opened(records_share=0.0, records_sure_from=1.0) as client:
        ask(client, "book a flight")
    assert kept(file, "outcome, share") == [("in_scope", 1.0)]


@pytest.mark.parametrize("value", ["no", "No", "0", "false", "maybe", ""])
def test_without_consent_nothing_is_kept(opened: Open, file: Path, value: str):
    with opened(records_level="inputs") as client:
        ask(client, **{"X-Consent": value, "X-Subject": "zoe"})
        client.post("/v1/answer", json={"question": "who is it", "context": "it is ada"}, headers={"X-Consent": value})
        ask(client, "play a song", **{"X-Consent": "yes"})
    assert kept(file, "text, consent, subject") == [("play a song", 1, None)]


def test_a_subject_that_could_not_be_deleted_later_is_not_kept(opened: Open, file: Path):
    before = count("lost", reason="subject")
    with opened() as client:
        ask(client, **{"X-Subject": "z" * 300})
        client.post("/v1/intent", json={"text": "book a flight"}, headers=[(b"X-Subject", "Zoë".encode())])
        client.post("/v1/intent", json={"text": "book a flight"}, headers=[(b"X-Subject", ("é" * 200).encode())])
    assert sorted(kept(file, "subject")) == [("Zoë",), ("é" * 200,)]
    assert count("lost", reason="subject") == before + 1


def test_without_the_setting_there_is_no_file_and_every_route_says_what_to_do(opened: Open, file: Path):
    with opened(records=None) as client:
        request_id = ask(client)
        answers = [
            give(client, request_id, right=True),
            read(client, request_id),
            client.delete("/v1/records?subject=zoe", headers=ADMIN),
        ]
    for answer in answers:
        assert answer.status_code == 403
        assert "keeps no records. Set PERCEPT_RECORDS and restart it." in answer.json()["error"]["message"]
    assert not file.exists()


# Deleting and reading


def test_a_deleted_subject_is_gone_and_never_kept_again(opened: Open, file: Path):
    with opened(records_level="inputs") as client:
        written = count("written")
        request_id = ask(client, **{"X-Subject": "zoe"})
        ask(client, "play a song", **{"X-Subject": "ben"})
        assert give(client, request_id, helpful=False, comment="bad").status_code == 200
        settled(written + 2)
        assert client.delete("/v1/records?subject=zoe").status_code == 401
        assert client.delete("/v1/records?subject=zoe", headers={"X-API-Key": "guess"}).status_code == 401
        answer = client.delete("/v1/records?subject=zoe", headers=ADMIN)
        assert answer.json() == {"records": 1, "feedback": 1}
        assert read(client, request_id).status_code == 404
        assert give(client, request_id, right=True).status_code == 404
        ask(client, **{"X-Subject": "zoe"})
        assert client.delete("/v1/records?subject=", headers=ADMIN).status_code == 422
        twice = client.delete("/v1/records?subject=ada&subject=zoe", headers=ADMIN)
        assert twice.status_code == 400
        assert "several times; nothing was deleted" in twice.text
    assert kept(file, "subject") == [("ben",)]


def test_an_administrator_reads_what_was_kept(opened: Open):
    with opened(VISION, records_level="inputs") as client:
        written = count("written")
        sent = client.post("/v1/tag", content=plain(GREEN), headers={"content-type": "image/png", "X-Subject": "zoe"})
        settled(written + 1)
        request_id = sent.headers["x-request-id"]
        assert read(client, request_id, None).status_code == 401
        [found] = read(client, request_id).json()["records"]
        assert (found["task"], found["labels"], found["subject"], found["feedback"]) == ("tagging", ["dog"], "zoe", [])
        assert found["time"].endswith(("Z", "+00:00"))
        assert Image.open(io.BytesIO(base64.b64decode(found["photo"]))).size == (64, 48)
        for unknown in ("nowhere", "a%00b", "%27%20OR%201=1", "é"):
            assert read(client, unknown).status_code == 404


# Feedback


def test_feedback_replaces_that_of_the_same_key_and_stands_beside_that_of_another(opened: Open, tmp_path: Path):
    keys = tmp_path / "keys.json"
    shop, other, admin = (
        {"X-API-Key": add_key(keys, name, role=role)}
        for name, role in (("shop", "user"), ("other", "user"), ("boss", "admin"))
    )
    with opened(api_keys_file=keys) as client:
        request_id = ask(client, **shop)
        assert give(client, request_id, right=True).status_code == 401
        for said, replaced in (({"right": True}, False), ({"right": True}, True), ({"label": "weather"}, True)):
            answer = give(client, request_id, shop, **said)
            assert answer.json() == {"request_id": request_id, "item": 0, "task": "intent", "replaced": replaced}
        assert give(client, request_id, other, right=True).status_code == 404
        assert give(client, request_id, admin, right=True).json()["replaced"] is False
        assert read(client, request_id, shop).status_code == 403
        [found] = read(client, request_id, admin).json()["records"]
    assert [(each["key"], each["right"], each["labels"]) for each in found["feedback"]] == [
        ("shop", None, ["weather"]), ("boss", True, None)
    ]  # fmt: skip
    assert found["key"] == "shop"


def test_what_one_key_was_answered_is_nothing_to_another_key(opened: Open, tmp_path: Path):
    keys = tmp_path / "keys.json"
    shop, other = ({"X-API-Key": add_key(keys, name, role="user")} for name in ("shop", "other"))
    with opened(api_keys_file=keys, records_level="inputs") as client:
        written = count("written")
        ask(client, "book a flight", **shop, **{"X-Request-ID": "same", "X-Subject": "zoe"})
        ask(client, "play a song", **other, **{"X-Request-ID": "same"})
        settled(written + 2)
        for headers in (shop, other):  # each means its own, whoever came last
            assert give(client, "same", headers, comment=headers["X-API-Key"][:4], right=True).status_code == 200
            assert read(client, "same", headers).status_code == 403
            assert client.delete("/v1/records?subject=zoe", headers=headers).status_code == 403
        alone = ask(client, **shop)
        assert give(client, alone, other, right=False).status_code == 404
    with closing(sqlite3.connect(file := tmp_path / "records" / "records.sqlite")) as connection:
        said = connection.execute(
            "SELECT r.key, r.text, f.key FROM percept_feedback f JOIN percept_records r ON r.id = f.record "
            "ORDER BY f.id"
        ).fetchall()
    assert said == [("shop", "book a flight", "shop"), ("other", "play a song", "other")]
    assert len(kept(file)) == 3


@pytest.mark.parametrize(
    "forged", ["never-answered", "'; DROP TABLE percept_records; --", "a\x00b", "\ud83d", "", "%", "é"]
)
def test_feedback_on_what_was_never_answered_is_404(opened: Open, monkeypatch: pytest.MonkeyPatch, forged: str):
    monkeypatch.setattr("shared.serving.recording.feedback._WAITS_S", (0.0, 0.01))
    with opened() as client:
        body = json.dumps({"request_id": forged, "right": True})
        answer = client.post("/v1/feedback", content=body)
        assert answer.status_code == (422 if forged == "\ud83d" else 404), answer.text
        assert set(answer.json()["error"]) == {"type", "message", "request_id"}
        assert give(client, ask(client), item=3, right=True).status_code == 404


@pytest.mark.parametrize(
    "said",
    [
        {}, {"right": "yes"}, {"right": None}, {"right": True, "label": "x"}, {"right": True, "helpful": True},
        {"label": ""}, {"label": "x" * 201}, {"labels": "x"}, {"labels": ["x"] * 65}, {"labels": [1]},
        {"labels": ["y" * 201]}, {"answer": "x" * 2001}, {"right": True, "comment": "x" * 2001},
        {"right": True, "item": -1}, {"right": True, "item": 1 << 40}, {"right": True, "item": True},
        {"right": True, "more": 1}, {"comment": "x"},
    ],
    ids=lambda said: json.dumps(said)[:40],
)  # fmt: skip
def test_malformed_feedback_is_422(opened: Open, said: dict[str, Any]):
    with opened() as client:
        answer = give(client, "r1", **said)
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["type"] == "validation_error"


def test_a_megabyte_of_comment_is_refused_unread(opened: Open):
    with opened() as client:
        answer = give(client, "r1", right=True, comment="x" * (1 << 20))
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "too_large"

        def chunks() -> Iterator[bytes]:
            yield b'{"request_id": "r1", "right": true, "comment": "'
            yield b"x" * (1 << 20)
            yield b'"}'

        assert client.post("/v1/feedback", content=chunks()).status_code == 413


def test_sql_in_every_field_of_feedback_is_a_text_and_personal_data_are_masked(opened: Open, file: Path):
    with opened() as client:
        headers = {"X-Subject": NASTY.replace("\u202e", "").replace("\x01", ""), "X-Request-ID": "r1"}
        ask(client, **headers)
        assert give(client, "r1", label=NASTY, comment=NASTY + " ada@example.org").status_code == 200
        [found] = read(client, "r1").json()["records"]
        assert found["feedback"][0]["labels"] == [NASTY]
        assert found["feedback"][0]["comment"] == NASTY + " [e-mail]"
    assert len(kept(file)) == 1


def test_feedback_has_to_fit_the_task(opened: Open):
    with opened() as client:
        request_id = ask(client)
        for said in ({"answer": "ada"}, {"labels": ["a", "b"]}):
            answer = give(client, request_id, **said)
            assert answer.status_code == 400
            assert "the answer is of the task 'intent'" in answer.json()["error"]["message"]
        sent = client.post("/v1/answer", json={"question": "who is it", "context": "it is ada"})
        for said in ({"answer": "ada"}, {"answer": ""}, {"helpful": True}):
            assert give(client, sent.headers["x-request-id"], **said).status_code == 200


def test_feedback_without_consent_is_refused(opened: Open):
    with opened() as client:
        assert give(client, ask(client), {"X-Consent": "no"}, right=True).status_code == 400


def test_of_a_request_id_that_is_used_again_the_newest_answer_counts(opened: Open):
    with opened() as client:
        written = count("written")
        for text in ("book a flight", "play a song"):
            ask(client, text, **{"X-Request-ID": "again"})
        settled(written + 2)
        give(client, "again", right=False)
        assert [len(each["feedback"]) for each in read(client, "again").json()["records"]] == [0, 1]


# A store that fails


def lost_after(client: TestClient, reason: str, requests: int = 20) -> None:
    """Ask, and wait until all of it is counted as lost; every answer comes."""
    before = count("lost", reason=reason)
    for _ in range(requests):
        ask(client)
    wait_until(lambda: count("lost", reason=reason) == before + requests)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "BUSY_S", 0.05)
    monkeypatch.setattr(writers, "RETRY_S", 0.01)
    monkeypatch.setattr(writers, "TRIES", 2)
    notes._recorder.cache_clear()


def test_a_store_that_is_locked_for_long_costs_records_and_no_answer(opened: Open, file: Path, impatient: None):
    with opened() as client:
        written = count("written")
        request_id = ask(client)
        settled(written + 1)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            lost_after(client, "locked")
            answer = give(client, request_id, right=True)
            assert answer.status_code == 503
            assert answer.json()["error"]["type"] == "unavailable"
            assert client.delete("/v1/records?subject=zoe", headers=ADMIN).status_code == 503
        assert give(client, request_id, right=True).status_code == 200


def test_a_store_that_is_deleted_while_serving_costs_records_and_no_answer(opened: Open, file: Path, impatient: None):
    with opened() as client:
        written = count("written")
        ask(client)
        settled(written + 1)
        shutil.rmtree(file.parent)
        lost_after(client, "unavailable")
        file.parent.mkdir()
        written = count("written")
        ask(client, "play a song")
        settled(written + 1)
    assert kept(file, "labels") == [('["play_music"]',)]


def test_a_store_that_is_full_costs_records_and_no_answer(opened: Open, file: Path, impatient: None):
    with opened(records_level="inputs") as client:
        store = client.recorder._writer.store

        @event.listens_for(store.engine, "connect")
        def bound(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA max_page_count=24")

        before = count("lost", reason="full")
        for _ in range(30):
            ask(client, "book a flight " + "and a train " * 150)
        wait_until(lambda: count("lost", reason="full") >= before + 15)


def test_a_store_of_a_newer_version_costs_records_and_no_answer(opened: Open, file: Path, impatient: None):
    with opened() as client:
        ask(client)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE percept_records_version SET version_num = '99'")
    with opened() as client:
        lost_after(client, "version")
        assert give(client, "r1", right=True).status_code == 503
    assert len(kept(file)) == 1


def test_a_store_that_never_answers_holds_up_nothing_else(opened: Open, monkeypatch: pytest.MonkeyPatch):
    with opened() as client:
        go_on = threading.Event()
        store = client.recorder._writer.store
        monkeypatch.setattr(type(store), "find", lambda *_: go_on.wait(30) and None)
        monkeypatch.setattr(type(store), "write", lambda *_: go_on.wait(30) and 0)
        monkeypatch.setattr(notes, "_MAX_ASKING", 2)
        waiting = [threading.Thread(target=give, args=(client, "r1"), kwargs={"right": True}) for _ in range(2)]
        for each in waiting:
            each.start()
        wait_until(lambda: client.recorder._asking == 2)
        assert give(client, "r1", right=True).status_code == 429
        for _ in range(10):
            ask(client)
        go_on.set()
        for each in waiting:
            each.join(30)


# Settings


@pytest.mark.parametrize(
    "url",
    ["records.sqlite", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://ada:hunter2@db/records",
     "postgresql+psycopg://ada:hunter2@db", "postgresql+asyncpg://ada:hunter2@db/records"],
)  # fmt: skip
def test_what_is_no_store_is_refused_without_showing_a_password(url: str):
    with pytest.raises(ValueError, match=r"expected sqlite:///FILE or postgresql\+psycopg") as caught:
        Settings(records=url)
    message = caught.value.errors(include_input=False, include_url=False)[0]["msg"]
    assert "hunter2" not in message


def test_settings_show_no_password_and_a_relative_file_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    assert "hunter2" not in repr(Settings(records="postgresql+psycopg://ada:hunter2@db/records"))
    assert Settings(records="sqlite:///a.sqlite").records.get_secret_value() == f"sqlite:///{tmp_path}/a.sqlite"


def test_a_missing_extra_is_named_before_the_service_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notes, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"Run: pip install 'percept\[records\]'"):
        edge_layers(Settings(records="sqlite:///a.sqlite"), lambda: None)


def test_the_all_in_one_service_has_the_routes():
    paths = service.APP.openapi()["paths"]
    assert {"/v1/feedback", "/v1/records", "/v1/records/{request_id}"} <= set(paths)


# The page


def test_the_page_has_thumbs_for_what_was_recorded_and_for_nothing_else(
    intent_bundle: Bundle, qa_bundle: Bundle, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    file.parent.mkdir()
    chosen: dict[str, Any] = {
        "intent": intent_bundle.path, "qa": qa_bundle.path, "encoder": "none", "writer": "none",
        "knowledge": tmp_path / "knowledge.sqlite", "knowledge_documents": "none", "device": "cpu",
    }  # fmt: skip
    settings = Settings(**chosen, records=f"sqlite:///{file}", records_share=0.0)
    engine = LanguageEngine.load(settings)
    assert engine.knowledge is not None
    engine.knowledge.put("moteur.md", DOCUMENT)
    app = with_edge(mount_pages([page(lambda: engine)]), settings, lambda: None)

    with TestClient(app) as client:
        parts = client.get("/ui/config").json()["components"]
        component = next(part["id"] for part in parts if part["props"].get("elem_id") == "language")

        def call(name: str, **data: Any) -> Any:
            body = {"data": {"visitor": "e" * 32, **data}, "component_id": component, "fn_name": name,
                    "session_hash": "x"}  # fmt: skip
            return client.post("/ui/gradio_api/component_server/", json=body).json()

        recorder = recorder_of(settings)
        assert recorder is not None
        with client.portal.wrap_async_context_manager(recorder.running()):
            assert "p-judge" not in call("reply", text="book a flight")["html"]  # sure, and so not sampled
            shown = call("reply", text="xyz")["html"]
            asked, item = re.search(r'data-request="(\w+)" data-item="(\d)"', shown).groups()
            assert (item, shown.count("<option")) == ("0", 4)
            assert call("judge", request=asked, item=0, up=False) == {"said": "Thank you."}
            assert call("judge", request=asked, item=0, label="weather") == {"said": "Thank you."}
            for wrong in ({}, {"request": "r", "item": "0", "up": True}, {"request": asked, "item": 0, "up": "yes"}):
                assert call("judge", **wrong) == {"said": "This cannot be kept."}
            monkeypatch.setattr("shared.serving.recording.feedback._WAITS_S", (0.0,))
            assert "could not be kept" in call("judge", request="never", item=0, up=True)["said"]
        client.portal.call(engine.close)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute('SELECT "right", labels FROM percept_feedback').fetchall() == [(None, '["weather"]')]


# A real server


@pytest.mark.server
@pytest.mark.slow
def test_two_workers_record_into_one_file_and_what_waits_is_written_at_the_end(
    intent_bundle: Bundle, tagger_bundle: Bundle, tmp_path: Path
):
    file = tmp_path / "records.sqlite"
    settings = {"PERCEPT_RECORDS": f"sqlite:///{file}", "PERCEPT_ADMIN_KEY": ADMIN["X-API-Key"]}
    bundles = [intent_bundle.path, tagger_bundle.path]
    with serving(bundles, tmp_path / "log.txt", "--no-ui", workers=2, models=2, **settings) as server:
        for place in range(100):
            body = json.dumps({"text": "book a flight"}).encode()
            answer = server.post("/v1/intent", body, "application/json", **{"X-Request-ID": f"r{place}"})
            assert answer.status == 200
            assert server.post("/bento/tag", encode(Image.new("RGB", (8, 8), GREEN)), "image/png").status == 200
            said = json.dumps({"request_id": f"r{place}", "right": True}).encode()
            if place % 20 == 0:
                assert server.post("/v1/feedback", said, "application/json").status == 200
    assert len(kept(file, "request_id")) == 200
    assert len({each for (each,) in kept(file, "request_id")}) == 200
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM percept_feedback").fetchone() == (5,)


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.slow
def test_a_person_says_on_the_page_what_it_is_rather(intent_bundle: Bundle, tmp_path: Path):
    file = tmp_path / "records.sqlite"
    with (
        serving(intent_bundle.path, tmp_path / "log.txt", workers=2, PERCEPT_RECORDS=f"sqlite:///{file}") as server,
        launched(tmp_path / "profile") as browser,
        browser_page(browser, f"{server.url}/ui/", "#l-message") as tab,
    ):
        tab.locator("#l-message").fill("book a flight")
        tab.keyboard.press("Enter")
        card = tab.locator(".p-judge")
        expect(card.get_by_role("button", name="Yes")).to_be_visible()
        card.get_by_role("combobox").select_option("play_music")
        expect(card).to_have_text("Thank you.")
        tab.locator("#l-message").fill("play a song")
        tab.keyboard.press("Enter")
        tab.locator(".p-judge").last.get_by_role("button", name="No").click()
        expect(card.last).to_have_text("Thank you.")
    with closing(sqlite3.connect(file)) as connection:
        said = connection.execute('SELECT "right", labels FROM percept_feedback ORDER BY id').fetchall()
    assert said == [(None, '["play_music"]'), (0, None)]


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.slow
def test_a_person_says_what_is_in_a_photo_rather(tagger_bundle: Bundle, tmp_path: Path):
    file = tmp_path / "records.sqlite"
    for name, colour in (("green", GREEN), ("blue", BLUE)):
        (tmp_path / f"{name}.png").write_bytes(plain(colour))
    with (
        serving(tagger_bundle.path, tmp_path / "log.txt", workers=2, PERCEPT_RECORDS=f"sqlite:///{file}") as server,
        launched(tmp_path / "profile") as browser,
        browser_page(browser, f"{server.url}/ui/", "#samples button") as tab,
    ):
        card = tab.locator(".p-judge")
        expect(card).to_have_count(0)
        tab.locator("#photo input[type=file]").set_input_files(tmp_path / "green.png")
        expect(tab.locator(".p-result h2")).to_have_text("1 tag")
        expect(card.locator("option")).to_have_text(["It is rather …", "car", "cat", "dog"])
        card.get_by_role("combobox").select_option("cat")
        expect(card).to_have_text("Thank you.")
        tab.get_by_role("slider").first.fill("3")  # the tags are drawn anew, and what was said stays said
        expect(card).to_have_text("Thank you.")
        tab.get_by_role("button", name="Remove Image").click()
        expect(card).to_have_count(0)
        tab.locator("#photo input[type=file]").set_input_files(tmp_path / "blue.png")
        card.get_by_role("button", name="Yes").click()
        expect(card).to_have_text("Thank you.")
    with closing(sqlite3.connect(file)) as connection:
        said = connection.execute('SELECT "right", labels FROM percept_feedback ORDER BY id').fetchall()
    assert said == [(None, '["cat"]'), (1, None)]
