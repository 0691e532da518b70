"""The tree obeys the design: who imports whom, what serving loads, and what no tracked file may hold."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
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
MAX_FILES_IN_A_ROOM = 12
LINES_OF_A_SCREEN = 55

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


def test_no_modules_import_each_other_in_a_circle():
    """For type checking neither: what two modules need of each other belongs together, or in a third."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_a_room_holds_no_more_than_one_can_take_in():
    rooms = Counter(path.parent for path in SOURCES if path.is_relative_to(ROOT / "shared" / "serving"))
    assert {name_of(room): count for room, count in rooms.items() if count > MAX_FILES_IN_A_ROOM} == {}


def test_the_drawing_of_the_house_fits_a_screen_and_is_true():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    drawing = re.search(r"^## The house\n.*?^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1].splitlines()
    assert len(drawing) <= LINES_OF_A_SCREEN
    drawn: list[str] = []
    above: list[str] = []
    for line in drawing:
        name = line.split()[0]
        above = [*above[: (len(line) - len(line.lstrip())) // 2], name.rstrip("/")]
        drawn.append("/".join(above))
    assert [place for place in drawn if not (ROOT / place).exists()] == []
    rooms = {name_of(path.parent) for path in SOURCES}
    assert sorted(rooms - set(drawn)) == []


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
