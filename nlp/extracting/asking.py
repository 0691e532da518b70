"""What a caller wants extracted with rules, and what is found; without what the rules themselves need."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

BUILT_IN = "built-in"
"""The extractor of what rules found."""


@dataclass(frozen=True)
class Extracted:
    """What rules found in a text; `text[start:end]`, in code points."""

    start: int
    end: int
    entity: str
    value: Any
    """ISO 8601 for what is of time, an amount with its ISO 4217 currency, a number, E.164 for a telephone number."""
    text: str
    score: None = None
    """Rules know no probability."""
    role: None = None
    group: None = None
    extractor: str = BUILT_IN


@dataclass(frozen=True)
class Asking:
    """What a caller wants extracted."""

    entities: Collection[str] | None = None
    """None for all that the service has switched on."""
    language: str | None = None
    """None for the one whose words the text has, or else the one in which more is found."""
    now: datetime | None = None
    """None for this moment."""
    time_zone: str | None = None
    """None for that of `now`, or of the service."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked for."""
        return self == Asking()
