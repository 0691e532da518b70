"""What JSON may cost: nobody else is answered while a worker parses it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import tracemalloc
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.types import Message

from shared.errors import TooLarge
from shared.serving.http.requests import MAX_JSON_BYTES, MAX_JSON_MARKS, check_json, read_json


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    words: list[str] | None = None
    anything: Any = None


def request_of(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def read(body: bytes) -> Note:
    return asyncio.run(read_json(request_of(body), Note))


def filled(inside: bytes, count: int) -> bytes:
    return b'{"anything":[' + inside * count + b"0]}"


MANY = {
    "values": b"0,",
    "arrays": b"[],",
    "nested arrays": b"[" * 30 + b"]" * 30 + b",",
    "objects": b"{},",
    "names": b'{"a":0},',
    "escapes": rb'"\n\n\n\n\n\n\n\n",',
}
HOSTILE = MANY | {
    "escaped quotes and brackets": rb'"\"[\"[\"[\"[",',
    "escaped quotes that begin no text": rb"\"[\"[",
    "brackets that never end": b"[[[[",
    "long numbers": b"123456789012345678901234567890,",
}


def cpu_s(body: bytes) -> float:
    """Return the CPU seconds that reading takes, the least of three."""
    taken = []
    for _ in range(3):
        gc.collect()
        began = time.process_time()
        with contextlib.suppress(RequestValidationError, TooLarge):
            read(body)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("inside", HOSTILE.values(), ids=HOSTILE)
def test_reading_json_takes_time_in_proportion_to_its_length(inside: bytes):
    count = 1_000_000 // len(inside)
    half, whole = cpu_s(filled(inside, count // 4)), cpu_s(filled(inside, count))
    assert whole < 12 * half + 0.01, f"{half:.4f} s for a quarter, {whole:.4f} s for the whole"


@pytest.mark.parametrize("inside", MANY.values(), ids=MANY)
def test_json_with_more_marks_than_the_limits_is_413(inside: bytes):
    count = 1 + max(MAX_JSON_MARKS.values())
    with pytest.raises(TooLarge, match=r"the JSON has \d+"):
        read(filled(inside, count))


def test_json_over_16_mebibytes_is_413():
    check_json(b" " * MAX_JSON_BYTES)
    with pytest.raises(TooLarge, match=f"the limit is {MAX_JSON_BYTES}"):
        check_json(b" " * (MAX_JSON_BYTES + 1))


@pytest.mark.parametrize("many", [b"[" * 39_000 + b"]" * 39_000, b'{"a":' * 39_000 + b"1" + b"}" * 39_000])
def test_nesting_without_end_is_refused(many: bytes):
    with pytest.raises(RequestValidationError, match="recursion limit exceeded"):
        read(b'{"anything":' + many + b"}")


@pytest.mark.parametrize(
    "body",
    [
        b'{"words":[' + b"0," * 600_000 + b"0]}",
        b"{" + b",".join(b'"%d":0' % place for place in range(39_000)) + b"}",
    ],
    ids=["items", "names"],
)
def test_a_million_wrong_items_cost_no_more_than_right_ones(body: bytes):
    right = b'{"words":[' + b'"0",' * 600_000 + b'"0"]}'
    allowed = max(cpu_s(right), 0.05)
    assert cpu_s(body) < 10 * allowed
    tracemalloc.start()
    with pytest.raises(RequestValidationError) as caught:
        read(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    (problem,) = caught.value.errors()
    assert problem["msg"].endswith("fields or items are wrong or unknown")
