"""The steps of `percept package` in their order, each with a line that says what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError, RuntimeUnavailable
from shared.packaging.build import Bento, build
from shared.packaging.dockerfile import DOCKERFILE
from shared.packaging.plan import SERVICES, Plan, make_plan
from shared.packaging.sizes import folder_bytes, installed_bytes
from shared.packaging.smoke import check_bento
from shared.packaging.store import find_bundle, keep
from shared.serving.settings import read_settings
from shared.task import Task


@dataclass(frozen=True)
class Wanted:
    """What the command line asked for."""

    service: str
    named: tuple[str, ...] = ()
    """Folders of bundles, or tags of the model store; none for those that the settings name."""
    version: str | None = None
    aliases: tuple[str, ...] = ()
    gpu: bool = False
    base_image: str | None = None
    output: Path | None = None


def package(wanted: Wanted, tasks: Mapping[str, Task] | None) -> Iterator[str]:
    """Build what is wanted and yield a line a step; with `tasks`, serve it and ask it too.

    Raises:
        PerceptError: a step failed; what was built before stays in the store.
    """
    plan = _plan(wanted)
    if wanted.output and wanted.output.exists():
        raise ConfigError(f"{wanted.output} is there already. Name a folder that is not.")
    for bundle in plan.bundles.values():
        tag = keep(bundle, wanted.aliases)
        also = "".join(f", {alias}" for alias in wanted.aliases)
        yield f"model   {tag}{also}  {_megabytes(sum(file.bytes for file in bundle.config.files.values()))}"
    bento = build(plan, version=wanted.version, base_image=wanted.base_image)
    yield f"bento   {bento.tag}  {_megabytes(folder_bytes(bento.path))}, of which models {_megabytes(_models(bento))}"
    installed = installed_bytes(plan.build_options["python"]["packages"])
    unknown = f"; not here, so not counted: {', '.join(installed.missing)}" if installed.missing else ""
    yield f"install {_megabytes(installed.bytes)} in {installed.distributions} packages{unknown}"
    if tasks is None:
        yield "check   left out"
    else:
        yield from _checked(bento, plan, tasks)
    folder = bento.path
    if wanted.output:
        shutil.copytree(bento.path, wanted.output)
        folder = wanted.output
        yield f"copy    {folder}"
    name, _, version = bento.tag.partition(":")
    yield f"next    docker build -t {name.replace('_', '-')}:{version} -f {folder / DOCKERFILE} {folder}"
    yield f"or      bentoml serve {bento.tag}"


def _plan(wanted: Wanted) -> Plan:
    service = SERVICES[wanted.service]
    settings = read_settings()
    named = wanted.named or tuple(str(path) for name in service.settings if (path := settings.bundle(name)))
    return make_plan(service, [find_bundle(each) for each in named], gpu=wanted.gpu)


def _checked(bento: Bento, plan: Plan, tasks: Mapping[str, Task]) -> Iterator[str]:
    try:
        for asked in check_bento(bento, plan, tasks):
            yield f"check   {asked.route}  {asked.said}"
    except RuntimeUnavailable as error:
        raise RuntimeUnavailable(
            f"{bento.tag} is built, but cannot be asked on this machine (--no-check): {error}"
        ) from error


def _models(bento: Bento) -> int:
    return folder_bytes(bento.path / "src" / "models")


def _megabytes(count: int) -> str:
    """Return a count of bytes as people write it.

    >>> _megabytes(14_200), _megabytes(187_000_000)
    ('0.01 MB', '187 MB')
    """
    return f"{count / 1e6:.2f} MB" if count < 1_000_000 else f"{count / 1e6:.0f} MB"
