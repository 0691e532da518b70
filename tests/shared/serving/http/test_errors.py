"""Every error has its status and leaves in the one shape; under /v2 in that of the Open Inference Protocol."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

import shared.errors
from shared.errors import (
    BundleError,
    DeadlineExceeded,
    Forbidden,
    InputError,
    InvalidImage,
    NotFound,
    NotReady,
    Overloaded,
    PerceptError,
    RateLimited,
    ServiceError,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnsupportedMedia,
)
from shared.serving.http.errors import (
    STATUS,
    ErrorBody,
    InferenceErrorBody,
    classify,
    error_response,
    error_responses,
    install_error_handlers,
)
from shared.serving.http.requests import REQUEST_ID, invalid_body

EXPECTED = [
    (InvalidImage, 400, "invalid_image"),
    (InputError, 400, "invalid_input"),
    (Unauthorized, 401, "unauthorized"),
    (Forbidden, 403, "forbidden"),
    (NotFound, 404, "not_found"),
    (TooSlow, 408, "timeout"),
    (TooLarge, 413, "too_large"),
    (UnsupportedMedia, 415, "unsupported_media"),
    (Overloaded, 429, "overloaded"),
    (RateLimited, 429, "rate_limited"),
    (NotReady, 503, "not_ready"),
    (ServiceError, 503, "unavailable"),
    (DeadlineExceeded, 504, "deadline_exceeded"),
]
INTERNAL = "the service failed on this request. It is not your input's fault; the log has it under its X-Request-ID."


def answer(error: Exception, path: str = "/v1/tag") -> tuple[int, Any, dict[str, str]]:
    response = error_response(error, {"type": "http", "path": path, REQUEST_ID: "abc"})
    return response.status_code, json.loads(response.body), dict(response.headers)


@pytest.mark.parametrize(("kind", "status", "word"), EXPECTED)
def test_an_error_becomes_its_status_and_body(kind: type[PerceptError], status: int, word: str):
    got, body, headers = answer(kind("what came. What to do."))
    assert got == status
    assert body == {"error": {"type": word, "message": "what came. What to do.", "request_id": "abc"}}
    assert headers["content-type"] == "application/json"
    ErrorBody.model_validate(body)


def test_every_error_that_a_client_can_cause_or_wait_out_has_an_expected_status():
    tree = [kind for _, kind in inspect.getmembers(shared.errors, inspect.isclass) if issubclass(kind, PerceptError)]
    told = {kind for kind in tree if issubclass(kind, (InputError, ServiceError))}
    assert told == {kind for kind, _, _ in EXPECTED}
    assert told <= set(STATUS)


def test_an_error_without_a_status_of_its_own_takes_its_ancestors():
    class OddImage(InvalidImage):
        pass

    assert classify(OddImage("odd"))[:2] == (400, "invalid_image")


@pytest.mark.parametrize("error", [BundleError("in /secret/path"), RuntimeError("secret"), KeyError("secret")])
def test_what_is_no_business_of_a_client_is_a_500_that_tells_nothing(error: Exception):
    status, body, _ = answer(error)
    assert (status, body["error"]["type"], body["error"]["message"]) == (500, "internal", INTERNAL)


def test_an_answer_to_wait_for_says_how_long():
    overloaded = Overloaded("busy")
    assert answer(overloaded)[2]["retry-after"] == str(overloaded.retry_after_s)
    assert answer(NotReady("starting"))[2]["retry-after"] == "5"
    assert answer(Unauthorized("no key"))[2]["www-authenticate"] == "Bearer"
    assert "retry-after" not in answer(InputError("bad"))[2]


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/models/tiny/infer", "/v2/nothing"])
def test_under_v2_an_error_is_a_string_as_the_open_inference_protocol_has_it(path: str):
    status, body, headers = answer(NotFound("there is no model 'x' here."), path)
    assert (status, body) == (404, {"error": "there is no model 'x' here."})
    assert headers["content-type"] == "application/json"
    InferenceErrorBody.model_validate(body)
    assert answer(RuntimeError("secret"), path)[1] == {"error": INTERNAL}


@pytest.mark.parametrize("path", ["/v2x", "/v1/v2/x", "/"])
def test_a_path_that_only_looks_like_v2_has_the_usual_shape(path: str):
    assert set(answer(NotFound("nothing"), path)[1]["error"]) == {"type", "message", "request_id"}


def test_a_long_list_of_problems_is_cut():
    class Many(BaseModel):
        a: int
        b: int
        c: int
        d: int
        e: int
        f: int
        g: int

    with pytest.raises(ValidationError) as caught:
        Many.model_validate({"a": 1})
    assert classify(caught.value)[0] == 500, "as it came from pydantic it is a fault of ours"
    status, kind, message, _ = classify(invalid_body(caught.value))
    assert (status, kind) == (422, "validation_error")
    assert message.startswith("b: Field required; c: Field required")
    assert message.endswith("f: Field required (and 1 more)")


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "not_found"), (405, "method_not_allowed"), (418, "http_error"), (502, "unavailable")]
)
def test_starlettes_own_errors_have_the_shape_too(status: int, kind: str):
    got, body, headers = answer(HTTPException(status, headers={"allow": "GET"}))
    assert (got, body["error"]["type"], headers["allow"]) == (status, kind, "GET")


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/count/{number}")
    async def count(number: int) -> int:
        if number == 0:
            raise TooLarge("zero is too large.")
        return number

    @app.get("/v2/{name}", responses=error_responses(404, body=InferenceErrorBody))
    async def inference(name: str) -> None:
        raise NotFound(f"no {name}.")

    @app.get("/documented", responses=error_responses(404, 429))
    async def documented() -> None:
        return None

    return TestClient(app)


def test_an_app_answers_its_own_and_fastapis_errors_in_the_shape(client: TestClient):
    assert client.get("/count/3").json() == 3
    for path, status, kind in (("/count/0", 413, "too_large"), ("/count/x", 422, "validation_error")):
        response = client.get(path)
        assert (response.status_code, response.json()["error"]["type"]) == (status, kind)
    assert client.get("/v2/x").json() == {"error": "no x."}
    assert client.get("/v2/x/y").json() == {"error": "there is no such route. GET /openapi.json lists the routes."}
    assert client.get("/x").json()["error"]["type"] == "not_found"


def test_openapi_shows_the_shape_that_a_route_answers_in(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    usual = paths["/documented"]["get"]["responses"]["429"]["content"]["application/json"]
    assert usual["schema"]["$ref"].endswith("/ErrorBody")
    ErrorBody.model_validate(usual["example"])
    inference = paths["/v2/{name}"]["get"]["responses"]["404"]["content"]["application/json"]
    assert inference["schema"]["$ref"].endswith("/InferenceErrorBody")
    InferenceErrorBody.model_validate(inference["example"])
