"""What a request holds while it is answered: the engine that it began with, though another may have come meanwhile.

`RequestEdge` opens a lease around each request, `Lifecycle` puts the engine into it at the first use. So the answer,
the model that its headers name and every step in between are of one engine, which is freed after the last of them.
Costs one context variable a request.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any


class Generation:
    """An engine with the number of requests that hold it. Used on the event loop alone."""

    __slots__ = ("engine", "in_hand", "model", "unused")

    def __init__(self, engine: Any, model: tuple[str, str]) -> None:
        self.engine = engine
        self.model = model
        self.in_hand = 0
        self.unused = asyncio.Event()
        self.unused.set()


class Lease:
    """One request's hold on a generation, or on none yet."""

    __slots__ = ("held", "is_over")

    def __init__(self) -> None:
        self.held: Generation | None = None
        self.is_over = False

    def hold(self, generation: Generation) -> None:
        """Hold it until the end of the request."""
        if self.is_over:  # a task that outlives its request holds nothing
            return
        self.held = generation
        generation.in_hand += 1
        if generation.in_hand == 1:
            generation.unused.clear()

    def end(self) -> None:
        """Hold nothing any more."""
        self.is_over = True
        generation = self.held
        if generation is not None:
            self.held = None
            generation.in_hand -= 1
            if not generation.in_hand:
                generation.unused.set()


_CURRENT: ContextVar[Lease | None] = ContextVar("lease", default=None)


def open_lease() -> Lease:
    """Return the lease of a request that begins now, in this task."""
    lease = Lease()
    _CURRENT.set(lease)  # not reset: a request has a task of its own, or is followed by one that sets it anew
    return lease


def current_lease() -> Lease | None:
    """Return that of the request which this task answers, or None outside of requests."""
    return _CURRENT.get()
