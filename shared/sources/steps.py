"""What every kind of source gives: rows with their places, in steps that are each kept or lost as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import ConfigError
from shared.sources.tables import Row

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:authorization|auth|token|secret|pass(?:word|wd|phrase)?|pwd|cookie|credentials?|sig(?:nature)?|key"
    r"|(?:api|access|auth|private|client|x)[^a-z]?(?:key|token|secret))(?:$|[^a-z])",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
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
    is_of_dataset: bool = False
    """Whether the row knows where it is from: those of another dataset do."""


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
    notes: list[str] = field(default_factory=list)
    """What was recognised and could be wrong."""
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
        self._forms: list[str] = []
        """How the values that were filled in may be written, the longest first."""

    def fill(self, text: str) -> str:
        """Return a text with the values of its variables.

        Raises:
            ConfigError: a variable is not set.
        """
        return _VARIABLE.sub(self._value, text)

    def mask(self, text: str) -> str:
        """Return a text in which *** stands for every value that was filled in anywhere, as it is or as in a URL."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text

    def masked(self, value: Any) -> Any:
        """Return a cell without the values that were filled in, in the texts within it too."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {self.masked(name): self.masked(each) for name, each in value.items()}
        return [self.masked(each) for each in value] if isinstance(value, list | tuple) else value

    def are_in(self, content: bytes) -> bool:
        """Whether one of the values is somewhere in it."""
        return any(form.encode() in content for form in self._forms)

    def _value(self, found: re.Match[str]) -> str:
        value = self._environment.get(found[1])
        if value is None:
            raise ConfigError(f"the environment has no {found[1]}, which the spec asks for. Set it: "
                              f"{found[1]}=… percept collect …")  # fmt: skip
        if len(value) >= _LEAST_SECRET:
            forms = {*self._forms, value, quote(value, safe=""), quote_plus(value)}
            self._forms = sorted(forms, key=len, reverse=True)
        return value


def check_no_secrets(url: str, named: Mapping[str, Any]) -> None:
    """Refuse a password, a token or a key that stands in a spec: the spec becomes part of the dataset.

    Args:
        url: of the source, as the spec has it.
        named: name -> value of its headers and parameters.

    Raises:
        ConfigError: names where it is, not what it is.
    """
    try:
        parts = urlsplit(url)
        userinfo = parts.netloc.rpartition("@")[0]
        in_url = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError as error:
        raise ConfigError(f"`url` is no address: {error}.") from error
    found = next((name for name, value in {**in_url, **named}.items() if _is_secret(name, value)), None)
    if found is None and ":" in userinfo and "${" not in userinfo.partition(":")[2]:
        found = "url"
    if found is not None:
        raise ConfigError(f"the spec has a secret in {found!r}. Put it into the environment and write "
                          "${NAME} in its place: a spec becomes part of the dataset.")  # fmt: skip


def _is_secret(name: str, value: Any) -> bool:
    written = isinstance(value, str) and "${" not in value and value.strip() != ""
    return written and _SECRET_NAME.search(_CAMEL.sub("-", name)) is not None


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
