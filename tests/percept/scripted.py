"""A network that answers as the test says, and a clock that moves only when somebody sleeps."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

Step = httpx.Response | type[httpx.TransportError]


class Script(httpx.MockTransport):
    """Gives one step a request, and keeps what was asked; asked for more it fails the test."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.asked: list[httpx.Request] = []
        self._steps = iter(steps)
        super().__init__(self._next)

    def _next(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        step = next(self._steps, None)
        assert step is not None, f"one request more than was told of: {request.method} {request.url}"
        if isinstance(step, httpx.Response):
            return step
        raise step("scripted", request=request)


class Clock:
    """Stands still, but for those who sleep."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


def no(status: int, kind: str = "overloaded", **headers: str) -> httpx.Response:
    """A refusal as services send it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"type": kind, "message": "not now", "request_id": "r-1"}}
    return httpx.Response(status, json=body, headers=named)


def intent(name: str = "play_music") -> httpx.Response:
    """An answer of POST /v1/intent for one utterance."""
    result = {"intent": name, "confidence": 1, "out_of_scope": False, "out_of_scope_score": 0.1, "ranking": []}
    return httpx.Response(200, json={"model": {"name": "tiny", "version": "1"}, "results": [result]})
