"""What every kind of source gives: rows with their places, in steps that are each kept or lost as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import ConfigError
from shared.sources.tables import Row

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_LEAST_SECRET = 4
"""Characters of a secret that is masked: a shorter one would mask half of every text."""


class SourceSpec(BaseModel):
    """What all kinds of sources may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    """In the data and in messages; made of the kind and the place if not given."""
    licence: str | None = None
    """Of all its rows; `unknown` must be written if it is."""
    origin: str | None = None
    """Where the data comes from, for the dataset card."""
    split: Literal["train", "val", "test"] | None = None
    """Of all its rows; as the source says, or train, if not given."""
    columns: dict[str, str] | None = None
    """Column -> where it is in what the source has, with dots into objects: {text: fields.title}. All if not given."""
    add: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Column -> value that is the same in all rows."""


@dataclass(frozen=True)
class Found:
    """A row as the source has it."""

    row: Row
    place: str
    """Where in the source, for people: a file and line, a page's address, a key."""
    split: str | None = None
    licence: str | None = None
    """Where the source states one for the row alone."""


@dataclass(frozen=True)
class SetAside:
    """What is no row, and why."""

    place: str
    reason: str
    row: Any = None
    is_malformed: bool = True
    """Whether it was meant as a row; a README beside photos was not."""


@dataclass
class Step:
    """What one request, or some hundred rows, brought."""

    key: str
    """Names the step within its source, whenever it is made."""
    found: list[Found] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    failed: str | None = None
    """Why it brought nothing, if it may bring something another time."""
    cursor: Any = None
    """What the source needs to go on behind this step; JSON."""
    group: str | None = None
    """Steps that are forgotten together if one of them failed, such as those of a file that is then corrected."""


@dataclass(frozen=True)
class Done:
    """A step that was kept."""

    key: str
    cursor: Any


class Reader(Protocol):
    """Reads one source."""

    resumes: bool
    """Whether it can go on behind the last step; if not, it starts again and its steps are forgotten."""

    def steps(self, done: Sequence[Done]) -> Iterator[Step]:
        """Yield the steps behind those that are done; raises DataError where the source cannot be read on."""
        ...


class Secrets:
    """Values of the environment that a spec asks for as `${NAME}`; they are never written anywhere."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._environment = dict(os.environ) if environment is None else environment
        self._used: set[str] = set()

    def fill(self, text: str) -> str:
        """Return a text with the values of its variables.

        Raises:
            ConfigError: a variable is not set.
        """
        return _VARIABLE.sub(self._value, text)

    def mask(self, text: str) -> str:
        """Return a text in which *** stands for every value that was filled in anywhere."""
        for secret in sorted(self._used, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _value(self, found: re.Match[str]) -> str:
        value = self._environment.get(found[1])
        if value is None:
            raise ConfigError(f"the environment has no {found[1]}, which the spec asks for. Set it: "
                              f"{found[1]}=… percept collect …")  # fmt: skip
        if len(value) >= _LEAST_SECRET:
            self._used.add(value)
        return value


def picked(row: Any, path: str) -> Any:
    """Return what is at a dotted path in nested objects and lists.

    >>> picked({"a": {"b": [{"c": 7}]}}, "a.b.0.c"), picked({"a.b": 1}, "a.b")
    (7, 1)

    Raises:
        KeyError: there is nothing.
    """
    if isinstance(row, dict) and path in row:
        return row[path]
    found = row
    for part in path.split("."):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise KeyError(path)
    return found
