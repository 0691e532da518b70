"""How much a bento weighs: itself, its models, and what its requirements install."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Installed:
    """What a list of requirements comes to where we run."""

    bytes: int
    distributions: int
    missing: list[str]
    """Requirements that are not installed here, whose size is not known."""


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder and below it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def installed_bytes(requirements: Iterable[str]) -> Installed:
    """Return what requirements, and all that they require, take on the disk of this Python.

    Compiled bytecode is left out: pip writes it, and a wheel does not have it.
    """
    waiting = [Requirement(line) for line in requirements]
    sizes: dict[str, int] = {}
    missing: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            missing[name] = None
            continue
        if name not in sizes:
            sizes[name] = _own_bytes(found)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += _required(found, extra)
    return Installed(sum(sizes.values()), len(sizes), list(missing))


def _required(found: Distribution, extra: str) -> list[Requirement]:
    """Requirements of a distribution under an extra, with their markers judged."""
    every = [Requirement(line) for line in found.requires or ()]
    kept = [each for each in every if each.marker is None or each.marker.evaluate({"extra": extra})]
    for each in kept:
        each.marker = None
    return kept


def _own_bytes(found: Distribution) -> int:
    files = (Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files if file.is_file())
