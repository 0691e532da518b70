"""When to try a call again, and after how long.

A call that was refused (429, 503) or never sent (no connection) may always be tried again; an idempotent one also after
a broken connection. The pause doubles each time, with full jitter.

Source of the jitter: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

AGAIN = frozenset({429, 503})


@dataclass(frozen=True)
class Retry:
    """How often to try again, and for how long.

    Args:
        attempts: the most calls, including the first; 1 never tries again.
        base_s: the pause after the first failure is random, up to this; after the second up to twice this, and so on.
        max_pause_s: the longest pause that the client chooses; a longer `Retry-After` is respected.
        total_s: the longest time from the first call to the last answer; a pause that would exceed it is not started.
    """

    attempts: int = 5
    base_s: float = 0.2
    max_pause_s: float = 10.0
    total_s: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.base_s, self.max_pause_s) < 0 or self.total_s <= 0:
            raise ValueError(f"attempts must be at least 1, pauses at least 0 and total_s more than 0; got {self}.")

    def pause_s(self, failures: int, spent_s: float, retry_after_s: float | None, chance: float) -> float | None:
        """Return how long to wait before the next call, or None to give up.

        >>> Retry(base_s=1).pause_s(failures=3, spent_s=0, retry_after_s=None, chance=0.5)
        2.0
        >>> Retry(total_s=10).pause_s(failures=1, spent_s=4, retry_after_s=7, chance=0.5) is None
        True

        Args:
            failures: calls that failed so far, from 1.
            spent_s: since the first call began.
            retry_after_s: what the service asked for, if anything.
            chance: uniform random number from 0 to 1.
        """
        if failures >= self.attempts:
            return None
        pause = chance * min(self.max_pause_s, self.base_s * 2.0 ** (failures - 1))
        pause += retry_after_s or 0.0  # not sooner than asked, and not all clients at once
        return pause if spent_s + pause < self.total_s else None


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None if it cannot be read.

    >>> retry_after_s("3"), retry_after_s("soon")
    (3.0, None)
    >>> retry_after_s("Wed, 21 Oct 2026 07:28:30 GMT", datetime(2026, 10, 21, 7, 28, tzinfo=UTC))
    30.0

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def draw() -> float:
    """Return a random number, 0 to 1."""
    return random.random()
