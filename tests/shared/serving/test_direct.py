"""The short way to a route gives what FastAPI's own way gives: held against it, request by request."""

from __future__ import annotations

import errno
import io
import json
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from shared.errors import InvalidImage, Overloaded
from shared.serving.app import DirectApi
from shared.serving.http.errors import install_error_handlers
from shared.serving.http.middleware import RequestEdge
from shared.serving.http.requests import read_json
from shared.serving.observe.logs import RequestLog


class Asked(BaseModel):
    """A body."""

    number: int


class Told(BaseModel):
    """An answer with a field of another name, one that may be missing, and one that JSON has no number for."""

    number: int = Field(serialization_alias="théNumber")
    note: str | None = None
    scores: list[float] = [0.1, 1e-9]


def make_router() -> APIRouter:
    router = APIRouter()

    @router.post("/double")
    async def double(request: Request) -> Told:
        return Told(number=2 * (await read_json(request, Asked)).number)

    @router.post("/short", response_model_exclude_none=True)
    async def short(request: Request) -> list[Told]:
        return [Told(number=1), Told(number=2, note="é")]

    @router.post("/plain", response_model=Told)
    async def plain(request: Request) -> Response:
        return PlainTextResponse("as it is", 202, {"x-own": "1"})

    @router.post("/query")
    async def query(request: Request, times: int = Query(3, ge=1), name: str | None = Query(None)) -> Told:
        return Told(number=times, note=name)

    @router.post("/fails/{kind}")
    async def fails(kind: str) -> Told:
        raise AssertionError(kind)

    errors = {
        "ours": InvalidImage("it is broken"),
        "busy": Overloaded("too much", retry_after_s=7),
        "http": HTTPException(418, "a teapot", {"x-tea": "green"}),
        "disk": OSError(errno.ENOSPC, "full"),
    }

    def failing(name: str, error: Exception) -> None:
        @router.post(f"/{name}")
        async def fail(request: Request) -> Told:
            raise error

    for name, error in errors.items():
        failing(name, error)

    @router.post("/guarded", dependencies=[Depends(lambda: None)])
    async def guarded(request: Request) -> Told:
        return Told(number=1)

    @router.post("/double")
    async def hidden(request: Request) -> Told:
        raise AssertionError("the first route of a path answers")

    @router.get("/double")
    async def get(request: Request) -> Told:
        return Told(number=0)

    return router


def make(kind: type[FastAPI]) -> FastAPI:
    app = kind()
    install_error_handlers(app)
    router = make_router()
    app.include_router(router)
    if isinstance(app, DirectApi):
        app.take([router])
    return app


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/double", {"json": {"number": 21}}),
    ("POST", "/double?ignored=1", {"json": {"number": 21}}),
    ("POST", "/double", {"json": {"number": "many"}}),
    ("POST", "/double", {"content": b"{"}),
    ("POST", "/double", {"files": {"a": b"b"}}),
    ("POST", "/double/", {"json": {"number": 1}}),
    ("GET", "/double", {}),
    ("PUT", "/double", {}),
    ("HEAD", "/double", {}),
    ("OPTIONS", "/double", {}),
    ("POST", "/short", {}),
    ("GET", "/short", {}),
    ("POST", "/plain", {}),
    ("POST", "/query", {}),
    ("POST", "/query?times=5&name=a", {}),
    ("POST", "/query?times=0", {}),
    ("POST", "/ours", {}),
    ("POST", "/busy", {}),
    ("POST", "/http", {}),
    ("POST", "/disk", {}),
    ("POST", "/guarded", {}),
    ("POST", "/nowhere", {}),
    ("POST", "/double%2F", {"json": {"number": 1}}),
]


@pytest.mark.parametrize(
    ("method", "url", "sent"), REQUESTS, ids=[f"{m} {u} {i}" for i, (m, u, _) in enumerate(REQUESTS)]
)
def test_both_ways_answer_alike(method: str, url: str, sent: dict[str, Any]):
    direct, plain = (
        TestClient(make(kind), follow_redirects=False).request(method, url, **sent) for kind in (DirectApi, FastAPI)
    )
    assert (direct.status_code, direct.content) == (plain.status_code, plain.content)
    assert sorted(direct.headers.items()) == sorted(plain.headers.items())


def test_the_short_way_is_taken_by_what_needs_no_other():
    app = make(DirectApi)
    assert isinstance(app, DirectApi)
    assert set(app.direct_paths) == {"/double", "/short", "/plain", "/query", "/ours", "/busy", "/http", "/disk"}


def test_an_error_that_nobody_knows_is_left_to_the_edge():
    app, router = DirectApi(), APIRouter()

    @router.post("/breaks")
    async def breaks(request: Request) -> Told:
        raise OSError(errno.EIO, "broken disk") if request.headers.get("x-disk") else ZeroDivisionError("a bug")

    app.include_router(router)
    app.take([router])
    client = TestClient(app)
    with pytest.raises(ZeroDivisionError):
        client.post("/breaks")
    with pytest.raises(OSError, match="broken disk"):
        client.post("/breaks", headers={"x-disk": "1"})


def test_what_breaks_is_answered_within_the_layers_that_add_headers():
    app, router = DirectApi(), APIRouter()

    @router.post("/breaks")
    async def breaks(request: Request) -> Told:
        raise ZeroDivisionError("a bug")

    @router.post("/lies")
    async def lies(request: Request) -> Told:
        return "no such thing"  # type: ignore[return-value]

    app.include_router(router)
    app.take([router])
    inner = CORSMiddleware(app, allow_origins=["https://shop.example"])
    log = io.StringIO()
    client = TestClient(RequestEdge(inner, log=RequestLog(1000, log), model=lambda: None))
    for path in ("/breaks", "/lies"):
        answer = client.post(path, headers={"origin": "https://shop.example"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal")
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert [json.loads(line)["status"] for line in log.getvalue().splitlines()] == [500, 500]


@pytest.mark.parametrize("earlier", ["/same", "/{name}"])
def test_a_route_behind_another_of_its_path_is_not_taken(earlier: str):
    def refuse() -> None:
        raise HTTPException(401)

    app, router = DirectApi(), APIRouter()

    @router.post(earlier, dependencies=[Depends(refuse)])
    async def first(request: Request) -> Told:
        return Told(number=1)

    @router.post("/same")
    async def second(request: Request) -> Told:
        return Told(number=2)

    app.include_router(router)
    app.take([router])
    assert app.direct_paths == []
    assert TestClient(app).post("/same").status_code == 401


def test_a_query_that_must_be_there_is_left_to_fastapi():
    app, router = DirectApi(), APIRouter()

    @router.post("/must")
    async def must(request: Request, times: int = Query(ge=1)) -> Told:
        return Told(number=times)

    app.include_router(router)
    app.take([router])
    assert TestClient(app).post("/must").status_code == 422


def test_below_a_mount_the_path_is_that_of_the_app():
    outer = FastAPI()
    outer.mount("/inner", make(DirectApi))
    assert TestClient(outer).post("/inner/double", json={"number": 2}).json()["théNumber"] == 4


def test_an_app_with_layers_of_its_own_keeps_them():
    app = make(DirectApi)

    @app.middleware("http")
    async def mark(request: Request, proceed: Any) -> Response:
        response = await proceed(request)
        response.headers["x-marked"] = "1"
        return response

    assert TestClient(app).post("/double", json={"number": 2}).headers["x-marked"] == "1"


def test_the_documentation_lists_all_routes_alike():
    assert make(DirectApi).openapi() == make(FastAPI).openapi()
