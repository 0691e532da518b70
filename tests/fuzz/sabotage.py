"""Cases that do what none may do, for the test of `run`: they kill their process, never end, or raise."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

_ACTS = ("die", "raise", "hang", "answer", "answer", "answer")


def act_of(rng: random.Random) -> str:
    """Return what the case of this generator does."""
    return rng.choice(_ACTS)


def make(rng: random.Random) -> tuple[bytes, Callable[[], str]]:
    act = act_of(rng)

    def run() -> str:
        if act == "die":
            os.abort()
        if act == "raise":
            raise KeyError("lost")
        if act == "hang":
            time.sleep(3600)
        return act

    return b"case", run


KINDS = {"sabotage": make}
