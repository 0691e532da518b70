"""Reviewing as administrators meet it: the routes, and the page in a browser."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from PIL import Image
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

import nlp.api
import vision.api
from nlp.engine import LanguageEngine
from shared.bundle.read import Bundle
from shared.records.store import Store
from shared.records.tables import FINDINGS, RECORDS
from shared.serving.access.keys import add_key
from shared.serving.app import with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings
from tests.browser import NAMELESS, launched
from tests.browser import opened as browser_page
from tests.pages import untranslated
from tests.server import Server, serving
from tests.shared.records.test_reviewing import _now
from tests.shared.records.test_store import record, rows
from vision.engine import TaggingEngine

ADMIN = {"X-API-Key": "the admin's"}
NASTY = "'; DROP TABLE percept_reviews; -- \" \u202e %s <b>"
SURE: dict[str, Any] = {"confidence": 0.97, "scores": [0.97], "model": "tiny-intent"}
LANGUAGE, VISION = (nlp.api.create_app, LanguageEngine), (vision.api.create_app, TaggingEngine)
Open = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{file}")
    yield made
    made.close()


@pytest.fixture
def opened(tagger_bundle: Bundle, intent_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path, file: Path) -> Open:
    """Opens a client of a service whose records are in `file`."""

    @contextmanager
    def make(kind: Any = LANGUAGE, **changes: Any) -> Iterator[TestClient]:
        chosen: dict[str, Any] = {
            "device": "cpu", "tagger": tagger_bundle.path, "intent": intent_bundle.path, "qa": qa_bundle.path,
            "encoder": "none", "writer": "none", "knowledge": tmp_path / "knowledge.sqlite",
            "knowledge_documents": "none", "admin_key": ADMIN["X-API-Key"], "records": f"sqlite:///{file}",
            "records_level": "inputs",
        }  # fmt: skip
        settings = Settings(**{**chosen, **changes})
        create_app, engine = kind
        lifecycle: Lifecycle[Any] = Lifecycle(lambda: engine.load(settings))
        app = with_edge(create_app(lifecycle, settings), settings, lifecycle.model)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return make


def write(store: Store, *records: Any) -> list[int]:
    store.write(rows(*records))
    with store.reading() as connection:
        ids = list(connection.scalars(sa.select(RECORDS.c.id).order_by(RECORDS.c.id.desc()).limit(len(records))))
    return ids[::-1]


def wrong(name: str, text: str, **more: Any) -> Any:
    """Return a record that is uncertain."""
    return record(name, text=text, **{**SURE, "confidence": 0.2, "scores": [0.2], **more})


def read(client: TestClient, headers: Any = ADMIN, **query: Any) -> Any:
    return client.get("/v1/review", params=query, headers=headers)


def put(client: TestClient, *reviews: dict[str, Any], headers: Any = ADMIN, model: str = "tiny-intent") -> Any:
    body = json.dumps({"model": model, "reviews": list(reviews)})
    return client.put("/v1/review", content=body, headers=headers)


def said(file: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT record, reviewer, reason, labels, answer, comment FROM percept_reviews ORDER BY id"
        return connection.execute(query).fetchall()


# The routes


def test_only_administrators_review(opened: Open, store: Store, tmp_path: Path):
    [one] = write(store, wrong("a", "x"))
    keys = tmp_path / "keys.json"
    user, admin = (
        {"X-API-Key": add_key(keys, name, role=role)} for name, role in (("shop", "user"), ("boss", "admin"))
    )
    asks: list[tuple[str, str, Any]] = [
        ("GET", "/v1/review", None), ("GET", f"/v1/review/photo/{one}", None), ("DELETE", f"/v1/review/{one}", None),
        ("PUT", "/v1/review", json.dumps({"model": "tiny-intent", "reviews": [{"record": one, "labels": []}]})),
    ]  # fmt: skip
    with opened(api_keys_file=keys) as client:
        for method, path, body in asks:
            assert client.request(method, path, content=body, headers=user).status_code == 403
            assert client.request(method, path, content=body).status_code == 401
        assert put(client, {"record": one, "labels": ["weather"]}, headers=admin).status_code == 200
        assert read(client, admin).json()["reviewer"] == "boss"
    with opened(admin_key=None) as client:
        assert [client.request(method, path, content=body).status_code for method, path, body in asks] == [403] * 4
    assert [row[1] for row in said(store_file(store))] == ["boss"]


def store_file(store: Store) -> Path:
    return Path(str(store.engine.url.database))


def test_where_nothing_is_recorded_the_routes_are_403_and_there_is_no_page(opened: Open):
    with opened(records=None) as client:
        answer = read(client)
        assert answer.status_code == 403
        assert "keeps no records" in answer.json()["error"]["message"]
        assert client.get("/ui/review").status_code == 404


def test_an_item_has_all_that_a_reviewer_needs(opened: Open, store: Store):
    [one, _] = write(
        store, wrong("a", "book  a flight"), record("a", version="2", shadow_of="1", labels=["weather"], **SURE)
    )
    kept = store.find("a", 0, None)
    assert kept is not None
    store.give_feedback(kept, "a", 0, "shop", labels=["play_music"], comment="no")
    with opened() as client:
        found = read(client).json()
        [item] = found["items"]
    assert found["models"][0] == {"name": "tiny-intent", "task": "intent", "is_served": True}
    assert found["labels"] == ["book_flight", "play_music", "weather"]
    assert (found["model"], found["task"], found["note"], found["left"]) == ("tiny-intent", "intent", None, 1)
    assert (item["record"], item["text"], item["reason"], item["stands_for"]) == (one, "book  a flight", "disagreed", 1)
    assert item["said"] == {"by": "feedback", "labels": ["play_music"], "answer": None}
    assert item["feedback"][0]["comment"] == "no"
    assert item["photo"] is None


def test_a_level_that_keeps_no_inputs_is_said_clearly(opened: Open, store: Store):
    write(store, record("a", **SURE))
    with opened(records_level="outcomes") as client:
        assert "Set PERCEPT_RECORDS_LEVEL=inputs" in read(client).json()["note"]
    with opened() as client:
        assert "text or photo" in read(client).json()["note"]
        assert "no records of this model" in read(client, model="tiny-qa").json()["note"]


def test_what_was_reviewed_is_not_shown_again_until_it_is_taken_back(opened: Open, store: Store, file: Path):
    one, two = write(store, wrong("a", "x"), wrong("b", "y"))
    with opened() as client:
        answer = put(client, {"record": one, "labels": ["wether"], "reason": "audit"}, {"record": two, "labels": None})
        assert answer.json() == {"kept": 2, "replaced": 0, "new_labels": ["wether"]}
        found = read(client).json()
        assert (found["items"], found["done_today"], found["reviewed_labels"]) == ([], 2, ["wether"])
        assert put(client, {"record": one, "labels": ["weather"]}).json()["replaced"] == 1
        assert put(client, {"record": one, "labels": ["weather"]}).json()["replaced"] == 1
        assert client.delete(f"/v1/review/{one}", headers=ADMIN).json() == {"taken_back": True}
        assert client.delete(f"/v1/review/{one}", headers=ADMIN).json() == {"taken_back": False}
        assert [item["record"] for item in read(client).json()["items"]] == [one]
    assert said(file) == [(two, "admin", "uncertain", None, None, None)]


def test_five_hundred_at_once_are_kept_or_none(opened: Open, store: Store, file: Path):
    ids = write(store, *(wrong(f"r{n}", f"text {n}") for n in range(501)))
    with opened() as client:
        everything = [{"record": each, "labels": ["weather"], "reason": "group"} for each in ids]
        assert put(client, *everything).status_code == 422
        forged = [*everything[:499], {"record": 10**12, "labels": []}]
        answer = put(client, *forged)
        assert answer.status_code == 404
        assert "1000000000000" in answer.json()["error"]["message"]
        assert said(file) == []
        assert put(client, *everything[:500]).json()["kept"] == 500
    assert len(said(file)) == 500


WRONG: list[tuple[dict[str, Any], int]] = [
    ({}, 422), ({"record": 0, "labels": []}, 422), ({"record": 2**63, "labels": []}, 422),
    ({"record": "1", "labels": []}, 422), ({"record": True, "labels": []}, 422), ({"record": -1}, 422),
    ({"record": 1, "labels": "x"}, 422), ({"record": 1, "labels": [""]}, 422),
    ({"record": 1, "labels": ["x" * 201]}, 422), ({"record": 1, "labels": ["x"] * 65}, 422),
    ({"record": 1, "labels": [], "comment": "x" * 2001}, 422), ({"record": 1, "labels": [], "more": 1}, 422),
    ({"record": 1, "labels": [], "reason": "else"}, 422), ({"record": 1, "answer": "x" * 2001}, 422),
    ({"record": 1, "labels": [" "]}, 400), ({"record": 1, "labels": ["\x00"]}, 400),
    ({"record": 1, "labels": ["a", "b"]}, 400), ({"record": 1, "answer": "x"}, 400),
]  # fmt: skip


def test_what_does_not_fit_is_refused_and_nothing_is_kept(opened: Open, store: Store, file: Path):
    write(store, wrong("a", "x"))
    with opened() as client:
        for review, status in WRONG:
            answer = put(client, review)
            assert answer.status_code == status, (review, answer.text)
            assert set(answer.json()["error"]) == {"type", "message", "request_id"}
        assert put(client, {"record": 1, "labels": []}, {"record": 1, "labels": []}).status_code == 422
        half = '{"model": "tiny-intent", "reviews": [{"record": 1, "labels": ["\\ud83d"]}]}'
        assert client.put("/v1/review", content=half, headers=ADMIN).status_code == 422
        assert client.put("/v1/review", content=b"x" * (5 << 20), headers=ADMIN).status_code == 413
    assert said(file) == []


def test_a_question_has_an_answer_and_no_labels(opened: Open, store: Store, file: Path):
    qa = {"task": "qa", "model": "tiny-qa", "outcome": "answered", "labels": [], "scores": []}
    one, two, three = write(store, *(record(f"r{n}", text="x", answer="ada", **qa) for n in range(3)))
    with opened() as client:
        assert put(client, {"record": one, "labels": ["a"]}, model="tiny-qa").status_code == 400
        reviews = [{"record": one, "answer": "ada"}, {"record": two, "answer": ""}, {"record": three}]
        assert put(client, *reviews, model="tiny-qa").json() == {"kept": 3, "replaced": 0, "new_labels": []}
        assert read(client, model="tiny-qa").json()["labels"] == []
    assert [row[4] for row in said(file)] == ["ada", "", None]


def test_sql_is_a_text_and_personal_data_are_masked(opened: Open, store: Store, file: Path):
    [one] = write(store, wrong("a", "x"))
    with opened() as client:
        review = {"record": one, "labels": [NASTY + " ada@example.org"], "comment": NASTY + " +44 20 7946 0958\x00"}
        assert put(client, review).json()["new_labels"] == [NASTY + " [e-mail]"]
        for nasty in (NASTY, "\x00", "é", "%"):
            assert read(client, model=nasty).status_code == 404
            assert put(client, {"record": one, "labels": []}, model=nasty).status_code == 404
            assert read(client, reason=nasty).status_code == 422
    assert [(json.loads(row[3]), row[5]) for row in said(file)] == [([NASTY + " [e-mail]"], NASTY + " [telephone]")]


def test_of_two_keys_each_has_its_own_queue_and_what_they_disagree_on_is_shown(
    opened: Open, store: Store, tmp_path: Path
):
    [one] = write(store, wrong("a", "x"))
    keys = tmp_path / "keys.json"
    ada, ben = ({"X-API-Key": add_key(keys, name, role="admin")} for name in ("ada", "ben"))
    with opened(api_keys_file=keys) as client:
        put(client, {"record": one, "labels": ["weather"]}, headers=ada)
        [item] = read(client, ben).json()["items"]
        assert [(each["reviewer"], each["is_mine"]) for each in item["reviews"]] == [("ada", False)]
        assert read(client, ben, disagreements=True).json()["items"] == []
        put(client, {"record": one, "labels": ["play_music"], "comment": "hm"}, headers=ben)
        for key in (ada, ben):
            [item] = read(client, key, disagreements=True).json()["items"]
            assert [each["labels"] for each in item["reviews"]] == [["weather"], ["play_music"]]
            assert item["reason"] == "reviewers"
            assert read(client, key).json()["items"] == []


def test_a_photo_comes_as_a_jpeg_that_is_kept_nowhere(opened: Open, store: Store):
    tagging = {"task": "tagging", "model": "tiny-tagger", "outcome": "tagged", "labels": ["cat"], "confidence": 0.2}
    one, two = write(store, record("a", photo=Image.new("RGB", (9, 9)), **tagging), record("b", **tagging))
    with opened(VISION) as client:
        [item] = read(client).json()["items"]
        assert item["photo"] == f"/v1/review/photo/{one}"
        answer = client.get(item["photo"], headers=ADMIN)
        assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
        headers = {name: answer.headers[name] for name in ("content-type", "cache-control", "x-content-type-options")}
        assert list(headers.values()) == ["image/jpeg", "no-store", "nosniff"]
        for path, status in ((two, 404), (10**15, 404), (2**64, 422), ("x", 422), ("1%27--", 422)):
            assert client.get(f"/v1/review/photo/{path}", headers=ADMIN).status_code == status


def test_who_is_forgotten_is_out_of_the_queue_with_all_reviews(opened: Open, store: Store, file: Path):
    [one] = write(store, wrong("a", "x", subject="zoe"))
    with opened() as client:
        put(client, {"record": one, "labels": []})
        assert client.delete("/v1/records?subject=zoe", headers=ADMIN).json()["records"] == 1
        assert read(client).json()["items"] == []
        assert put(client, {"record": one, "labels": []}).status_code == 404
    assert said(file) == []


# The page


def test_the_page_runs_its_own_script_alone_and_holds_no_data(opened: Open, store: Store):
    write(store, wrong("a", "a text of a customer"))
    with opened() as client:
        page = client.get("/ui/review")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'self'" in policy
        assert "<script>" not in page.text
        assert "style=" not in page.text
        for name, kind in (
            ("review.js", "text/javascript"),
            ("french.js", "text/javascript"),
            ("review.css", "text/css"),
        ):
            asset = client.get(f"/ui/review/{name}")
            assert asset.headers["content-type"].startswith(kind)
            assert asset.headers["x-content-type-options"] == "nosniff"
            assert "innerHTML" not in asset.text
        assert client.get("/ui/review/..%2freview.py").status_code == 404
    with opened(ui=False) as client:
        assert client.get("/ui/review").status_code == 404


@contextmanager
def running(bundle: Bundle, folder: Path, file: Path) -> Iterator[Server]:
    settings = {
        "PERCEPT_RECORDS": f"sqlite:///{file}", "PERCEPT_RECORDS_LEVEL": "inputs", "PERCEPT_ADMIN_KEY": "kéy ✓",
    }  # fmt: skip
    with serving(bundle.path, folder / "log.txt", workers=1, **settings) as server:
        yield server


def enter(tab: Page, key: str = "kéy ✓", label: str = "Administrator's key") -> None:
    tab.get_by_label(label).fill(key)
    tab.keyboard.press("Enter")


def fill(store: Store, text: str, comment: str, unsure: Sequence[Any]) -> None:
    """Keep a text that a customer called wrong, a new group `crypto` of three, and records that are not sure."""
    new = (record(f"g{n}", text=f"bitcoin {n}", outcome="out_of_scope", **SURE) for n in range(3))
    ids = write(store, wrong("a", text, labels=["weather"]), *new, *unsure)
    kept = store.find("a", 0, None)
    assert kept is not None
    store.give_feedback(kept, "a", 0, "shop", labels=["play_music"], comment=comment)
    with store.writing() as connection:
        found = {"groups": [{"name": "crypto", "size": 3, "records": ids[1:4]}]}
        values = {"time": _now(), "model": "tiny-intent", "version": "1", "state": "alarm", "found": found}
        connection.execute(sa.insert(FINDINGS).values(**values))


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.slow
def test_a_person_reviews_on_the_page_with_keys(intent_bundle: Bundle, tmp_path: Path, store: Store, file: Path):
    unsure = [wrong(f"u{n}", f"unsure {n}", confidence=0.1 + n / 10) for n in range(4)]
    fill(store, "<b onclick=alert(1)>one</b>", "<i>no</i>", unsure)
    problems: list[str] = []
    with (
        running(intent_bundle, tmp_path, file) as server,
        launched(tmp_path / "profile") as browser,
        browser_page(browser, f"{server.url}/ui/", "a[href='../ui/review']") as demo,
    ):
        demo.get_by_role("link", name="Review").first.click()
        tab = demo
        tab.on("pageerror", lambda error: problems.append(str(error)))
        enter(tab, "wrong")
        expect(tab.get_by_role("alert")).to_contain_text("This key does not open the page")
        enter(tab)
        expect(tab.locator(".why")).to_have_text("A customer said this is wrong: play_music")
        expect(tab.locator(".input")).to_have_text("<b onclick=alert(1)>one</b>")
        expect(tab.locator(".people")).to_have_text("Customer: play_music “<i>no</i>”")
        assert tab.evaluate(NAMELESS) == []
        tab.keyboard.press("2")  # what the customer said

        expect(tab.get_by_role("heading", name="crypto: 3 items")).to_be_visible()
        tab.get_by_role("checkbox", name="bitcoin 1").uncheck()
        tab.get_by_label("Label for those that are ticked").fill("buy_crypto")
        tab.get_by_role("button", name="Give 2 of 3 this label").click()
        expect(tab.get_by_role("status")).to_contain_text("buy_crypto is a new label")
        expect(tab.locator(".input")).to_have_text("bitcoin 1")
        tab.keyboard.type("crypto")  # any letter searches all labels
        expect(tab.locator("#found button")).to_have_text("buy_crypto")
        tab.keyboard.press("Enter")

        expect(tab.locator(".input")).to_have_text("unsure 0")
        tab.keyboard.press("Enter")
        expect(tab.locator(".input")).to_have_text("unsure 1")
        expect(tab.get_by_role("status")).to_contain_text("Saved: greet")
        tab.keyboard.press("u")
        expect(tab.locator(".input")).to_have_text("unsure 0")
        tab.keyboard.press("o")
        expect(tab.locator(".input")).to_have_text("unsure 1")
        tab.keyboard.press("s")
        expect(tab.locator(".input")).to_have_text("unsure 2")
        tab.keyboard.press("n")
        tab.keyboard.type("no such thing")
        tab.keyboard.press("Enter")
        expect(tab.locator(".input")).to_have_text("unsure 3")
        expect(tab.locator("#progress-text")).to_contain_text("7 done today")

        tab.set_viewport_size({"width": 390, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        expect(tab.get_by_role("button", name="Confirm")).to_be_in_viewport()
        assert (
            "kéy" not in f"{tab.url}{browser.cookies()}{tab.evaluate('JSON.stringify([localStorage, sessionStorage])')}"
        )

        server.process.terminate()
        server.process.wait(30)
        tab.get_by_role("button", name="Confirm").click()
        expect(tab.get_by_role("alert")).to_contain_text(
            "Your last decision was not kept. The service cannot be reached"
        )
        expect(tab.locator(".input")).to_have_text("unsure 3")
    by_text = {
        text: json.loads(labels) if labels else None
        for text, labels in closing_read(
            file, "SELECT text, r.labels FROM percept_reviews r JOIN percept_records c ON r.record = c.id"
        )
    }
    assert by_text == {
        "<b onclick=alert(1)>one</b>": ["play_music"], "bitcoin 0": ["buy_crypto"], "bitcoin 2": ["buy_crypto"],
        "bitcoin 1": ["buy_crypto"], "unsure 0": [], "unsure 1": None, "unsure 2": ["no such thing"],
    }  # fmt: skip
    assert problems == []


@pytest.mark.browser
@pytest.mark.server
def test_the_page_speaks_french_and_leaves_nothing_in_english(
    intent_bundle: Bundle, tmp_path: Path, store: Store, file: Path
):
    fill(store, "Undo", "zut", [wrong("u", "All done", confidence=0.2)])
    said: list[str] = []
    with (
        running(intent_bundle, tmp_path, file) as server,
        launched(tmp_path / "profile", locale="fr-FR") as browser,
        browser_page(browser, f"{server.url}/ui/review", "#enter") as tab,
    ):
        expect(tab.locator("html")).to_have_attribute("lang", "fr")
        said += untranslated(tab)
        enter(tab, label="Clé d’administrateur")
        expect(tab.locator(".why")).to_have_text("Un client dit que c’est faux : play_music")
        expect(tab.locator(".input")).to_have_text("Undo")  # what people wrote is never translated
        tab.get_by_text("Commentaire").click()
        tab.locator("#filter").fill("neu")
        said += untranslated(tab)
        tab.locator("#filter").fill("")
        tab.get_by_role("button", name="Rien ne convient").click()
        expect(tab.get_by_role("status")).to_have_text("Enregistré : rien ne convient.")
        expect(tab.get_by_role("heading", name="crypto : 3 éléments")).to_be_visible()
        said += untranslated(tab)
        tab.get_by_role("button", name="Donner cette étiquette à 3 sur 3").click()
        expect(tab.locator(".input")).to_have_text("All done")
        expect(tab.get_by_role("status")).to_contain_text("crypto est une nouvelle étiquette")
        tab.keyboard.press("s")
        expect(tab.get_by_role("heading", name="Tout est fait")).to_be_visible()
        said += untranslated(tab)
        tab.get_by_role("button", name="English").click()
        expect(tab.get_by_role("heading", name="All done")).to_be_visible()
    assert "\n".join(said) == ""


def closing_read(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()
