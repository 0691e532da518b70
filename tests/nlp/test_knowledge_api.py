"""Documents over REST: added, replaced, read and removed, by whoever has the key and by nobody else."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from shared.errors import ServiceError
from tests.nlp.conftest import ADMIN_KEY, OpenClient

KEY = {"authorization": f"Bearer {ADMIN_KEY}".encode()}
PATH = "/v1/knowledge/docs/guide.md"
GUIDE = "# Guide 🧭\n\nLa boussole fut bâtie par Émile.\n".encode()


@pytest.fixture
def client(open_client: OpenClient) -> Iterator[TestClient]:
    with open_client(max_body_bytes=1 << 20) as client:
        yield client


def put(client: TestClient, content: bytes = GUIDE, path: str = PATH, **headers: str):
    return client.put(path, content=content, headers={**KEY, **headers})


def builder(client: TestClient) -> str | None:
    """Return who built the compass, by the knowledge base."""
    response = client.post("/v1/answer", json={"question": "Qui a bâti la boussole ?"})
    assert response.status_code == 200, response.text
    answer = response.json()["answer"]
    return answer and answer["text"]


def test_a_document_is_added_found_replaced_and_removed(client: TestClient):
    assert client.get("/v1/knowledge").json() == {"documents": []}
    assert builder(client) is None

    added = put(client)
    assert added.status_code == 201, added.text
    info = added.json()
    assert set(info) == {"id", "title", "media_type", "passages", "characters", "sha256", "updated"}
    assert (info["id"], info["title"], info["media_type"], info["passages"]) == (
        "docs/guide.md",
        "Guide 🧭",
        "text/markdown",
        1,
    )
    assert client.get("/v1/knowledge").json() == {"documents": [info]}
    assert builder(client) == "Émile"

    replaced = put(client, GUIDE.replace("Émile".encode(), b"Hugo"))
    assert replaced.status_code == 200
    assert builder(client) == "Hugo"
    assert len(client.get("/v1/knowledge").json()["documents"]) == 1

    removed = client.delete(PATH, headers=KEY)
    assert (removed.status_code, removed.content) == (204, b"")
    assert builder(client) is None
    for response in (client.get(PATH), client.delete(PATH, headers=KEY)):
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "not_found"


def test_a_document_is_read_with_the_text_that_answers_count_in(client: TestClient):
    info = put(client).json()
    body = client.get(PATH).json()
    answer = client.post("/v1/answer", json={"question": "Qui a bâti la boussole ?"}).json()["answer"]
    assert body == info | {"text": body["text"]}
    assert body["text"][answer["start"] : answer["end"]] == answer["text"] == "Émile"
    assert len(body["text"]) == info["characters"]


@pytest.mark.parametrize("headers", [KEY, {"x-api-key": ADMIN_KEY.encode()}], ids=["bearer", "x-api-key"])
def test_either_header_carries_the_key(client: TestClient, headers: dict):
    assert client.put(PATH, content=GUIDE, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": "wrong"},
        {"x-api-key": ADMIN_KEY[:-1].encode()},
        {"authorization": "Bearer wrong"},
        {"authorization": b"Basic " + ADMIN_KEY.encode()},
        {"authorization": ADMIN_KEY.encode()},
        {"authorization": "Bearer"},
        {"x-api-key": b"\xff\xfe\x80"},
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_without_the_key_nothing_changes_and_reading_goes_on(client: TestClient, headers: dict, method: str):
    put(client)
    response = client.request(method, PATH, content=b"# Nothing", headers=headers)
    assert response.status_code == 401, response.text
    assert response.json()["error"]["type"] == "unauthorized"
    assert response.headers["www-authenticate"] == "Bearer"
    assert builder(client) == "Émile"


def test_a_service_without_a_key_can_be_changed_by_nobody_and_says_how_to_set_one(open_client: OpenClient):
    with open_client(admin_key=None) as client:
        for headers in ({}, KEY):
            response = client.put(PATH, content=GUIDE, headers=headers)
            assert (response.status_code, response.json()["error"]["type"]) == (403, "forbidden")
            assert "PERCEPT_ADMIN_KEY" in response.json()["error"]["message"]
        assert client.get("/v1/knowledge").json() == {"documents": []}


def test_the_key_is_written_nowhere(open_client: OpenClient, capfd: pytest.CaptureFixture[str]):
    stream = io.StringIO()
    with open_client(log_lines_per_s=1000) as client:
        for name in ("shared", "nlp"):
            logging.getLogger(name).handlers[0].setStream(stream)
        for headers in (KEY, {"x-api-key": "wrong-secret"}, {"authorization": "Bearer wrong-secret"}):
            answer = client.put(PATH, content=GUIDE, headers=headers)
            assert "secret" not in answer.text
            assert ADMIN_KEY not in answer.text
        settings = client.lifecycle().settings
        written = stream.getvalue() + capfd.readouterr().out + repr(settings) + str(settings.model_dump())
    assert ADMIN_KEY not in written
    assert "secret" not in written


def test_a_form_carries_a_document_with_its_title(client: TestClient):
    files = {"document": ("any.md", GUIDE, "text/markdown")}
    response = client.put(PATH, files=files, data={"title": "La boussole"}, headers=KEY)
    assert (response.status_code, response.json()["title"]) == (201, "La boussole")
    assert put(client, path=f"{PATH}?title=Autre").json()["title"] == "Autre"
    assert builder(client) == "Émile"


def test_a_form_s_document_needs_no_file_name_and_its_title_may_be_in_any_script(client: TestClient):
    files = {"document": (None, GUIDE), "title": (None, "羅針盤 é")}
    response = client.put(PATH, files=files, headers=KEY)
    assert (response.status_code, response.json()["title"]) == (201, "羅針盤 é")
    assert builder(client) == "Émile"


@pytest.mark.parametrize(
    ("path", "content_type", "content", "kind"),
    [
        ("a.txt", "", "Bâtie par Émile.".encode(), "text/plain"),
        ("a.md", "application/octet-stream", GUIDE, "text/markdown"),
        ("a.md", "application/x-www-form-urlencoded", GUIDE, "text/markdown"),
        ("a", "text/markdown; charset=utf-8", GUIDE, "text/markdown"),
        ("a.html", "text/html", "<h1>Guide</h1><p>Bâtie par Émile</p>".encode(), "text/html"),
        ("a", "text/plain; charset=iso-8859-1", "Bâtie par Émile.".encode("latin-1"), "text/plain"),
    ],
)
def test_content_type_or_id_tells_what_a_document_is(
    client: TestClient, path: str, content_type: str, content: bytes, kind: str
):
    response = client.put(f"/v1/knowledge/{path}", content=content, headers={**KEY, "content-type": content_type})
    assert response.status_code == 201, response.text
    assert response.json()["media_type"] == kind
    assert "Émile" in client.get(f"/v1/knowledge/{path}").json()["text"]


@pytest.mark.parametrize(
    ("path", "headers", "content", "status"),
    [
        ("/v1/knowledge/", {}, GUIDE, 400),
        ("/v1/knowledge/../../etc/passwd", {}, GUIDE, 404),
        ("/v1/knowledge/a/%2e%2e/b.md", {}, GUIDE, 400),
        ("/v1/knowledge//etc/passwd", {}, GUIDE, 400),
        ("/v1/knowledge/%00.md", {}, GUIDE, 400),
        ("/v1/knowledge/%ed%a0%bd.md", {}, GUIDE, 400),  # not UTF-8: many such ids would be one
        ("/v1/knowledge/" + "x" * 300, {}, GUIDE, 400),
        ("/v1/knowledge/a.exe", {}, GUIDE, 415),
        (PATH, {"content-type": "image/png"}, b"\x89PNG", 415),
        (PATH, {"content-type": "application/pdf"}, b"%PDF-broken", 400),
        (PATH, {"content-type": "text/plain; charset=klingon"}, GUIDE, 400),
        (PATH, {}, b"", 400),
        (PATH, {}, b"\xff\xfe\x00\xd8", 400),
        (PATH, {}, bytes(2 << 20), 413),
        (PATH, {"content-type": "multipart/form-data"}, GUIDE, 400),
        (PATH, {"content-type": "multipart/form-data; boundary=x"}, b"--x\r\nnothing", 400),
        (f"{PATH}?title={'x' * 400}", {}, GUIDE, 422),
    ],
)
def test_a_document_that_cannot_be_taken_is_a_4xx_and_changes_nothing(
    client: TestClient, path: str, headers: dict, content: bytes, status: int
):
    response = client.put(path, content=content, headers={**KEY, **headers})
    assert response.status_code == status, response.text
    if status != 201:
        assert set(response.json()["error"]) == {"type", "message", "request_id"}
        assert client.get("/v1/knowledge").json() == {"documents": []}


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"file": GUIDE}},
        {"files": {"document": GUIDE, "other": GUIDE}},
        {"files": [("document", GUIDE), ("document", GUIDE)]},
        {"data": {"document": "text"}, "files": {"x": b""}},
    ],
    ids=["other field", "one more field", "two files", "text"],
)
def test_a_form_with_anything_but_one_document_is_400(client: TestClient, form: dict):
    response = client.put(PATH, headers=KEY, **form)
    assert response.status_code in (400, 413), response.text
    assert client.get("/v1/knowledge").json() == {"documents": []}


def test_a_knowledge_base_that_cannot_be_written_is_503(open_client: OpenClient):
    def break_it(engine) -> None:
        def fail(*_: object, **__: object):
            raise ServiceError("the knowledge base's disk is full.")

        engine.knowledge.put = fail

    with open_client(break_it) as client:
        response = client.put(PATH, content=GUIDE, headers=KEY)
        assert (response.status_code, response.json()["error"]["type"]) == (503, "unavailable")


def test_names_with_accents_and_signs_come_back_as_they_went(client: TestClient):
    path = "/v1/knowledge/équipe/à lire (1).md"
    assert put(client, path=path).json()["id"] == "équipe/à lire (1).md"
    assert client.get(path).status_code == 200
    listed = json.loads(client.get("/v1/knowledge").content.decode())
    assert [each["id"] for each in listed["documents"]] == ["équipe/à lire (1).md"]


class TestFirstDocuments:
    """What `knowledge_documents` puts into the knowledge base at the start."""

    def ids(self, client: TestClient) -> list[str]:
        return [each["id"] for each in client.get("/v1/knowledge").json()["documents"]]

    def test_by_default_it_is_this_projects_documentation(self, open_client: OpenClient):
        with open_client(knowledge_documents="own") as client:
            assert {"percept/README.md", "percept/CONTRIBUTING.md", "percept/docs/serving.md"} <= set(self.ids(client))

    def test_a_folder_takes_its_place_and_what_was_put_later_stays(self, open_client: OpenClient, tmp_path):
        folder = tmp_path / "documents"
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "guide.md").write_bytes(GUIDE)
        file = tmp_path / "kept.sqlite"
        with open_client(knowledge=file) as client:
            put(client, path="/v1/knowledge/mine.md")
        with open_client(knowledge=file, knowledge_documents="own") as client:
            assert {"mine.md", "percept/README.md"} <= set(self.ids(client))
        with open_client(knowledge=file, knowledge_documents=folder) as client:
            assert self.ids(client) == ["deep/guide.md", "mine.md"]
