"""What is to be collected: the YAML that a person writes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigError, shown
from shared.sources.hub import HubReader, HubSpec
from shared.sources.places import FilesReader, FilesSpec, PhotoFolder
from shared.sources.rest import RestReader, RestSpec
from shared.sources.sql import SqlReader, SqlSpec
from shared.sources.steps import Reader, Secrets, SourceSpec
from shared.sources.web import WebReader, WebSpec

AnySource = Annotated[FilesSpec | SqlSpec | RestSpec | WebSpec | HubSpec, Field(discriminator="kind")]


class CollectSpec(BaseModel):
    """A collection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Of the dataset."""
    licence: str | None = None
    """Of all sources that do not say their own; `unknown` must be written if it is."""
    max_left_out: float = Field(default=0.01, ge=0, le=1)
    """Share of a source's rows that may be set aside because they are malformed; a few always may."""
    sources: list[AnySource] = Field(min_length=1)

    def licence_of(self, source: SourceSpec) -> str:
        return source.licence or self.licence or ""

    def names(self) -> list[str]:
        """Return a name for each source, no two the same."""
        found: list[str] = []
        for source in self.sources:
            name = source.name or f"{source.kind} {source.place}"
            count = sum(each == name or each.startswith(f"{name} (") for each in found)
            found.append(f"{name} ({count + 1})" if count else name)
        return found


def read_spec(file: Path) -> CollectSpec:
    """Return what a YAML file asks for.

    Raises:
        ConfigError: it cannot be read, says something unknown or wrong, or a source has no licence.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the spec {file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file} holds no spec: expected `name:` and a list of `sources:`. docs/data.md has examples."
        )
    try:
        spec = CollectSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{file}: {place or 'the spec'}: {first['msg']}; came {shown(first.get('input'))}."
        ) from error
    for name, source in zip(spec.names(), spec.sources, strict=True):
        if not spec.licence_of(source):
            raise ConfigError(f"{file}: nobody says under which licence {name} may be used. Write `licence: …`, and "
                              "`licence: unknown` if you do not know it.")  # fmt: skip
    return spec


def spec_digest(spec: CollectSpec) -> str:
    """Return what changes with anything that what is read depends on: all but `max_left_out` and licences."""
    written = spec.model_dump_json(exclude={"max_left_out": True, "licence": True, "sources": {"__all__": {"licence"}}})
    return hashlib.sha256(written.encode()).hexdigest()


def reader_of(source: Any, base: Path, secrets: Secrets, photos: PhotoFolder, photo_suffixes: frozenset[str]) -> Reader:
    """Return what reads a source; raises ConfigError where its spec cannot be met."""
    made: dict[type, Callable[[], Reader]] = {
        FilesSpec: lambda: FilesReader(source, base, photos, sorted(photo_suffixes)),
        SqlSpec: lambda: SqlReader(source, secrets, base),
        RestSpec: lambda: RestReader(source, secrets),
        WebSpec: lambda: WebReader(source),
        HubSpec: lambda: HubReader(source),
    }
    return made[type(source)]()
