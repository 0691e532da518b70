"""Nothing that is sent is fetched or unpickled: an address counts who fetches it, a pickle leaves a file when loaded.

Every route is asked, those of BentoML's methods and of Gradio included, over real sockets.
"""

from __future__ import annotations

import base64
import io
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.canary import pickled
from tests.nlp.knowledge.pdfs import make_pdf
from tests.no_way_in.site import BYTES_ROUTES, JSON, KEY, METHODS, PICKLE_TYPES, Site, form, post_json


def strings_of(schema: dict, url: str) -> object:
    """Return a body of this JSON schema with the address in every string."""
    if "anyOf" in schema:
        return strings_of(schema["anyOf"][0], url)
    kind = schema.get("type")
    if kind == "object":
        return {name: strings_of(each, url) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [strings_of(schema.get("items", {"type": "string"}), url)]
    return {"integer": 1, "number": 0.5, "boolean": True}.get(kind, url)


def test_the_address_counts_who_fetches_it(site: Site):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(site.canary.url).close()
    assert len(site.canary.hits) == 1
    site.canary.hits.clear()


def test_no_documented_route_fetches_an_address(site: Site):
    server, url = site.server, site.canary.url
    paths = server.get("/openapi.json").json["paths"]
    asked = 0
    for path, operations in paths.items():
        filled = re.sub(r"\{[^}]+\}", url.replace(":", "%3A").replace("/", "%2F"), path)
        for method, operation in operations.items():
            where = f"{filled}?url={url}&image={url}&title={url}"
            headers = {"x-api-key": KEY, "referer": url, "x-forwarded-host": url, "forwarded": f"host={url}"}
            content = operation.get("requestBody", {}).get("content", {"": {}})
            for kind, body in content.items():
                schema = body.get("schema", {})
                for data, sent_as in (
                    (json.dumps(strings_of(schema, url)).encode(), JSON),
                    (url.encode(), kind.replace("*", "png") or "text/plain"),
                    form(image=(None, url.encode()), document=(None, url.encode())),
                    form(image=(url, url.encode()), document=(url, url.encode()), title=(None, url.encode())),
                ):
                    answer = server.request(method.upper(), where, data, **headers, **{"content-type": sent_as})
                    assert answer.status < 500, (path, sent_as, answer.body)
                    asked += 1
    assert asked >= 4 * len(paths)
    assert site.canary.hits == []


def test_images_by_address_are_refused_and_not_fetched(site: Site):
    server, url = site.server, site.canary.url
    assert server.post("/v1/tag", url.encode()).status == 400
    assert post_json(server, "/hf/image-classification", {"inputs": url}).status == 400
    in_data = "data:image/png;base64," + base64.b64encode(url.encode()).decode()
    assert post_json(server, "/hf/image-classification", {"inputs": in_data}).status == 400
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'.encode()
    assert server.post("/v1/tag", svg, "image/svg+xml").status == 415
    assert site.canary.hits == []


@pytest.mark.parametrize("path", METHODS)
def test_no_method_of_bentoml_fetches_an_address(site: Site, path: str):
    server, url = site.server, site.canary.url
    names = ("image", "texts", "text", "question", "context", "root")
    for body in (*({name: url} for name in names), *({name: [url]} for name in names), url, [url]):
        assert post_json(server, path, body).status < 500
    for name in names:
        for data, sent_as in (form(**{name: (None, url.encode())}), form(**{name: (url, url.encode())})):
            assert server.post(path, data, sent_as).status == 415
    assert server.post(path, url.encode(), "application/x-www-form-urlencoded").status == 415
    assert server.post(path, url.encode(), "image/png").status < 500
    assert site.canary.hits == []


@pytest.mark.parametrize(
    ("name", "media_type", "content"),
    [
        ("a.md", "text/markdown", "# Ada\n\n![x]({url}) [y]({url}) <img src='{url}'>\n\n[z]: {url}\n\nAda wrote it."),
        (
            "a.html",
            "text/html",
            "<base href='{url}'><link rel=stylesheet href='{url}'><script src='{url}'></script><img src='{url}'>"
            "<iframe src='{url}'></iframe><meta http-equiv=refresh content='0;url={url}'><style>@import '{url}'</style>"
            "<object data='{url}'></object><svg><image href='{url}'/></svg><p>Ada wrote it.</p>",
        ),
        ("a.xhtml", "application/xhtml+xml", '<!DOCTYPE x [<!ENTITY e SYSTEM "{url}">]><p>&e; Ada wrote it.</p>'),
        ("a.txt", "text/plain", "{url} Ada wrote it."),
    ],
)
def test_what_a_document_points_to_is_not_fetched(site: Site, name: str, media_type: str, content: str):
    headers = {"x-api-key": KEY, "content-type": media_type}
    body = content.format(url=site.canary.url).encode()
    assert site.server.request("PUT", f"/v1/knowledge/{name}", body, **headers).status == 201
    asked = post_json(site.server, "/v1/answer", {"question": "Who wrote it?"})
    assert asked.json["answer"]["text"].lower() == "ada"
    assert site.server.request("DELETE", f"/v1/knowledge/{name}", **headers).status == 204
    assert site.canary.hits == []


def test_what_a_pdf_points_to_is_not_fetched(site: Site):
    url = site.canary.url.encode()
    action = b"<< /Type /Catalog /OpenAction << /S /URI /URI (" + url + b") >> /Pages 2 0 R >>"
    pdf = make_pdf(["Ada wrote it."]).replace(b"<< /Type /Catalog /Pages 2 0 R >>", action)
    pdf = pdf.replace(b"/Filter /FlateDecode >>", b"/Filter /FlateDecode /F << /FS /URL /F (" + url + b") >> >>", 1)
    answer = site.server.request("PUT", "/v1/knowledge/a.pdf", pdf, **{"x-api-key": KEY})
    assert answer.status in (200, 201, 400)
    site.server.request("DELETE", "/v1/knowledge/a.pdf", **{"x-api-key": KEY})
    assert site.canary.hits == []


def events(site: Site) -> Iterator[dict[str, object]]:
    """Give a body for each event of the page and each function that a component of it calls on the server."""
    config = site.server.get("/ui/config").json
    url = site.canary.url
    file = {"path": url, "url": url, "orig_name": url, "meta": {"_type": "gradio.FileData"}}
    beside = {"url": url, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    for data in (url, file, [file], beside, {"value": file}, {**beside, "path": "/nowhere.png", "is_stream": True}):
        for event in config["dependencies"]:
            yield {"fn_index": event["id"], "data": [data] * max(1, len(event["inputs"])), "session_hash": url}
        for part in config["components"]:
            for function in part["props"].get("server_fns") or ():
                yield {"component_id": part["id"], "fn_name": function, "data": data, "session_hash": "s"}


def test_no_event_of_the_page_fetches_an_address(site: Site):
    sent = 0
    for body in events(site):
        path = "component_server" if "fn_name" in body else "run/predict"
        answer = post_json(site.server, f"/ui/gradio_api/{path}", body)
        assert answer.status < 600
        sent += 1
        if "fn_index" in body:
            joined = {**body, "session_hash": "s"}
            assert post_json(site.server, "/ui/gradio_api/queue/join", joined).status < 600
    assert sent > 20
    assert site.canary.hits == []


@pytest.mark.parametrize(
    "route",
    [
        "/ui/gradio_api/file={url}",
        "/ui/gradio_api/file=%68ttp%3A%2F%2F{bare}",
        "/ui/gradio_api/file=/{url}",
        "/ui/gradio_api/file=./{url}",
        "/ui/gradio_api/file=%20{url}",
        "/ui/gradio_api/file=%09{url}",
        "/ui/gradio_api/file=HTTP://{bare}",
        "/ui/gradio_api/file=//{bare}",
        "/ui/gradio_api/file=\\\\{bare}",
        "/ui/file={url}",
        "/ui/gradio_api/proxy={url}",
        "/ui/proxy={url}",
        "/ui/gradio_api/stream/{url}/0/0/a.m3u8",
        "/ui/gradio_api/custom_component/{url}/client/component/a.js",
        "/ui/static/{url}",
        "/ui/assets/{url}",
        "/ui/svelte/{url}",
        "/ui/?url={url}&deep_link={url}&__theme={url}",
        "/ui/config?deep_link={url}",
        "/ui/theme.css?url={url}",
        "/ui/gradio_api/info?url={url}",
        "/docs/assets/{url}",
        "/docs?url={url}",
    ],
)
def test_no_route_of_the_page_fetches_an_address(site: Site, route: str):
    path = route.format(url=site.canary.url, bare=site.canary.url.removeprefix("http://"))
    for method in ("GET", "HEAD", "POST"):
        assert site.server.request(method, path).status < 500
    assert site.canary.hits == []


@pytest.mark.parametrize("path", [*BYTES_ROUTES, "/v1/intent", "/v1/answer", "/v2/models/tiny-tagger/infer"])
def test_a_pickle_is_never_loaded(site: Site, path: str, tmp_path: Path):
    bomb = pickled(tmp_path / "loaded")
    objects = io.BytesIO()
    np.save(objects, np.array([1, {"a": 2}], dtype=object), allow_pickle=True)
    assert b"pickle" not in objects.getvalue()
    npy = objects.getvalue().partition(b"\n")[0] + b"\n" + bomb
    headers = {"payload-container": "DefaultContainer", "payload-meta": "{}", "batch-size": "1", "args-number": "1"}
    for body in (bomb, npy):
        for media_type in PICKLE_TYPES:
            answer = site.server.post(path, body, media_type, **headers)
            assert 400 <= answer.status < 500, (media_type, answer.status)
        for data, sent_as in (form(image=("a.pkl", body)), form(texts=(None, body)), form(__args__=("a", body))):
            assert 400 <= site.server.post(path, data, sent_as).status < 500
    assert not (tmp_path / "loaded").exists()


def test_a_pickle_in_a_tensor_a_document_or_an_upload_is_never_loaded(site: Site, tmp_path: Path):
    server, bomb = site.server, pickled(tmp_path / "loaded")
    packed = base64.b64encode(bomb).decode()
    for datatype, data in (
        ("BYTES", [packed]),
        ("BYTES", [bomb.decode("latin-1")]),
        ("FP32", [packed]),
        ("OBJECT", [1]),
    ):
        tensor = {"name": "pixel_values", "shape": [1], "datatype": datatype, "data": data}
        assert post_json(server, "/v2/models/tiny-tagger/infer", {"inputs": [tensor]}).status == 400
    size = {"binary_data_size": len(bomb)}
    head = json.dumps(
        {"inputs": [{"name": "pixel_values", "shape": [len(bomb)], "datatype": "BYTES", "parameters": size}]}
    ).encode()
    length = {"inference-header-content-length": str(len(head))}
    sent = server.post("/v2/models/tiny-tagger/infer", head + bomb, "application/octet-stream", **length)
    assert sent.status == 400
    for name in ("a.pkl", "a.md", "a.pdf"):
        server.request("PUT", f"/v1/knowledge/{name}", bomb, **{"x-api-key": KEY})
        server.request("DELETE", f"/v1/knowledge/{name}", **{"x-api-key": KEY})
    data, sent_as = form(files=("a.pkl", bomb))
    path = server.post("/ui/gradio_api/upload", data, sent_as).json[0]
    for body in events(site):
        text = json.dumps(body).replace(site.canary.url, path)
        server.post(f"/ui/gradio_api/{'component_server' if 'fn_name' in body else 'run/predict'}", text.encode(), JSON)
    assert not (tmp_path / "loaded").exists()
