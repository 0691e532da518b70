"""What the page's calls do with whatever is sent to them, without a browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from nlp.demo import MAX_READ, LanguagePage, page
from nlp.engine import LanguageEngine
from nlp.page.documents import VisitorDocuments
from shared.errors import Overloaded
from shared.serving.page.guard import MAX_EVENT_BYTES
from shared.serving.page.tabs import mount_pages
from shared.serving.page.uploads import Uploads

VISITOR = "e" * 32
CALL = "/ui/gradio_api/component_server/"
FUNCTIONS = ["reply", "add_file", "add_text", "forget", "greet", "judge"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def client(language_settings: Callable[..., Any], folder: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        engine = LanguageEngine.load(language_settings(folder, max_text_chars=200))
        with TestClient(mount_pages([page(lambda: engine)]), raise_server_exceptions=False) as client:
            yield client
            client.portal.call(engine.close)


def component(client: TestClient) -> int:
    parts = client.get("/ui/config").json()["components"]
    return next(part["id"] for part in parts if part["props"].get("elem_id") == "language")


def call(client: TestClient, name: str, data: Any) -> Any:
    body = {"data": data, "component_id": component(client), "fn_name": name, "session_hash": "test"}
    return client.post(CALL, content=json.dumps(body))  # in ASCII: half a surrogate pair can be sent like this


def upload(client: TestClient, name: str, content: bytes) -> str:
    answer = client.post("/ui/gradio_api/upload", files={"files": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def test_page_offers_these_calls_and_no_events(client: TestClient):
    config = client.get("/ui/config").json()
    part = next(part for part in config["components"] if part["props"].get("elem_id") == "language")
    assert sorted(part["props"]["server_fns"]) == sorted(FUNCTIONS)
    named, load = config["dependencies"]  # what depends on the model is asked for again
    assert (named["api_name"], named["targets"]) == ("understand", [])
    assert [name for _, name in load["targets"]] == ["load"]
    info = client.get("/ui/gradio_api/info").json()
    assert (set(info["named_endpoints"]), info["unnamed_endpoints"]) == ({"/understand"}, {})


def test_uploaded_document_is_kept_and_the_upload_deleted(client: TestClient, folder: Path):
    path = upload(client, "shop.md", b"# Shop\n\nThe shop is by marie.")
    told = call(client, "add_file", {"visitor": VISITOR, "path": path, "name": "shop.md"}).json()
    assert "shop.md" in told["html"]
    assert told["notice"] == ""
    assert list(folder.rglob(path)) == []
    assert (
        "<mark>marie</mark>" in call(client, "reply", {"visitor": VISITOR, "text": "who made the shop"}).json()["html"]
    )


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {},
        {"visitor": "../../etc"},
        {"visitor": VISITOR},
        {"visitor": VISITOR, "text": {"deep": 1}, "path": ["a"], "name": 7, "document": {}},
        {"visitor": VISITOR, "text": "a\0\ud800", "path": "a\0\ud800", "name": "a\0\ud800.md", "document": "\ud800"},
    ],
    ids=repr,
)
def test_call_with_anything_else_is_answered_kindly(client: TestClient, name: str, data: Any):
    answer = call(client, name, data)
    assert answer.status_code == 200
    assert all(isinstance(text, str) for text in answer.json().values())


def test_call_that_names_a_file_of_the_server_reads_nothing(client: TestClient, folder: Path):
    secret = folder / "secret.md"
    secret.write_bytes(b"The secret is by hugo.")
    told = call(client, "add_file", {"visitor": "f" * 32, "path": str(secret), "name": "mine.md"}).json()
    assert "Drop the file again" in told["notice"]
    assert told["html"] == ""
    assert secret.exists()


def test_documents_are_not_handed_out(client: TestClient, folder: Path):
    call(client, "add_text", {"visitor": VISITOR, "text": "The shop is by marie."})
    (kept,) = folder.glob("percept-documents-*")
    files = [file for file in kept.rglob("*") if file.is_file()]
    assert files
    for file in [*files, folder / "knowledge.sqlite"]:
        assert client.get(f"/ui/gradio_api/file={file}").status_code in (403, 404)


def test_the_service_s_own_documents_cannot_be_changed(client: TestClient, folder: Path):
    before = (folder / "knowledge.sqlite").read_bytes()
    for name in FUNCTIONS:
        call(client, name, {"visitor": "1" * 32, "text": "other words", "document": "guide.md"})
    assert (folder / "knowledge.sqlite").read_bytes() == before


@pytest.mark.parametrize("name", ["__init__", "change", "postprocess", "get_config", "nothing"])
def test_nothing_else_of_the_part_can_be_called(client: TestClient, name: str):
    assert call(client, name, {}).status_code == 400


def test_call_is_json_and_bounded(client: TestClient):
    assert client.post(CALL, files={"files": ("a.md", b"text")}).status_code == 400
    assert client.post(CALL, content=b"{").status_code == 400
    assert client.post(CALL, content=json.dumps({"data": "a" * MAX_EVENT_BYTES})).status_code == 413
    addressed = {"path": "https://example.com/a.md", "visitor": VISITOR, "name": "a.md"}
    assert "no longer here" in call(client, "add_file", addressed).json()["notice"]


def test_document_above_the_limit_is_refused(client: TestClient):
    answer = client.post("/ui/gradio_api/upload", files={"files": ("a.md", bytes((5 << 20) + 1))})
    assert answer.status_code == 413


def test_documents_that_wait_are_bounded(tmp_path: Path):
    page = LanguagePage(NotImplemented, VisitorDocuments(tmp_path, Uploads(tmp_path)))
    page._in_hand = MAX_READ
    told = asyncio.run(page.add_text(VISITOR, "some text"))
    assert "again in a moment" in told["notice"]
    assert list(tmp_path.iterdir()) == []


def test_overload_is_a_kind_notice_in_the_chat(tmp_path: Path):
    def busy() -> LanguageEngine:
        raise Overloaded("64 utterances are in hand; the limit is 64.")

    page = LanguagePage(busy, VisitorDocuments(tmp_path, Uploads(tmp_path)))
    told = asyncio.run(page.reply("book a flight", VISITOR))
    assert "l-notice" in told["html"]
    assert told["said"] == "Many people are asking right now. Please send it again in a moment."
