"""Only what the page uses of Gradio can be reached; no event makes the server fetch or read what it should not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from shared.bundle.read import Bundle
from shared.runtime.cpu import OnnxRuntime
from shared.serving.page.guard import MAX_EVENT_BYTES
from shared.serving.page.tabs import mount_pages
from shared.serving.settings import Settings
from vision.demo import page
from vision.engine import TaggingEngine


@pytest.fixture(scope="module")
def client(tagger_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("photos")))
        settings = Settings(max_body_bytes=100_000)
        engine = TaggingEngine(tagger_bundle, OnnxRuntime(tagger_bundle), settings)
        app = mount_pages([page(lambda: engine)])
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


def event_on_photo(client: TestClient) -> int:
    """Number of the event that looks at a photo."""
    config = client.get("/ui/config").json()
    photo = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "photo")
    return next(event["id"] for event in config["dependencies"] if [photo, "change"] in map(list, event["targets"]))


def look_at(client: TestClient, photo: object) -> str:
    body = {"data": [photo, True, 50], "fn_index": event_on_photo(client), "session_hash": "test"}
    return client.post("/ui/gradio_api/run/predict", json=body).text


def upload(client: TestClient, data: bytes) -> str:
    answer = client.post("/ui/gradio_api/upload", files={"files": ("photo.png", data)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def a_file(path: str, **more: object) -> dict[str, object]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.mark.parametrize("path", ["/ui/", "/ui/config", "/ui/theme.css"])
def test_what_the_page_needs_is_there(client: TestClient, path: str):
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ui/gradio_api/file=https://example.com/a.png"),
        ("GET", "/ui/gradio_api/file=file:///etc/hostname"),
        ("GET", "/ui/gradio_api/proxy=https://example.hf.space/a.png"),
        ("GET", "/ui/gradio_api/queue/data?session_hash=a"),
        ("POST", "/ui/gradio_api/queue/join"),
        ("GET", "/ui/gradio_api/heartbeat/a"),
        ("POST", "/ui/gradio_api/call/look"),
        ("POST", "/ui/gradio_api/vibe-edit"),
        ("GET", "/ui/gradio_api/openapi.json"),
        ("GET", "/ui/monitoring"),
        ("GET", "/ui/monitoring/summary"),
        ("POST", "/ui/login"),
        ("DELETE", "/ui/"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(client: TestClient, method: str, path: str):
    answer = client.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found"


@pytest.mark.parametrize("secret", ["/etc/hostname", "/etc/passwd", "pyproject.toml"])
def test_files_of_the_server_are_not_handed_out(client: TestClient, secret: str):
    assert client.get(f"/ui/gradio_api/file={secret}").status_code in (403, 404)


def test_no_event_is_offered_as_an_api(client: TestClient):
    assert client.get("/ui/gradio_api/info").json()["named_endpoints"] == {}
    assert client.get("/ui/gradio_api/info").json()["unnamed_endpoints"] == {}
    assert all(not event["queue"] for event in client.get("/ui/config").json()["dependencies"])


def test_uploaded_photo_is_tagged(client: TestClient, tmp_path: Path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    path = upload(client, (tmp_path / "red.png").read_bytes())
    assert ">cat<" in look_at(client, a_file(path))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.png", "https://example.com/a.png", "//example.com/a.png"])
def test_event_that_names_an_address_as_a_file_is_refused(client: TestClient, address: str):
    for data in ([a_file(address)], [{"deep": [a_file(address)]}]):
        answer = client.post("/ui/gradio_api/run/predict", json={"data": data, "fn_index": 0})
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request"


def test_event_that_names_a_file_of_the_server_reads_nothing(client: TestClient, tmp_path: Path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "private.png")
    assert ">cat<" not in look_at(client, a_file(str(tmp_path / "private.png")))


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[" * 100_000], ids=lambda body: repr(body[:4]))
def test_event_that_is_no_json_is_refused(client: TestClient, body: bytes):
    assert client.post("/ui/gradio_api/run/predict", content=body).status_code == 400


def test_huge_event_is_refused(client: TestClient):
    body = json.dumps({"data": ["a" * MAX_EVENT_BYTES]}).encode()
    assert client.post("/ui/gradio_api/run/predict", content=body).status_code == 413


def test_event_of_arrays_by_the_hundred_thousand_is_refused(client: TestClient):
    body = b'{"data": [' + b"[]," * 200_000 + b"[]]}"
    assert client.post("/ui/gradio_api/run/predict", content=body).status_code == 413


def test_upload_above_the_limit_is_refused(client: TestClient):
    answer = client.post("/ui/gradio_api/upload", files={"files": ("photo.png", bytes(150_000))})
    assert answer.status_code == 413


def test_error_of_a_broken_photo_shows_no_path(client: TestClient):
    text = look_at(client, a_file(upload(client, b"\x89PNG\r\n\x1a\n broken")))
    assert "I cannot read this photo" in text
    assert str(Path(tempfile.gettempdir())) not in text.replace("/ui/gradio_api", "")


def test_photo_that_was_swept_is_said_to_be_gone(client: TestClient):
    path = upload(client, b"soon gone")
    Path(path).unlink()
    assert "no longer here" in look_at(client, a_file(path))
