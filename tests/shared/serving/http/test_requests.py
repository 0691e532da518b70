"""JSON bodies as they come: whatever the content type, whatever the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict
from starlette.testclient import TestClient

from shared.errors import InputError
from shared.serving.http.errors import install_error_handlers
from shared.serving.http.requests import json_body, read_form, read_json


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
    "deep": b"[" * 30_000,
    "nested": b'{"anything": ' + b"[" * 300 + b"]" * 300 + b"}",
    "deep behind half a pair": b'{"word": "\\ud83d"' + b"[" * 30_000,
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


START = b'--x\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n'


async def read_slowly(body: bytes, piece: int = 512 << 10) -> tuple[int, int, str]:
    """Return how many bytes were read and how often others had their turn, and the file or the error."""
    places = iter(range(0, len(body), piece))
    taken = turns = 0
    is_over = False

    async def receive() -> dict[str, Any]:
        nonlocal taken
        part = body[(place := next(places)) : place + piece]
        taken += len(part)
        return {"type": "http.request", "body": part, "more_body": place + piece < len(body)}

    async def others() -> None:
        nonlocal turns
        while not is_over:
            await asyncio.sleep(0)
            turns += 1

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)
    task = asyncio.create_task(others())
    try:
        (part,) = await read_form(request, max_files=1, too_many="", how="")
        found = part.content.decode("latin-1")
    except InputError as error:
        found = str(error)
    is_over = True
    await task
    return taken, turns, found


@pytest.mark.parametrize(
    "content",
    [b"\r\n--xy", b"\r\n--x-y", b"\r\n--x\ry", b"\r\n--x" + b" " * (1 << 20), b"\r\n--x" + b"\t" * (1 << 20)],
    ids=["a line", "nearly the end", "nearly the next", "blanks", "tabs"],
)
def test_a_form_that_keeps_its_parser_busy_is_refused_after_its_first_bytes(content: bytes):
    body = START + content * ((8 << 20) // len(content)) + b"\r\n--x--"
    taken, _, found = asyncio.run(read_slowly(body))
    assert "boundary" in found
    assert taken <= 1 << 20


def test_a_few_lines_that_look_like_the_boundary_are_content():
    content = "\r\n--xylophone, \r\n--x-ray" * 400
    assert asyncio.run(read_slowly(START + content.encode() + b"\r\n--x--"))[2] == content


@pytest.mark.parametrize("piece", [1, 5, 6, 7, 1000])
def test_blanks_after_a_boundary_are_found_wherever_the_form_is_cut(piece: int):
    assert "boundary" in asyncio.run(read_slowly(START + b"content\r\n--x  \r\n" + bytes(2000), piece))[2]


def test_while_a_form_is_parsed_others_have_their_turn():
    few, many = (asyncio.run(read_slowly(START + bytes(size << 20) + b"\r\n--x--", 64 << 20))[1] for size in (1, 16))
    assert few >= 8
    assert many >= 15 * 8
