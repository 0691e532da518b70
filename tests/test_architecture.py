"""The tree obeys the design: who imports whom, what serving loads, and what no tracked file may hold."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_PACKAGES = {"tests", "benchmarks"}  # run from the checkout, never installed
PACKAGES = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - NO_PACKAGES)
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SERVICES = [f"{package}.service" for package in PACKAGES if package not in {"percept", "shared", "scripts"}]
TRAINING_LIBRARIES = [
    "torch",
    "torchvision",
    "transformers",
    "pytorch_lightning",
    "lightning",
    "datasets",
    "matplotlib",
]

# Spelled in pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = ["/" + name + "/" for name in ("work", "root", "opt/pypi", "opt/wheels")]
REGISTRY_HOSTS = [
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_imports_obey_the_contracts():
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    result = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_importing_a_service_loads_no_training_library(service: str, tmp_path: Path):
    command = f"import json, sys, {service}; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    environment = os.environ | {"BENTOML_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    loaded = set(json.loads(result.stderr.splitlines()[-1]))
    assert loaded.isdisjoint(TRAINING_LIBRARIES), sorted(loaded.intersection(TRAINING_LIBRARIES))


def test_there_is_a_service_to_check():
    assert "vision.service" in SERVICES


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_installed_typed_and_under_contract(package: str):
    settings = pyproject()
    assert package in settings["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert package in settings["importlinter"]["root_packages"]
    assert package in settings["mypy"]["packages"]
    assert package in settings["pytest"]["ini_options"]["testpaths"], "its doctests do not run"
    assert (ROOT / package / "py.typed").is_file()


def test_no_module_is_named_for_nothing():
    vague = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)(_|$)")
    modules = {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert [name for name in sorted(modules) if vague.search(name)] == []


def test_tracked_files_hold_no_machine_path_and_no_registry_host():
    # A path counts where it begins: not inside a longer one such as one in a web address.
    paths = b"|".join(re.escape(path.encode()) for path in MACHINE_PATHS)
    hosts = b"|".join(re.escape(host.encode()) for host in REGISTRY_HOSTS)
    forbidden = re.compile(rb"(?<![\w.~/-])(?:%b)|(?:%b)" % (paths, hosts))
    found = [
        f"{name_of(path)}: {hit[0].decode()}"
        for path in tracked_files()
        for hit in forbidden.finditer(path.read_bytes())
    ]
    assert found == []
