"""Whatever a stranger sends to the page is answered; none of it, no path and no traceback is shown or logged."""

from __future__ import annotations

import json

import pytest

from tests.no_way_in.site import Site, form
from tests.pictures import plain

SECRET = "hunter2"
EVENTS = ("run/predict", f"run/{SECRET}", "component_server", "reset", "upload", "queue/join")
BODIES = (
    b"",
    b"{",
    b"\xff\xfe",
    b"null",
    f'"{SECRET}"'.encode(),
    json.dumps({"data": [SECRET], "fn_index": 10**9, "session_hash": SECRET}).encode(),
    json.dumps({"data": [SECRET] * 3, "fn_index": 1, "event_data": SECRET}).encode(),
    json.dumps({"data": {"text": SECRET}, "component_id": 1, "fn_name": SECRET}).encode(),
    f"--{SECRET}\r\nContent-Disposition: form-data; name={SECRET}\r\n\r\n{SECRET}\r\n--{SECRET}--".encode(),
    f"--b\r\n{SECRET}\xff: {SECRET}\r\n\r\n{SECRET}".encode("latin-1"),
)
KINDS = ("application/json", "multipart/form-data; boundary=b", f"multipart/form-data; boundary={SECRET}", "text/plain")


@pytest.mark.parametrize("route", EVENTS)
def test_a_body_that_no_page_sends_is_4xx_and_leaves_no_trace(site: Site, route: str):
    before = len(site.server.log.read_text())
    for body in BODIES:
        for kind in KINDS:
            answer = site.server.post(f"/ui/gradio_api/{route}", body, kind)
            assert 400 <= answer.status < 500, (body, kind, answer.body)
            assert answer.json["error"]["message"]
            assert not [word for word in (SECRET, "Traceback", str(site.folder)) if word in answer.body.decode()]
    _check_log(site.server.log.read_text()[before:])


def test_a_path_that_no_page_has_is_4xx_and_leaves_no_trace(site: Site):
    before = len(site.server.log.read_text())
    for path in (
        f"gradio_api/file=/tmp/{SECRET}",
        f"gradio_api/file={SECRET}",
        f"assets/{SECRET}",
        "assets/" + "a" * 5000,
        "static/%00",
        f"samples/{SECRET}.jpg",
        f"svelte/{SECRET}.js",
        f"gradio_api/queue/data?session_hash=../{SECRET}",
        f"gradio_api/queue/data?session_hash={SECRET * 10}",
        f"gradio_api/queue/data?session={SECRET}",
    ):
        answer = site.server.get(f"/ui/{path}")
        assert 400 <= answer.status < 500, path
        assert not [word for word in ("Traceback", str(site.folder)) if word in answer.body.decode()]
    _check_log(site.server.log.read_text()[before:])


def test_a_whole_visit_writes_json_and_shows_no_folder(site: Site):
    before = len(site.server.log.read_text())
    data, sent_as = form(files=(f"{SECRET}.png", plain()))
    answers = [site.server.post("/ui/gradio_api/upload", data, sent_as)]
    answers.extend(site.server.get(path) for path in ("/ui/", "/ui/config", "/ui/gradio_api/info"))
    for answer in answers:
        assert answer.status == 200
        assert str(site.folder) not in answer.body.decode()
    _check_log(site.server.log.read_text()[before:])


def _check_log(text: str) -> None:
    for line in text.splitlines():
        json.loads(line)
        assert SECRET not in line
        assert "Traceback" not in line
