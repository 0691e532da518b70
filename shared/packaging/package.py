"""The steps of `percept package` in order, each with a line that reports on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shared.errors import ConfigError, RuntimeUnavailable
from shared.packaging.bento import SERVICES, Bento, Plan, Service, build, make_plan
from shared.packaging.dockerfile import DOCKERFILE
from shared.packaging.store import find_bundle, keep
from shared.packaging.trial import try_bento
from shared.serving.settings import read_settings
from shared.task import Task


@dataclass(frozen=True)
class Installed:
    """What a list of requirements amounts to on this machine."""

    bytes: int
    distributions: int
    missing: list[str]
    """Requirements that are not installed here, so that their size is unknown."""


def package(
    service: str,
    named: Sequence[str],
    tasks: Mapping[str, Task] | None,
    *,
    version: str | None = None,
    aliases: tuple[str, ...] = (),
    gpu: bool = False,
    base_image: str | None = None,
    output: Path | None = None,
) -> Iterator[str]:
    """Build a bento and yield one line per step.

    Args:
        service: a key of `SERVICES`.
        named: folders of bundles, or tags of the model store; none for those in the settings.
        tasks: to try the bento with; None to leave that out.
        version: of the bento; None to have BentoML make one.
        aliases: further tags for the models in the store.
        gpu: whether it is for a GPU.
        base_image: of the image, as for `render_dockerfile`.
        output: a new folder that gets a copy.

    Raises:
        PerceptError: a step failed; what was built before stays in the store.
    """
    plan = _plan(SERVICES[service], named, gpu=gpu)
    if output and output.exists():
        raise ConfigError(f"{output} exists already. Name a new folder.")
    for bundle in plan.bundles.values():
        tag = keep(bundle, aliases)
        also = "".join(f", {alias}" for alias in aliases)
        yield f"model   {tag}{also}  {_megabytes(sum(file.bytes for file in bundle.config.files.values()))}"
    bento = build(plan, version=version, base_image=base_image)
    models = folder_bytes(bento.path / "src" / "models")
    yield f"bento   {bento.tag}  {_megabytes(folder_bytes(bento.path))}, of which models {_megabytes(models)}"
    installed = installed_bytes(plan.build_options["python"]["packages"])
    unknown = f"; not installed here, so not counted: {', '.join(installed.missing)}" if installed.missing else ""
    yield f"install {_megabytes(installed.bytes)} in {installed.distributions} packages{unknown}"
    if tasks is None:
        yield "check   left out"
    else:
        yield from _tried(bento, plan, tasks)
    folder = bento.path
    if output:
        shutil.copytree(bento.path, output)
        folder = output
        yield f"copy    {folder}"
    name, _, number = bento.tag.partition(":")
    yield f"next    docker build -t {name.replace('_', '-')}:{number} -f {folder / DOCKERFILE} {folder}"
    yield f"or      bentoml serve {bento.tag}"


def _plan(service: Service, named: Sequence[str], *, gpu: bool) -> Plan:
    settings = read_settings()
    named = named or [str(path) for name in service.settings if (path := settings.bundle(name))]
    return make_plan(service, [find_bundle(each) for each in named], gpu=gpu)


def _tried(bento: Bento, plan: Plan, tasks: Mapping[str, Task]) -> Iterator[str]:
    try:
        for passed in try_bento(bento, plan, tasks):
            yield f"check   {passed.route}  {passed.found}"
    except RuntimeUnavailable as error:
        raise RuntimeUnavailable(
            f"{bento.tag} is built, but cannot be tested on this machine (--no-check): {error}"
        ) from error


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder and below it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def installed_bytes(requirements: Iterable[str]) -> Installed:
    """Return the disk space that requirements, and all that they require, take in this Python.

    Compiled bytecode is left out: pip writes it, and wheels do not have it.
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
    """Return what a distribution requires under an extra, with all markers evaluated."""
    every = [Requirement(line) for line in found.requires or ()]
    kept = [each for each in every if each.marker is None or each.marker.evaluate({"extra": extra})]
    for each in kept:
        each.marker = None
    return kept


def _own_bytes(found: Distribution) -> int:
    files = (Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files if file.is_file())


def _megabytes(count: int) -> str:
    """Return a number of bytes as people write it.

    >>> _megabytes(14_200), _megabytes(187_000_000)
    ('0.01 MB', '187 MB')
    """
    return f"{count / 1e6:.2f} MB" if count < 1_000_000 else f"{count / 1e6:.0f} MB"
