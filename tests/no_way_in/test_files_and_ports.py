"""Nothing but its own uploads is read from a server's disk, and nobody else gets in by another door.

Every route is asked, those of BentoML's methods and of Gradio included, over real sockets.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from shared.bundle.read import Bundle
from shared.project import PROJECT_ROOT
from tests.canary import listening
from tests.no_way_in.site import KEY, Site, form
from tests.pictures import GREEN, plain
from tests.server import Server, environment, free_port


def test_gradio_hands_out_its_uploads_and_no_other_file(site: Site):
    server = site.server
    data, sent_as = form(files=("a.png", plain(GREEN)))
    path = server.post("/ui/gradio_api/upload", data, sent_as).json[0]
    assert server.get(f"/ui/gradio_api/file={path}").body == plain(GREEN)
    (site.folder / "secret.txt").write_text("secret")
    uploads = next(site.folder.glob("percept-uploads-*"))
    private = [
        "/etc/passwd",
        "/proc/self/environ",
        site.folder / "secret.txt",
        site.folder / "knowledge.sqlite",
        site.folder / "log",
        PROJECT_ROOT / "models/tagger/config.json",
        PROJECT_ROOT / "pyproject.toml",
        "pyproject.toml",
        f"{uploads}/../secret.txt",
        f"{uploads}/%2e%2e/secret.txt",
        f"{uploads}/..%2fsecret.txt",
        f"{path}/../../../secret.txt",
        f"{path}%00.txt",
        uploads,
        uploads / path,
        next(site.folder.glob("percept-documents-*")),
    ]
    for place in private:
        answer = server.get(f"/ui/gradio_api/file={place}")
        assert answer.status in (400, 403, 404), (place, answer.body[:80])
        assert b"secret" not in answer.body.replace(b"secret.txt", b"")
    link = uploads / "0123456789abcdef0123456789abcdef.txt"
    link.symlink_to(site.folder / "secret.txt")
    assert server.get(f"/ui/gradio_api/file={link.name}").status == 404
    link.unlink()


@pytest.mark.parametrize("name", ["../../escaped", "..\\..\\escaped", "/var/escaped", "a/../../escaped", "\x00escaped"])
def test_an_upload_lies_in_the_folder_of_uploads_whatever_it_is_called(site: Site, name: str):
    data, sent_as = form(files=(name, b"escaped"), upload_id=(None, b"../../escaped"))
    answer = site.server.post("/ui/gradio_api/upload?upload_id=../../escaped", data, sent_as)
    assert answer.status < 500
    for path in answer.json if answer.status == 200 else ():
        assert (next(site.folder.glob("percept-uploads-*")) / path).read_bytes() == b"escaped"
        assert "/" not in path
    assert not [found for found in site.folder.rglob("*escaped*") if "percept-uploads" not in str(found)]


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"no form"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\ncut',
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b; charset=nowhere",
            b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="upload_id"\r\n\r\nx\r\n--b--\r\n',
        ),
        ("application/json", b"{}"),
        ("text/plain", b"x"),
    ],
)
def test_a_broken_upload_is_no_fault(site: Site, media_type: str, body: bytes):
    for query in ("", "?upload_id=1"):
        assert site.server.post(f"/ui/gradio_api/upload{query}", body, media_type).status < 500


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fescaped.md",
        "%2e%2e/escaped.md",
        "..%5cescaped.md",
        "%2fetc%2fescaped.md",
        "//etc/escaped.md",
        "a//escaped.md",
        "./escaped.md",
        "a/.%2e/escaped.md",
        "escaped%00.md",
        "escaped%0a.md",
        "escaped%e2%80%ae.md",
        "%ff%feescaped.md",
        "escaped%ed%a0%80.md",
        "escaped%20/.md",
        "x" * 300 + "escaped.md",
        "%c0%ae%c0%ae/escaped.md",
    ],
)
def test_a_document_s_id_leads_nowhere(site: Site, name: str):
    before = {path for path in site.folder.iterdir() if not path.name.startswith("percept-")}
    answer = site.server.request("PUT", f"/v1/knowledge/{name}", b"# Ada", **{"x-api-key": KEY})
    assert (answer.status, answer.json["error"]["type"]) in ((400, "invalid_input"), (404, "not_found")), answer.body
    assert {path for path in site.folder.iterdir() if not path.name.startswith("percept-")} == before
    assert site.server.get("/v1/knowledge").json["documents"] == []


@pytest.mark.parametrize("name", ["．．∕escaped.md", "․․/escaped.md", "a⧵b.md", "CON.md", "a:b.md", "~root.md"])
def test_an_id_that_only_looks_like_a_path_is_a_name_and_makes_no_file(site: Site, name: str):
    path = f"/v1/knowledge/{urllib.request.quote(name)}"
    before = {found.name for found in site.folder.iterdir()}
    assert site.server.request("PUT", path, b"# Ada", **{"x-api-key": KEY}).status == 201
    assert site.server.get(path).json["id"] == name
    assert site.server.request("DELETE", path, **{"x-api-key": KEY}).status == 204
    assert {found.name for found in site.folder.iterdir()} == before


@pytest.mark.parametrize("name", ["a.zip", "a.odt", "a.epub", "a.jar", "a.tar.gz", "a.7z", "a.mht", "a.eml", "a.svg"])
def test_an_archive_is_no_document(site: Site, name: str):
    content = b"PK\x03\x04\x14\0\0\0\0\0../../escaped.md" + bytes(200)
    answer = site.server.request("PUT", f"/v1/knowledge/{name}", content, **{"x-api-key": KEY})
    assert answer.status == 415
    for media_type in ("application/zip", "application/gzip", "application/x-tar", "image/svg+xml", "message/rfc822"):
        headers = {"x-api-key": KEY, "content-type": media_type}
        assert site.server.request("PUT", "/v1/knowledge/a.md", content, **headers).status == 415


def test_one_port_is_open_and_none_besides(site: Site):
    found = listening([site.server.process.pid, *site.server.workers])
    assert found == {("tcp", "0100007F", site.server.port)}


def test_bentoml_s_own_command_opens_no_other_port_either(qa_bundle: Bundle, tmp_path: Path):
    port = free_port()
    settings = {
        "PERCEPT_TAGGER": "none",
        "PERCEPT_INTENT": "none",
        "PERCEPT_QA": str(qa_bundle.path),
        "PERCEPT_KNOWLEDGE": str(tmp_path / "k"),
        "PERCEPT_UI": "false",
        "PERCEPT_WORKERS": "1",
        "BENTOML_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "bentoml", "serve", "service:Percept", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=environment(**settings), stdout=log, stderr=subprocess.STDOUT
        )
    server = Server(process, port, tmp_path / "log")
    try:
        server.wait_for("ready", lambda: server.get("/readyz").status == 200)
        assert listening([process.pid, *server.workers]) == {("tcp", "0100007F", port)}
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_who_may_not_read_the_service_s_folders_may_not(site: Site):
    for folder in site.folder.glob("percept-*"):
        assert folder.stat().st_mode & 0o077 == 0
    home = Path(f"/proc/{site.server.process.pid}/environ").read_bytes()
    for worker in site.server.workers:
        home = Path(f"/proc/{worker}/environ").read_bytes()
        place = re.search(rb"BENTOML_HOME=([^\0]+)", home)[1]
        assert Path(os.fsdecode(place)).stat().st_mode & 0o077 == 0


def test_the_workers_c_library_gives_memory_back(site: Site):
    for worker in site.server.workers:
        variables = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
        assert {b"MALLOC_ARENA_MAX=2", b"MALLOC_MMAP_THRESHOLD_=4194304"} <= set(variables)
