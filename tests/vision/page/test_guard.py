"""Only what the page uses of Gradio can be reached; no event makes the server fetch or read what it should not."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.routing import Mount
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


def event_on(client: TestClient, part: str) -> int:
    """Number of the event that comes when a part changes: "photo-address", with which a photo is looked at."""
    config = client.get("/ui/config").json()
    number = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == part)
    return next(event["id"] for event in config["dependencies"] if [number, "change"] in map(list, event["targets"]))


def look_at(client: TestClient, photo: object) -> str:
    body = {"data": [photo, True, 50], "fn_index": event_on(client, "photo-address"), "session_hash": "test"}
    answer = client.post("/ui/gradio_api/run/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


def upload(client: TestClient, data: bytes) -> str:
    answer = client.post("/ui/gradio_api/upload", files={"files": ("photo.png", data)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def a_file(path: str, **more: object) -> dict[str, object]:
    """Return a file as Gradio writes it."""
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
        ("POST", "/ui/gradio_api/queue/data?session_hash=a"),
        ("GET", "/ui/gradio_api/queue/status"),
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


def test_only_what_is_named_is_offered_as_an_api(client: TestClient):
    assert set(client.get("/ui/gradio_api/info").json()["named_endpoints"]) == {"/tag"}
    assert client.get("/ui/gradio_api/info").json()["unnamed_endpoints"] == {}
    assert all(not event["queue"] for event in client.get("/ui/config").json()["dependencies"])


def test_uploaded_photo_is_tagged(client: TestClient, tmp_path: Path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    path = upload(client, (tmp_path / "red.png").read_bytes())
    assert ">cat<" in look_at(client, path)
    shown = client.get(f"/ui/gradio_api/file={path}")
    assert (shown.headers["content-type"], shown.content) == ("image/png", (tmp_path / "red.png").read_bytes())


@pytest.mark.parametrize("name", ["a.svg", "a.html", "a", "a.PNG.xhtml"])
def test_an_upload_that_could_run_a_script_is_no_page(client: TestClient, name: str):
    address = client.post("/ui/gradio_api/upload", files={"files": (name, b"<svg onload=alert(1)>")}).json()[0]
    assert client.get(f"/ui/gradio_api/file={address}").headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.png", "https://example.com/a.png", "//example.com/a.png"])
def test_an_address_in_the_place_of_a_file_is_not_asked(client: TestClient, address: str):
    assert "no longer here" in look_at(client, address)
    for photo in (a_file(address), a_file("a.png", url=address), [a_file(address)]):
        body = {"data": [photo, True, 50], "fn_index": event_on(client, "photo-address")}
        assert client.post(EVENT, json=body).status_code == 400


def test_event_that_names_a_file_of_the_server_reads_nothing(client: TestClient, tmp_path: Path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "private.png")
    path = str(tmp_path / "private.png")
    uploads = next(Path(tempfile.gettempdir()).glob("*"), tmp_path)
    for photo in (path, f"../{path}", str(uploads)):
        assert "no longer here" in look_at(client, photo)


EVENT = "/ui/gradio_api/run/predict"
CALL = "/ui/gradio_api/component_server"


@pytest.mark.parametrize("route", [EVENT, CALL])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff",
        b"[" * 30_000,
        b"null",
        b"7",
        b"[]",
        b"{}",
        b'"secret"',
        b'{"data": null}',
        b'{"data": [], "fn_index": 99999}',
        b'{"data": [], "fn_index": -1}',
        b'{"data": [], "fn_index": "0"}',
        b'{"data": [], "fn_index": 0}',
        b'{"data": [1, 2, 3], "fn_index": true}',
        b'{"data": ["", true, NaN], "fn_index": 1}',
        b'{"data": ["secret", 1, 2, 3, 4, 5, 6], "fn_index": 1}',
        b'{"data": [], "fn_index": 0, "event_data": "secret"}',
        b'{"data": [], "component_id": -1, "fn_name": "reply", "session_hash": "secret"}',
        b'{"data": [], "component_id": 1e400, "fn_name": "reply", "session_hash": "secret"}',
        b'{"data": [], "component_id": 1, "fn_name": "__class__", "session_hash": "secret"}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_event_that_no_page_sends_is_400_and_not_repeated(client: TestClient, route: str, body: bytes):
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=a", ""):
        answer = client.post(route, content=body, headers={"content-type": kind})
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_input"
        assert "secret" not in answer.text


VALUES = [None, True, 0, -1, 1e300, 2**53, "", "x", "{}", "\0\ud800"]


@pytest.mark.parametrize("event_data", [None, {}, {"index": None}, {"index": "0"}, {"index": [0]}, {"index": 10**30}])
def test_any_value_in_an_event_gets_an_answer(
    client: TestClient, event_data: object, capfd: pytest.CaptureFixture[str]
):
    config = client.get("/ui/config").json()
    for event in config["dependencies"]:
        for value in VALUES:
            data = [value] * len(event["inputs"])
            body = {"data": data, "fn_index": event["id"], "event_data": event_data}
            answer = client.post(
                EVENT, content=json.dumps(body)
            )  # in ASCII: half a surrogate pair can be sent like this
            is_offered = event["backend_fn"] and event["api_visibility"] == "private"
            assert answer.status_code == (200 if is_offered else 400), (event["id"], value, answer.text)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_no_session_is_kept_for_a_name(client: TestClient):
    kept = next(route.app.state_holder for route in client.app.routes if isinstance(route, Mount))
    for number in range(20):
        body = {"data": ["", True, 50], "fn_index": event_on(client, "photo-address"), "session_hash": str(number)}
        assert client.post(EVENT, json=body).status_code == 200
    assert len(kept.session_data) <= 1


@pytest.mark.parametrize(
    "path",
    ["/ui/assets/" + "a" * 5000, "/ui/assets/%00", "/ui/static/nothing.js", "/ui/samples/..%2fx", "/ui/samples/x"],
)
def test_a_file_that_there_cannot_be_is_404(client: TestClient, path: str):
    assert client.get(path).status_code == 404


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
    text = look_at(client, upload(client, b"\x89PNG\r\n\x1a\n broken"))
    assert "I cannot read this photo" in text
    assert tempfile.gettempdir() not in text


def test_photo_that_was_swept_is_said_to_be_gone(client: TestClient):
    address = upload(client, b"soon gone")
    next(Path(os.environ["GRADIO_TEMP_DIR"]).rglob(address)).unlink()
    assert "no longer here" in look_at(client, address)
