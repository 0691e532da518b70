"""Calls of Gradio's clients: any worker answers, any worker hands out the result, once, and little is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.testclient import TestClient

from shared.errors import InputError, Overloaded
from shared.serving.http.errors import install_error_handlers
from shared.serving.page.calls import MAX_WAITING, Calls


async def double(number: int) -> dict[str, Any]:
    """Double a number."""
    if not isinstance(number, int):
        raise InputError("it is no number.")
    return {"twice": 2 * number}


def client_of(folder: Path) -> TestClient:
    """Return a client of one worker."""
    calls = Calls(folder, {3: (double, 1)})
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/join")
    async def join(request: Request) -> dict[str, str]:
        return await calls.join(request)

    @app.get("/data")
    async def stream(session_hash: str) -> Any:
        return await calls.stream(session_hash)

    return TestClient(app)


def events(client: TestClient, session: str = "s") -> list[dict[str, Any]]:
    text = client.get("/data", params={"session_hash": session}).text
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


def join(client: TestClient, data: list[Any], number: int = 3, session: str = "s") -> Any:
    return client.post("/join", json={"fn_index": number, "data": data, "session_hash": session, "trigger_id": None})


def test_another_worker_hands_out_the_result_once(tmp_path: Path):
    one, other = client_of(tmp_path), client_of(tmp_path)
    number = join(one, [4]).json()["event_id"]
    done, closed = events(other)
    assert (done["msg"], done["event_id"], done["success"]) == ("process_completed", number, True)
    assert done["output"] == {"data": [{"twice": 8}]}
    assert closed["msg"] == "close_stream"
    assert [event["msg"] for event in events(one)] == ["close_stream"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_wrong_with_the_input_is_a_result(tmp_path: Path):
    client = client_of(tmp_path)
    assert join(client, ["four"]).status_code == 200
    done, _ = events(client)
    assert (done["success"], done["output"]) == (False, {"error": "it is no number."})


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"fn_index": 4, "data": [1]}, 404),
        ({"fn_index": 3, "data": []}, 400),
        ({"fn_index": 3, "data": [1, 2]}, 400),
        ({"fn_index": 3, "data": [[1]]}, 422),
        ({"fn_index": 3, "data": [{"path": 1}]}, 422),
        ({"fn_index": "3", "data": [1]}, 422),
        ({"fn_index": 3, "data": [1] * 100}, 422),
        ({"fn_index": 3, "data": [1], "session_hash": "../up"}, 400),
        ({"fn_index": 3, "data": [1], "session_hash": ""}, 400),
        ({"fn_index": 3, "data": [1], "session_hash": "a" * 65}, 400),
    ],
)
def test_what_is_no_call_is_refused_and_keeps_nothing(tmp_path: Path, sent: dict[str, Any], status: int):
    answer = client_of(tmp_path).post("/join", json={"session_hash": "s", **sent})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_a_session_that_fetches_nothing_is_refused_in_the_end(tmp_path: Path):
    client = client_of(tmp_path)
    statuses = [join(client, [1]).status_code for _ in range(MAX_WAITING + 1)]
    assert statuses == [200] * MAX_WAITING + [429]
    assert join(client, [1], session="other").status_code == 200
    assert len(events(client)) == MAX_WAITING + 1
    assert join(client, [1]).status_code == 200


async def _asked(folder: Path, is_answered: asyncio.Event) -> list[str]:
    async def slow(number: int) -> dict[str, Any]:
        await is_answered.wait()
        return {"number": number}

    body = json.dumps({"fn_index": 1, "data": [7], "session_hash": "s"}).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    calls = Calls(folder, {1: (slow, 1)})
    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    asking = asyncio.ensure_future(calls.join(request))
    await asyncio.sleep(0.1)
    stream = await Calls(folder, {}).stream("s")
    asyncio.get_running_loop().call_later(1.0, is_answered.set)
    found = [json.loads(bytes(chunk).removeprefix(b"data: "))["msg"] async for chunk in stream.body_iterator]
    await asking
    return found


def test_a_stream_waits_for_a_call_in_another_worker(tmp_path: Path):
    async def run() -> list[str]:
        return await _asked(tmp_path, asyncio.Event())

    assert asyncio.run(run()) == ["process_completed", "close_stream"]


def test_a_call_that_ends_otherwise_is_not_waited_for(tmp_path: Path):
    async def busy(number: int) -> dict[str, Any]:
        raise Overloaded("too much to do.")

    app = FastAPI()
    install_error_handlers(app)
    calls = Calls(tmp_path, {3: (busy, 1)})

    @app.post("/join")
    async def join_(request: Request) -> dict[str, str]:
        return await calls.join(request)

    with TestClient(app) as client:
        assert join(client, [1]).status_code == 429
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
