"""What is changed in BentoML is still there to be changed, and the change does what it promises."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import bentoml
import pytest
from _bentoml_impl.server.app import ContextMiddleware, ServiceAppFactory
from bentoml import Service
from fastapi import FastAPI
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pydantic import BaseModel
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from shared.errors import BundleError, InputError, Overloaded
from shared.project import PROJECT_ROOT
from shared.serving.app import edge_layers
from shared.serving.host import carrier as bento
from shared.serving.host import service as hosting
from shared.serving.host.carrier import TunedService, tracing_config, tuned_service, worker_count
from shared.serving.host.service import load_or_exit
from shared.serving.host.versions import KNOWN_VERSIONS, is_known
from shared.serving.http.errors import install_error_handlers
from shared.serving.settings import Settings

# BentoML 1.4.39 asks an instance for its fields, which pydantic would rather be asked of the class.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute on the instance")
SETTINGS = Settings(workers=1, max_body_bytes=4096)
FORMS = ["multipart/form-data; boundary=x", "Multipart/Form-Data", "application/x-www-form-urlencoded"]


class Word(BaseModel):
    """An answer whose schema has what BentoML's own OpenAPI document cannot hold."""

    model_config = {"json_schema_extra": {"examples": [{"word": "yes"}]}}

    word: str


def make_service(events: list[str]) -> Service[Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI):
        events.append("started")
        yield
        events.append("stopped")

    app = FastAPI(title="Words", lifespan=lifespan)
    install_error_handlers(app)

    @app.get("/livez")
    @app.get("/metrics")
    @app.get("/")
    async def own() -> str:
        return "ours"

    page = FastAPI()

    @page.get("/")
    async def own_page() -> str:
        return "the page"

    @bentoml.asgi_app(app, path="/")
    @bentoml.asgi_app(page, path="/page")
    @tuned_service(SETTINGS, edge_layers(SETTINGS, lambda: ("words", "1")), name="words")
    class Words:
        @bentoml.api(route="/say")
        async def say(self, word: str) -> Word:
            if word == "busy":
                raise Overloaded("busy. Send it again later.")
            if word == "broken":
                raise RuntimeError("secret of the inside")
            return Word(word=word)

        @bentoml.api(route="/size")
        async def size(self, data: bytes, /) -> Word:
            if not data.startswith(b"data"):
                raise InputError("no data.")
            return Word(word=str(len(data)))

    return Words


@pytest.fixture(scope="module")
def events() -> list[str]:
    return []


@pytest.fixture(scope="module")
def service(events: list[str]) -> Service[Any]:
    return make_service(events)


@pytest.fixture(scope="module")
def client(service: Service[Any]) -> Iterator[TestClient]:
    with TestClient(service.to_asgi(), raise_server_exceptions=False) as client:
        yield client


def layers_of(factory: ServiceAppFactory) -> list[str]:
    return [layer.cls.__name__ for layer in factory.middlewares]


def test_the_installed_versions_are_known_and_pyproject_has_the_same_bounds():
    with (PROJECT_ROOT / "pyproject.toml").open("rb") as file:
        needed = {each.name: each.specifier for each in map(Requirement, tomllib.load(file)["project"]["dependencies"])}
    for project, bounds in KNOWN_VERSIONS.items():
        assert is_known(project)
        assert needed[project] == SpecifierSet(bounds)


def test_what_is_left_out_is_still_what_bentoml_would_bring(service: Service[Any]):
    service.inject_config()
    assert {"OpenTelemetryMiddleware", "TimeoutMiddleware"} <= set(layers_of(ServiceAppFactory(service, is_main=True)))


def test_only_our_layers_and_bentomls_context_stay(service: Service[Any]):
    service.inject_config()
    ours = ["RequestEdge", "RequestLimits", "ApiFirst", "ContextMiddleware"]
    assert layers_of(bento.TunedAppFactory(service, is_main=True)) == ours


def test_tracing_stays_where_an_exporter_is_set(service: Service[Any], monkeypatch: pytest.MonkeyPatch):
    service.inject_config()
    monkeypatch.setitem(
        service.config, "tracing", tracing_config(Settings(otlp_endpoint="http://collector:4318/v1/traces"))
    )
    assert layers_of(bento.TunedAppFactory(service, is_main=True))[0] == "OpenTelemetryMiddleware"


def test_of_an_unknown_bentoml_nothing_is_changed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(KNOWN_VERSIONS, "bentoml", "<1")
    service = make_service([])
    assert type(service) is Service
    assert [layer.__name__ for layer, _ in service.middlewares] == ["RequestEdge", "RequestLimits"]


def test_the_settings_reach_bentoml(service: Service[Any]):
    assert isinstance(service, TunedService)
    assert service.config["workers"] == 1
    assert service.config["traffic"]["timeout"] == SETTINGS.deadline_s + SETTINGS.shutdown_s
    assert service.config["metrics"]["enabled"] is False
    assert service.config["logging"]["access"]["enabled"] is False


def test_the_mounted_app_lives_as_long_as_the_worker_and_answers_the_system_routes(
    client: TestClient, events: list[str]
):
    assert events == ["started"]
    for path in ("/livez", "/metrics", "/"):
        assert client.get(path).json() == "ours", path


def test_only_what_bentoml_has_to_answer_passes_its_own_layers(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    passed: list[str] = []

    theirs = ContextMiddleware.__call__

    async def call(self: ContextMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["path"])
        await theirs(self, scope, receive, send)

    monkeypatch.setattr(ContextMiddleware, "__call__", call)
    assert client.get("/livez").json() == "ours"
    assert passed == []
    assert client.get("/page/").json() == "the page"
    assert client.get("/page", follow_redirects=False).status_code == 307
    assert client.post("/say", json={"word": "yes"}).json() == {"word": "yes"}
    assert passed == ["/page/", "/page", "/say"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs.json", "/static_content/index.css", "/assets/x.js"])
def test_nothing_of_bentomls_own_pages_and_probes_is_served(client: TestClient, path: str):
    response = client.get(path)
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found")


def test_methods_answer_and_their_schema_is_there_for_bentomls_clients(client: TestClient):
    assert client.post("/say", json={"word": "yes"}).json() == {"word": "yes"}
    assert client.post("/size", content=b"data!").json() == {"word": "5"}
    assert [route["route"] for route in client.get("/schema.json").json()["routes"]] == ["/say", "/size"]


@pytest.mark.parametrize(
    ("path", "sent", "status", "kind"),
    [
        ("/say", {"json": {"word": "busy"}}, 429, "overloaded"),
        ("/say", {"json": {"word": "broken"}}, 500, "internal"),
        ("/say", {"json": {}}, 422, "validation_error"),
        ("/say", {"json": {"word": 1}}, 422, "validation_error"),
        ("/say", {"content": b"{"}, 422, "validation_error"),
        ("/say", {"content": b"\xff\xfe"}, 422, "validation_error"),
        ("/say", {"content": bytes(5000)}, 413, "too_large"),
        ("/size", {"content": b"other"}, 400, "invalid_input"),
    ],
)
def test_errors_of_methods_leave_in_our_shape(
    client: TestClient, path: str, sent: dict[str, Any], status: int, kind: str
):
    response = client.post(path, **sent)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"type", "message", "request_id"}
    assert (error["type"], error["request_id"]) == (kind, response.headers["x-request-id"])
    assert "secret" not in response.text


@pytest.mark.parametrize("path", ["/say", "/size"])
@pytest.mark.parametrize("media_type", [*FORMS, "application/vnd.bentoml+pickle"])
def test_forms_and_pickles_are_refused_unread(client: TestClient, path: str, media_type: str):
    # In a form BentoML would fetch the URL; had it tried, the answer would be another.
    body = b"word=http://127.0.0.1:1/x&data=http://127.0.0.1:1/x"
    response = client.post(path, content=body, headers={"content-type": media_type})
    assert (response.status_code, response.json()["error"]["type"]) == (415, "unsupported_media")


def test_a_url_in_place_of_bytes_is_not_fetched(client: TestClient):
    assert client.post("/size", content=b"http://127.0.0.1:1/x").json()["error"]["message"] == "no data."


def test_a_wrong_method_is_405(client: TestClient):
    assert client.get("/say").json()["error"]["type"] == "method_not_allowed"


def test_the_document_of_a_bento_is_that_of_the_mounted_api(service: Service[Any]):
    assert service.openapi_spec["info"]["title"] == "Words"
    assert set(service.openapi_spec["paths"]) == {"/", "/livez", "/metrics"}


@pytest.mark.parametrize(
    ("settings", "gpu", "count"),
    [
        ({"workers": 7}, True, 7),
        ({}, False, "cpu_count"),
        ({}, True, 1),
        ({"device": "cpu"}, True, "cpu_count"),
        ({"device": "cuda"}, False, 1),
    ],
)
def test_there_is_a_worker_a_core_or_one_on_a_gpu(
    settings: dict[str, Any], gpu: bool, count: int | str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bento, "has_gpu", lambda: gpu)
    assert worker_count(Settings(**settings)) == count


def test_a_worker_that_cannot_load_ends_as_one_that_cannot_start(monkeypatch: pytest.MonkeyPatch):
    def leave(code: int) -> None:
        raise SystemExit(code)

    def load(error: Exception) -> None:
        raise error

    monkeypatch.setattr(hosting.os, "_exit", leave)
    with pytest.raises(SystemExit) as caught:
        load_or_exit(lambda: load(BundleError("no model.onnx")))()
    assert caught.value.code == 3
    with pytest.raises(RuntimeError, match="a bug"):
        load_or_exit(lambda: load(RuntimeError("a bug")))()
    assert load_or_exit(lambda: "loaded")() == "loaded"
