"""What the pages can do, for programs that know Gradio: `gradio_client.Client(…).predict(…, api_name="/tag")`.

Gradio's clients send a call, get its number, and read the result from a stream of events. Gradio keeps both in a queue
of one process, and a service has several. Here a call is answered before its number is given, and the result waits in
a folder that all workers share. No file and no name of a session reaches Gradio.

Source: gradio_client 2.7, `Client.send_data` and `Client.stream_messages`, protocol sse_v3.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import StreamingResponse

from shared.errors import InputError, NotFound, Overloaded
from shared.serving.http.requests import read_json
from shared.serving.page.kept_files import KeptFolder, private_folder

Call = Callable[..., Awaitable[Mapping[str, Any]]]
"""Takes texts, numbers and addresses of uploads; its name is the endpoint's, its docstring the description."""
RESULT_KEEP_S = 120
"""A result that nobody fetched for so long is deleted."""
RESULT_KEEP_BYTES = 64 << 20
MAX_WAITING = 64
"""Calls of one session that are being answered or wait to be fetched."""
_STREAM_S = 60.0
"""How long a stream waits for calls in hand; their deadline is shorter."""
_LINGER_S = 0.3
"""How long it stays open after the last result: the next call needs no new one."""
_POLL_S = 0.02
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
_READY, _PENDING = ".json", ".pending"
Value = str | int | float | bool | None


class _File(BaseModel):
    """How Gradio's clients name a file that they uploaded; what else they say of it has no effect."""

    model_config = ConfigDict(strict=True)
    path: str


class _Join(BaseModel):
    """What they send as a call; fields that only a page of Gradio's own would use are ignored."""

    model_config = ConfigDict(strict=True)
    fn_index: int
    session_hash: str
    data: list[Value | _File] = Field(max_length=16)


def result_folder() -> KeptFolder:
    """Return this user's folder of results: a folder for each session."""
    return KeptFolder(private_folder("calls"), RESULT_KEEP_S, RESULT_KEEP_BYTES)


class Calls:
    """Answers the calls of Gradio's clients.

    Args:
        folder: where results wait; somebody else sweeps it.
        functions: number of an endpoint in the page's configuration -> function, with how many values it takes.
    """

    def __init__(self, folder: Path, functions: Mapping[int, tuple[Call, int]]) -> None:
        self._folder = folder
        self._functions = functions

    async def join(self, request: Request) -> dict[str, str]:
        """Answer a call and return the number under which its result waits.

        What the function says is wrong with its input is a result too, so that the client can show it.

        Raises:
            InputError: it is no call of an endpoint.
            NotFound: there is no such endpoint.
            Overloaded: the session leaves too many results unfetched.
        """
        call = await read_json(request, _Join)
        function, count = self._functions.get(call.fn_index, (None, 0))
        if function is None:
            raise NotFound("there is no endpoint of that number; GET gradio_api/info lists them.")
        if len(call.data) != count:
            raise InputError(f"/{function.__name__} takes {count} values; {len(call.data)} came.")
        session = self._session(call.session_hash)
        number = secrets.token_hex(16)
        pending = session / (number + _PENDING)
        await asyncio.to_thread(_begin, pending)
        try:
            values = [value.path if isinstance(value, _File) else value for value in call.data]
            output: dict[str, Any]
            try:
                output, is_done = {"data": [await function(*values)]}, True
            except InputError as error:
                output, is_done = {"error": str(error)}, False
            message = {"msg": "process_completed", "event_id": number, "output": output, "success": is_done}
            await asyncio.to_thread(_finish, session / (number + _READY), json.dumps(message))
        finally:
            pending.unlink(missing_ok=True)
        return {"event_id": number}

    async def stream(self, session_hash: str) -> StreamingResponse:
        """Return a stream of the session's results as they come; it ends when no call of it is in hand.

        Raises:
            InputError: this is no name of a session.
        """
        return StreamingResponse(self._events(self._session(session_hash)), media_type="text/event-stream")

    def _session(self, name: str) -> Path:
        if not _SESSION.fullmatch(name):
            raise InputError("session_hash must be up to 64 letters, digits, - and _, such as a UUID.")
        return self._folder / name

    async def _events(self, session: Path) -> AsyncIterator[bytes]:
        until = time.monotonic() + _STREAM_S
        closes = time.monotonic() + _LINGER_S
        while True:
            messages, is_waiting = await asyncio.to_thread(_taken, session)
            now = time.monotonic()
            for message in messages:
                yield b"data: " + message + b"\n\n"
            if messages or is_waiting:
                closes = now + _LINGER_S
            if now >= min(closes, until):
                break
            await asyncio.sleep(_POLL_S)
        yield b'data: {"msg": "close_stream", "event_id": null}\n\n'


def _begin(pending: Path) -> None:
    pending.parent.mkdir(mode=0o700, exist_ok=True)
    if sum(1 for _ in pending.parent.iterdir()) >= MAX_WAITING:
        raise Overloaded(f"{MAX_WAITING} calls of this session are waiting to be fetched. Fetch them first.")
    pending.touch(mode=0o600)


def _finish(ready: Path, message: str) -> None:
    """Write a result so that nobody reads half of it."""
    ready.parent.mkdir(mode=0o700, exist_ok=True)  # a call that took long may have lost its folder
    written = ready.with_suffix(".part")
    written.write_text(message, encoding="utf-8")
    written.replace(ready)


def _taken(session: Path) -> tuple[list[bytes], bool]:
    """Return the results that wait, taken out of the folder, and whether calls are in hand."""
    try:
        files = sorted(session.iterdir())
    except FileNotFoundError:
        return [], False
    messages = []
    for file in files:
        if file.suffix == _READY:
            with contextlib.suppress(FileNotFoundError):  # another stream of this session was faster
                messages.append(file.read_bytes())
                file.unlink()
    return messages, any(file.suffix == _PENDING for file in files)
