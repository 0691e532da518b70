"""What a bento is made of: which service, which bundles, on which device, and the folder that BentoML builds from.

Neighbours: `store` finds bundles, `build` hands the folder to BentoML.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.bundle.cpu_copy import copy_without_weights
from shared.bundle.layout import CARD, CONFIG, ONNX, WEIGHTS
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.project import PROJECT_ROOT
from shared.serving.settings import SETTING_OF, BundleSetting

BUILD_FILE = "bentofile.yaml"


@dataclass(frozen=True)
class Service:
    """One of the services that can be packaged."""

    name: str
    build_file: str
    settings: tuple[BundleSetting, ...]
    """Of the bundles that it answers with."""


SERVICES = {
    service.name: service
    for service in (
        Service("vision", f"vision/{BUILD_FILE}", ("tagger",)),
        Service("nlp", f"nlp/{BUILD_FILE}", ("intent", "qa")),
        Service("all", BUILD_FILE, ("tagger", "intent", "qa")),
    )
}


@dataclass(frozen=True)
class Plan:
    """A service with the bundles that its bento holds."""

    service: Service
    bundles: Mapping[BundleSetting, Bundle]
    gpu: bool

    @property
    def build_options(self) -> dict[str, Any]:
        """What BentoML reads as the build file: that of the service, with labels, and for a GPU with torch."""
        options = build_file(self.service)
        if self.gpu:
            options["name"] += "_gpu"
            options["python"]["packages"] += gpu_requirements()
        options["labels"] = {"device": "gpu" if self.gpu else "cpu"} | {
            name: f"{bundle.name}:{bundle.version}" for name, bundle in self.bundles.items()
        }
        return options


def make_plan(service: Service, bundles: Sequence[Bundle], *, gpu: bool) -> Plan:
    """Return the plan for a service with these bundles, each of which must be one that it answers with.

    Raises:
        ConfigError: there is none, one is of another service's task, or two are of one task.
        BundleError: one lacks the file that its device needs.
    """
    chosen: dict[BundleSetting, Bundle] = {}
    answered = [task for task, setting in SETTING_OF.items() if setting in service.settings]
    for bundle in bundles:
        task = bundle.config.task
        if task not in answered:
            raise ConfigError(
                f"{bundle.path} is a bundle of the task {task!r}; the service {service.name} answers for "
                f"{', '.join(answered)}."
            )
        if SETTING_OF[task] in chosen:
            raise ConfigError(f"two bundles of the task {task!r} came; a bento holds one of each. Build two.")
        needed = WEIGHTS if gpu else ONNX
        if needed not in bundle.config.files:
            raise BundleError(
                f"{bundle.path} has no {needed}, which a {'GPU' if gpu else 'CPU'} computes from (it has "
                f"{', '.join(sorted(bundle.config.files))}). "
                + ("Take the folder that training wrote." if gpu else f"Run: percept export {bundle.path}")
            )
        chosen[SETTING_OF[task]] = bundle
    if not chosen:
        raise ConfigError(f"there is no bundle for the service {service.name}. Name one: --bundle FOLDER.")
    return Plan(service, chosen, gpu)


def lay_out(plan: Plan, folder: Path) -> Path:
    """Fill an empty folder with what the bento is built from: the code, the bundles under models/, the build file.

    A service looks for bundles in models/ beside its code, so the bento finds them wherever it is unpacked. For a CPU
    they go without their weights.
    """
    options = plan.build_options
    tops = dict.fromkeys(pattern.strip("/").partition("/")[0] for pattern in options["include"])
    for top in tops:
        source = PROJECT_ROOT / top
        if source.is_dir() and top != "models":
            shutil.copytree(source, folder / top, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, folder / top)
    for name, bundle in plan.bundles.items():
        target = folder / "models" / name
        target.parent.mkdir(exist_ok=True)
        if plan.gpu or WEIGHTS not in bundle.config.files:
            copy_files(bundle, target)
        else:
            copy_without_weights(bundle, target)
    (folder / BUILD_FILE).write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    return folder


def copy_files(bundle: Bundle, target: Path) -> None:
    """Copy what belongs to a bundle, and nothing else that lies in its folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name in {*bundle.config.files, CONFIG, CARD}:
        if (bundle.path / name).is_file():
            shutil.copy(bundle.path / name, target / name)


def build_file(service: Service) -> dict[str, Any]:
    """Return the content of a service's build file.

    Raises:
        ConfigError: this is no checkout; an installed package has no build files.
    """
    path = PROJECT_ROOT / service.build_file
    if not path.is_file():
        raise ConfigError(f"there is no {path}: bentos are built in a checkout of Percept, not from an installed one.")
    options: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return options


def gpu_requirements() -> list[str]:
    """Return the extra `gpu` of pyproject.toml, its one home."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra: list[str] = project["optional-dependencies"]["gpu"]
    return extra
