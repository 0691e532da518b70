"""A bento: which service, which bundles, for which device; laid out in a folder, and built by BentoML.

With it goes an SBOM in CycloneDX: what its image installs, with the SHA-256 of each file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shared.bundle.layout import CARD, CONFIG, ONNX, WEIGHTS
from shared.bundle.read import Bundle
from shared.bundle.write import copy_without_weights
from shared.errors import BundleError, ConfigError, PerceptError
from shared.packaging.dockerfile import DOCKERFILE, render_dockerfile
from shared.project import PROJECT_ROOT
from shared.serving.settings import HELPER_OF, PREFIX, SETTING_OF, BundleSetting

BUILD_FILE = "bentofile.yaml"
SBOM = "sbom.cdx.json"
"""Path in a bento."""
LOCK, CONSTRAINTS = "requirements.lock", "constraints.txt"
_PROGRAMS = ("cyclonedx_py", "uv")  # BentoML 1.4 would install uv by itself, though it has nothing to lock
_SHOWN_CHARS = 1500


@dataclass(frozen=True)
class Service:
    """A service that can be packaged."""

    name: str
    build_file: str
    settings: tuple[BundleSetting, ...]
    """Of its bundles."""


SERVICES = {
    service.name: service
    for service in (
        Service("vision", f"vision/{BUILD_FILE}", ("tagger",)),
        Service("nlp", f"nlp/{BUILD_FILE}", ("intent", "qa", "encoder", "writer")),
        Service("all", BUILD_FILE, ("tagger", "intent", "qa", "encoder", "writer")),
    )
}


@dataclass(frozen=True)
class Plan:
    """A service and the bundles in its bento."""

    service: Service
    bundles: Mapping[BundleSetting, Bundle]
    gpu: bool

    @property
    def build_options(self) -> dict[str, Any]:
        """The content of BentoML's build file: the service's own, with labels, and with torch for a GPU."""
        options = build_file(self.service)
        if self.gpu:
            options["name"] += "_gpu"
            options["python"]["packages"] += _gpu_requirements()
        options["labels"] = {"device": "gpu" if self.gpu else "cpu"} | {
            name: f"{bundle.name}:{bundle.version}" for name, bundle in self.bundles.items()
        }
        return options


@dataclass(frozen=True)
class Bento:
    """A bento in BentoML's store."""

    tag: str
    path: Path


def make_plan(service: Service, bundles: Sequence[Bundle], *, gpu: bool) -> Plan:
    """Return the plan for a service with these bundles.

    Raises:
        ConfigError: there is no bundle, one is for another service's task, or two are for the same task.
        BundleError: one lacks the file that its device needs.
    """
    chosen: dict[BundleSetting, Bundle] = {}
    settings = {task: name for task, name in (SETTING_OF | HELPER_OF).items() if name in service.settings}
    for bundle in bundles:
        task = bundle.config.task
        if task not in settings:
            raise ConfigError(
                f"{bundle.path} is a bundle for the task {task!r}; the service {service.name} takes "
                f"{', '.join(settings)}."
            )
        if settings[task] in chosen:
            raise ConfigError(f"two bundles are for the task {task!r}; a bento holds one of each. Build two bentos.")
        needed = WEIGHTS if gpu and task not in HELPER_OF else ONNX  # helpers stay on the CPU
        if needed not in bundle.config.files:
            raise BundleError(
                f"{bundle.path} has no {needed}, which a {'GPU' if gpu else 'CPU'} computes from (it has "
                f"{', '.join(sorted(bundle.config.files))}). "
                + ("Use the folder that training wrote." if gpu else f"Run: percept export {bundle.path}")
            )
        chosen[settings[task]] = bundle
    if not chosen.keys() - HELPER_OF.values():
        raise ConfigError(f"there is no bundle for the service {service.name}. Name one: --bundle FOLDER.")
    return Plan(service, chosen, gpu)


def build(plan: Plan, *, version: str | None = None, base_image: str | None = None) -> Bento:
    """Build the bento of a plan with `bentoml build`, in a process of its own; add its image's Dockerfile and its SBOM.

    Args:
        plan: what goes in.
        version: of the bento; None to have BentoML make one.
        base_image: of the image, as for `render_dockerfile`.

    Raises:
        ConfigError: the version exists already, BentoML does not accept it, or the extra `package` is not installed.
        PerceptError: BentoML cannot build.
    """
    import bentoml

    missing = [name for name in _PROGRAMS if find_spec(name) is None]
    if missing:
        raise ConfigError(f"a bento is built with {' and '.join(missing)}. Install: pip install 'percept[package]'")
    if version is not None:
        _check_new(f"{plan.build_options['name']}:{version}")
    with tempfile.TemporaryDirectory(prefix="percept-package-") as name:
        folder = Path(name) / "project"
        folder.mkdir()
        lay_out(plan, folder)
        command = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
        command += ["--version", version] if version else []
        result = subprocess.run(  # noqa: S603 our own command
            [*command, "."], cwd=folder, env=_build_environment(), capture_output=True, text=True, check=False
        )
    if result.returncode:
        output = (result.stderr or result.stdout).strip()[-_SHOWN_CHARS:]
        raise PerceptError(f"bentoml build failed with {result.returncode}: {output}")
    tag = result.stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    path = Path(bentoml.bentos.get(tag).path)
    write_sbom(plan, path / SBOM)
    (path / DOCKERFILE).write_text(render_dockerfile(gpu=plan.gpu, base_image=base_image), encoding="utf-8")
    return Bento(tag, path)


def lay_out(plan: Plan, folder: Path) -> Path:
    """Fill an empty folder with what the bento is built from: code, bundles and the build file.

    A service looks for its bundles in models/ beside its code, so a bento finds them wherever it is unpacked. For a CPU
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


def write_sbom(plan: Plan, path: Path) -> None:
    """Write what the image of a plan's bento installs as a CycloneDX document.

    For a GPU that is the lock file and what the extra `gpu` names, in the tested versions: what torch brings for CUDA
    depends on the index that it is installed from.

    Raises:
        PerceptError: cyclonedx-py cannot write it.
    """
    listed = (PROJECT_ROOT / LOCK).read_text(encoding="utf-8")
    if plan.gpu:
        pins = (PROJECT_ROOT / CONSTRAINTS).read_text(encoding="utf-8").splitlines()
        names = {canonicalize_name(Requirement(each).name) for each in _gpu_requirements()}
        listed += "\n".join(pin for pin in pins if canonicalize_name(pin.partition("==")[0]) in names)
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "-", "--output-reproducible"]
    command += ["--pyproject", str(PROJECT_ROOT / "pyproject.toml"), "--output-file", str(path)]
    done = subprocess.run(command, input=listed, capture_output=True, text=True, check=False)  # noqa: S603 ours
    if done.returncode:
        raise PerceptError(f"cyclonedx-py failed with {done.returncode}: {done.stderr.strip()[-_SHOWN_CHARS:]}")


def copy_files(bundle: Bundle, target: Path) -> None:
    """Copy the files that belong to a bundle, and nothing else in its folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name in {*bundle.config.files, CONFIG, CARD}:
        if (bundle.path / name).is_file():
            shutil.copy(bundle.path / name, target / name)


def build_file(service: Service) -> dict[str, Any]:
    """Return the content of a service's build file.

    Raises:
        ConfigError: this is not a checkout; an installed package has no build files.
    """
    path = PROJECT_ROOT / service.build_file
    if not path.is_file():
        raise ConfigError(f"there is no {path}. Bentos are built in a checkout of Percept, not from an installed one.")
    options: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return options


def _gpu_requirements() -> list[str]:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra: list[str] = project["optional-dependencies"]["gpu"]
    return extra


def _check_new(tag: str) -> None:
    import bentoml
    from bentoml.exceptions import BentoMLException, NotFound

    try:
        bentoml.bentos.get(tag)
    except NotFound:
        return
    except (BentoMLException, ValueError) as error:
        raise ConfigError(f"BentoML does not accept {tag} as a bento's tag: {error}") from error
    raise ConfigError(f"there is a bento {tag} already. Choose another --version.")


def _build_environment() -> dict[str, str]:
    """Return an environment without the settings of whoever builds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return kept | {"BENTOML_DO_NOT_TRACK": "True"}
