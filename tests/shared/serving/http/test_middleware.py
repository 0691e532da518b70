"""The layers around every route: ids, headers, log lines, metrics, and the last-resort 500."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from prometheus_client import REGISTRY
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from shared.serving.app import with_edge
from shared.serving.http import middleware
from shared.serving.http.errors import install_error_handlers
from shared.serving.http.middleware import RequestEdge
from shared.serving.http.requests import MODEL
from shared.serving.observe.logs import RequestLog
from shared.serving.settings import Settings
from tests.shared.serving.requests import call


def make_app() -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/items/{name}")
    async def item(name: str) -> str:
        return name

    @app.get("/other-model")
    async def other_model(request: Request) -> str:
        request.scope[MODEL] = ("second", "2")
        return "answered"

    @app.get("/broken")
    @app.get("/v2/broken")
    async def broken() -> None:
        raise RuntimeError("secret of the inside")

    @app.get("/left")
    async def left() -> None:
        raise ClientDisconnect

    @app.get("/livez")
    async def livez() -> str:
        return "alive"

    return app


class Edge:
    """A client of the app with its log; what the layers do is read from both."""

    def __init__(self, lines_per_s: float = 1000) -> None:
        self.stream = io.StringIO()
        log = RequestLog(lines_per_s, self.stream)
        self.client = TestClient(
            RequestEdge(make_app(), log=log, model=lambda: ("first", "1")), raise_server_exceptions=False
        )

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def edge() -> Edge:
    return Edge()


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What the layers log beside the lines of requests."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    middleware._log.addHandler(handler)
    yield records
    middleware._log.removeHandler(handler)


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_each_request_gets_an_id_of_its_own(edge: Edge):
    ids = [edge.client.get("/items/a").headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]
    assert [line["request_id"] for line in edge.lines] == ids


@pytest.mark.parametrize("given", ["abc-123", "Root=1-67891233-abcdef012345678912345678", "x" * 128])
def test_an_id_that_a_proxy_gave_is_kept(edge: Edge, given: str):
    assert edge.client.get("/items/a", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", 'a"}\t{"', "x" * 129, "ä"])
def test_an_id_that_could_harm_a_log_is_replaced(edge: Edge, given: str):
    headers = [(b"x-request-id", given.encode("latin-1"))]
    assert re.fullmatch(r"[0-9a-f]{32}", edge.client.get("/items/a", headers=headers).headers["x-request-id"])


def test_the_model_stands_in_the_headers_and_a_route_may_name_another(edge: Edge):
    first, second = edge.client.get("/items/a").headers, edge.client.get("/other-model").headers
    assert (first["x-model-name"], first["x-model-version"]) == ("first", "1")
    assert (second["x-model-name"], second["x-model-version"]) == ("second", "2")


def test_without_a_model_there_are_no_model_headers():
    client = TestClient(RequestEdge(make_app(), log=RequestLog(0, io.StringIO()), model=lambda: None))
    assert "x-model-name" not in client.get("/items/a").headers


def test_the_log_line_names_the_route_and_never_what_the_client_sent(edge: Edge):
    edge.client.get("/items/secret?word=secret")
    edge.client.get("/secret")
    first, second = edge.lines
    assert (first["method"], first["route"], first["status"]) == ("GET", "/items/{name}", 200)
    assert (second["route"], second["status"]) == ("other", 404)
    assert "secret" not in edge.stream.getvalue()


def test_probes_are_not_logged(edge: Edge):
    edge.client.get("/livez")
    assert edge.lines == []


def test_above_the_rate_successes_are_counted_and_errors_are_written():
    edge = Edge(lines_per_s=0)
    for path in ("/items/a", "/items/b", "/nowhere"):
        edge.client.get(path)
    (line,) = edge.lines
    assert (line["status"], line["left_out"]) == (404, 2)


def test_requests_are_counted_by_route_and_never_by_path(edge: Edge):
    labels = {"method": "GET", "route": "/items/{name}", "status": "200"}
    before = count("percept_http_requests_total", **labels)
    for name in "abc":
        edge.client.get(f"/items/{name}")
    assert count("percept_http_requests_total", **labels) == before + 3
    assert count("percept_http_requests_in_progress") == 0


def test_a_method_that_a_client_makes_up_is_no_label(edge: Edge):
    edge.client.request("SECRET", "/items/a")
    assert edge.lines[0]["method"] == "other"


@pytest.mark.parametrize("path", ["/broken", "/v2/broken"])
def test_an_exception_becomes_a_500_that_tells_nothing_and_is_logged_and_counted_once(
    edge: Edge, path: str, records: list[logging.LogRecord]
):
    before = count("percept_faults_total", route=path)
    response = edge.client.get(path, headers={"x-request-id": "fault-1"})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert isinstance(response.json()["error"], str) == path.startswith("/v2")
    assert response.headers["x-request-id"] == "fault-1"
    assert count("percept_faults_total", route=path) == before + 1
    (record,) = records
    assert (record.request_id, record.route) == ("fault-1", path)
    assert "secret of the inside" in str(record.exc_info)


def test_a_client_that_left_is_no_fault(edge: Edge):
    before = count("percept_faults_total", route="/left")
    asyncio.run(call(edge.client.app, "/left"))
    assert edge.lines[0]["status"] == 499
    assert count("percept_faults_total", route="/left") == before


def test_what_fails_after_its_answer_began_is_not_answered_twice(edge: Edge):
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("half way")

    sent = asyncio.run(call(RequestEdge(half, log=RequestLog(0, io.StringIO()), model=lambda: None), "/half"))
    assert [message["type"] for message in sent] == ["http.response.start"]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_request_passes_untouched(kind: str):
    seen: list[Any] = []

    async def inside(*arguments: Any) -> None:
        seen.extend(arguments)

    scope, receive, send = {"type": kind}, object(), object()
    asyncio.run(with_edge(inside, Settings(), lambda: None)(scope, receive, send))
    assert seen == [scope, receive, send]
    assert scope == {"type": kind}


@pytest.mark.parametrize(
    ("path", "status"), [("/items/a", 200), ("/other-model", 200), ("/nowhere", 404), ("/livez", 200)]
)
def test_a_head_is_answered_as_a_get_and_logged_as_itself(edge: Edge, path: str, status: int):
    get, head = edge.client.get(path), edge.client.head(path)
    assert head.status_code == get.status_code == status
    names = {"content-type", "x-model-name", "x-model-version"}
    assert [head.headers.get(name) for name in names] == [get.headers.get(name) for name in names]
    shown = [(line["method"], line["route"], line["status"]) for line in edge.lines]
    assert shown == ([] if path == "/livez" else [(method, *shown[0][1:]) for method in ("GET", "HEAD")])
