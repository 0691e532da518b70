"""Pages load, ask and are framed by their own host alone, and what a setting closes is not there at all."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.testclient import TestClient

from shared.serving.app import make_app, with_edge
from shared.serving.http.browser import add_docs
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.page.guard import PageHeaders
from shared.serving.page.late import LatePage
from shared.serving.settings import Settings


def policy(headers: dict[str, str]) -> dict[str, list[str]]:
    parts = [part.split() for part in headers["content-security-policy"].split(";")]
    return {name: values for name, *values in parts}


def check_common(headers: dict[str, str]) -> None:
    found = policy(headers)
    assert found["default-src"] == ["'self'"]
    assert found["object-src"] == ["'none'"]
    assert found["frame-ancestors"] == ["'self'"]
    assert not any("http" in value or "*" in value for values in found.values() for value in values)
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["referrer-policy"] == "same-origin"


def test_the_documentation_runs_its_own_inline_script_and_no_other():
    app = FastAPI(docs_url=None, title="Trees")
    add_docs(app)
    page = TestClient(app).get("/docs")
    check_common(page.headers)
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy(page.headers)["script-src"] == ["'self'", f"'sha256-{digest}'"]


def test_a_page_of_gradios_has_the_headers_on_every_answer_and_so_has_the_page_that_asks_to_wait():
    app = FastAPI()
    app.add_middleware(PageHeaders)
    for response in (TestClient(app).get("/nowhere"), TestClient(LatePage("/ui", is_wanted=True)).get("/ui/")):
        check_common(response.headers)
        assert {"'unsafe-inline'", "'unsafe-eval'"} <= set(policy(response.headers)["script-src"])


@contextmanager
def opened(home: str = "/docs", **changes: object) -> Iterator[TestClient]:
    settings = Settings(**changes)
    router = APIRouter()

    @router.get("/word")
    async def word() -> str:
        return "yes"

    class Engine:
        models = ()

        async def close(self) -> None:
            pass

    app = make_app(Lifecycle(Engine), [router], settings, title="Words", description="", home=home)
    with TestClient(with_edge(app, settings, lambda: None), follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize(
    ("closed", "paths"),
    [("docs", ["/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/redoc", "/"]), ("metrics", ["/metrics"])],
)
def test_what_a_setting_closes_answers_as_if_it_had_never_been(closed: str, paths: list[str]):
    with opened(**{closed: False}) as client:
        nowhere = client.get("/nowhere")
        for path in paths:
            found = client.get(path)
            assert (found.status_code, found.json()["error"]["message"]) == (404, nowhere.json()["error"]["message"])
        assert client.get("/word").json() == "yes"
        assert client.get("/livez").status_code == 200
    with opened() as client:
        assert all(client.get(path).status_code in (200, 307) for path in paths if path != "/redoc")


def test_without_documentation_the_root_still_leads_to_the_page():
    with opened(home="/ui", docs=False) as client:
        assert client.get("/").headers["location"] == "/ui"


@pytest.mark.parametrize("prefix", ["", "/percept"], ids=["taken off", "left on"])
def test_below_a_root_path_all_that_the_service_says_of_itself_begins_with_it(prefix: str):
    with opened(root_path="/percept") as client:
        assert client.get(f"{prefix}/").headers["location"] == "/percept/docs"
        page = client.get(f"{prefix}/docs").text
        addresses = [*re.findall(r'(?:src|href)="([^"]+)"', page), *re.findall(r"url: '([^']+)'", page)]
        assert len(addresses) == 4
        for address in addresses:
            assert address.startswith("/percept/")
            for shown in (address, address.removeprefix("/percept")):
                assert client.get(shown).status_code == 200
        assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/percept"}]
        assert client.get(f"{prefix}/word").json() == "yes"
        assert client.get(f"{prefix}/word/", follow_redirects=True).json() == "yes"


@pytest.mark.parametrize("root_path", ["percept", "/percept/", "/a b", "//x", "http://x/y"])
def test_a_root_path_that_is_none_is_refused(root_path: str):
    with pytest.raises(ValueError, match="root_path"):
        Settings(root_path=root_path)


GRADIOS = (
    '<head><meta property="og:title" content="Gradio" /><meta\n name="twitter:creator"\n content="@Gradio" /></head>'
)


def test_the_page_says_what_it_is_and_only_the_page_is_read_on_its_way():
    app = FastAPI()

    @app.get("/ui/")
    @app.get("/ui/other")
    def page(request: Request) -> Response:
        asked = request.headers.get("accept-encoding", "nothing")
        return Response(GRADIOS, media_type="text/html", headers={"asked-for": asked})

    app.add_middleware(PageHeaders, path="/ui", head="<title>Ours</title>")
    with TestClient(app) as client:
        shown = client.get("/ui/", headers={"accept-encoding": "br"})
        assert shown.text == "<head><title>Ours</title></head>"
        assert shown.headers["content-length"] == str(len(shown.content))
        assert shown.headers["asked-for"] == "nothing"
        other = client.get("/ui/other", headers={"accept-encoding": "br"})
        assert other.text == GRADIOS
        assert other.headers["asked-for"] == "br", "scripts and pictures of the page stay compressed"
