"""JSON bodies as they come: whatever the content type, whatever the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict
from starlette.testclient import TestClient

from shared.serving.http.errors import install_error_handlers
from shared.serving.http.requests import json_body, read_json


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    word: str = ""
    anything: Any = None


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/notes", openapi_extra=json_body(Note))
    async def note(request: Request) -> dict[str, str]:
        read = await read_json(request, Note)
        return {"word": read.word, "anything": ascii(read.anything)}

    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_json_is_read_whatever_it_is_called(client: TestClient, content_type: str):
    response = client.post("/notes", content='\ufeff{"word": "é"}'.encode(), headers={"content-type": content_type})
    assert response.json() == {"word": "é", "anything": "None"}


def test_half_a_surrogate_pair_in_an_array_is_one_items_affair(client: TestClient):
    response = client.post("/notes", content=b'{"word": "a", "anything": ["\\ud83d", "b"]}')
    assert response.json()["anything"] == "['\\ud83d', 'b']"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"word": "\\ud83d"}', "word"),
        (b'{"anything": {"deep": "\\udfff"}}', "anything.deep"),
        (b'{"anything": "\\ud83d\\ud83d"}', "anything"),
        (b'{"\\udc00": 1}', "?"),
        (b'"\\ud83d"', "body"),
    ],
)
def test_elsewhere_it_is_422_with_its_place(client: TestClient, body: bytes, place: str):
    response = client.post("/notes", content=body)
    assert response.status_code == 422, response.text
    message = f"{place}: half a surrogate pair, which stands for nothing"
    assert response.json()["error"]["message"] == message


def test_whole_pairs_are_characters(client: TestClient):
    assert client.post("/notes", content=b'{"word": "\\ud83d\\ude00"}').json()["word"] == "😀"


NO_NOTES = {
    "empty": b"",
    "cut off": b"{",
    "an array": b"[]",
    "a number": b'{"word": 5}',
    "an unknown field": b'{"other": 1}',
    "not UTF-8": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "nested": b'{"anything": ' + b"[" * 300 + b"]" * 300 + b"}",
    "deep behind half a pair": b'{"word": "\\ud83d"' + b"[" * 100_000,
    "deep objects behind half a pair": b'{"word": "\\ud83d", "anything": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
}


@pytest.mark.parametrize("body", NO_NOTES.values(), ids=NO_NOTES)
def test_what_is_no_such_body_is_422_in_one_short_line(client: TestClient, body: bytes):
    response = client.post("/notes", content=body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["type"] == "validation_error"
    assert len(response.text) < 500


def test_a_long_name_of_a_field_is_cut_short(client: TestClient):
    response = client.post("/notes", json={"x" * 10_000: 1})
    assert len(response.json()["error"]["message"]) < 200


def test_a_form_is_415(client: TestClient):
    assert client.post("/notes", files={"word": b"a"}).status_code == 415
