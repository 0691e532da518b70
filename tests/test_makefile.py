"""The Makefile lists itself, the constraints name versions alone, and what is declared is what is imported."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).resolve().parents[1]
TARGETS = [
    "help",
    "demo",
    "test",
    "lint",
    "format",
    "train",
    "loop",
    "notebooks",
    "bench",
    "fuzz",
    "soak",
    "audit",
    "openapi",
    "clean",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"benchmarks", "service", "tests"}

# Files that may import an extra's packages on top of the core ones; all others serve on a CPU and do with the core.
EXTRAS_OF = {
    "shared/training/*": ["train"],
    "shared/batch/*": ["batch", "ray"],
    "shared/sources/*": ["batch", "collect", "train"],
    "shared/dataset/*": ["batch"],
    "shared/collecting/*": ["collect"],
    "shared/records/*": ["records"],
    "shared/tuning/*": ["train", "tune"],
    "shared/improving/*": ["client", "mlflow", "train"],
    "shared/monitoring/*": ["monitor"],
    "shared/grouping/*": ["explore"],
    "shared/cleaning/*": ["explore"],
    "shared/exploring/*": ["explore"],
    "vision/images.py": ["heic"],
    "nlp/distilling.py": ["train"],
    "nlp/embedding/multilingual.py": ["multilingual", "train"],
    "nlp/encoders.py": ["train", "gpu"],
    "nlp/extracting/*": ["extractors"],
    "nlp/starting.py": ["train"],
    "nlp/tables.py": ["train"],
    "nlp/writing/module.py": ["writer"],
    "nlp/writing/pointer.py": ["train"],
    "*/*/data.py": ["train"],
    "*/*/decision.py": ["train"],
    "*/*/evaluation.py": ["train"],
    "*/*/judging.py": ["train"],
    "*/*/module.py": ["train"],
    "*/*/network.py": ["train", "gpu"],
    "*/*/offline.py": ["batch"],
    "*/*/packing.py": ["train"],
    "*/*/plain.py": ["train"],
    "*/*/sources.py": ["train"],
    "*/*/streaming.py": ["train"],
    "*/*/teaching.py": ["train"],
    "*/*/windows.py": ["train"],
    "shared/runtime/choose.py": ["gpu"],
    "shared/runtime/cuda.py": ["gpu"],
    "shared/serving/page/tabs.py": ["demo"],
    "*/demo.py": ["demo"],
    "scripts/options.py": ["train"],
    "*/service.py": ["demo"],
    "service.py": ["demo"],
    "percept/*": ["client"],
    "tests/*": ["dev"],
    "benchmarks/*": ["dev"],
}
# Declared, and yet imported nowhere here: uvicorn, FastAPI, Lightning, torch.onnx and transformers look for these.
FOUND_BY_OTHERS = {
    "accelerate",
    "gguf",
    "httptools",
    "python-multipart",
    "uvloop",
    "onnxscript",
    "tensorboard",
    "tzdata",
}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str | None) -> set[str]:
    """Distributions of the core, or of an extra together with the extras that it includes."""
    requirements = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    names: set[str] = set()
    for requirement in requirements:
        if included := re.match(r"percept\[(.+)\]", requirement):
            names |= {name for part in included[1].split(",") for name in declared(part)}
        else:
            names.add(normalised(re.match(r"[\w.-]+", requirement)[0]))
    return names


def is_below(path: Path, pattern: str) -> bool:
    """`*` at the end of a pattern also matches what lies deeper."""
    relative = PurePath(path.relative_to(ROOT).as_posix())
    if pattern.endswith("/*"):
        return relative.is_relative_to(pattern[:-2])
    return len(relative.parts) == len(PurePath(pattern).parts) and relative.match(pattern)


def files() -> list[Path]:
    found = [path for package in sorted(OWN - {"service"}) for path in (ROOT / package).rglob("*.py")]
    return found + list(ROOT.glob("service.py"))


@cache
def owners_of_names() -> Mapping[str, list[str]]:
    """Top-level names -> distributions that have them; a third of a second each time it is asked of Python."""
    return packages_distributions()


@cache
def imported_by(path: Path) -> frozenset[frozenset[str]]:
    """Distributions that a file imports, at its top or inside a function; a name nobody installed stands for itself.

    A name that several share, such as `opentelemetry`, is all of theirs: each import is the set of those it may be.
    """
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module)
    outside = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - OWN
    owners = owners_of_names()
    return frozenset(frozenset(map(normalised, owners.get(name, [name]))) for name in outside)


def extras_of(path: Path) -> list[str]:
    return [extra for pattern, extras in EXTRAS_OF.items() if is_below(path, pattern) for extra in extras]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_everything_a_file_imports_is_declared_for_it(path: Path):
    allowed = declared(None).union(*(declared(extra) for extra in extras_of(path)))
    undeclared = [min(owners) for owners in imported_by(path) if not owners & allowed]
    assert not undeclared, f"{path.relative_to(ROOT)} imports {sorted(undeclared)}: not among its dependencies"


@pytest.mark.parametrize("extra", [None, "batch", "client", "demo", "train", "writer", "gpu"])
def test_everything_declared_is_imported(extra: str | None):
    if extra is None:  # what only training imports belongs to `train`
        readers = [path for path in files() if not {"train", "dev"}.intersection(extras_of(path))]
    else:
        readers = [path for path in files() if extra in extras_of(path)]
    imported = {name for path in readers for owners in imported_by(path) for name in owners}
    unused = declared(extra) - imported - FOUND_BY_OTHERS
    assert not unused, f"nothing imports {sorted(unused)} of {extra or 'the core dependencies'}"


def test_serving_on_a_cpu_asks_for_no_training_library():
    heavy = {"torch", "torchvision", "transformers", "pytorch-lightning", "datasets"}
    assert (declared(None) | declared("demo")).isdisjoint(heavy)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("arguments", [[], ["help"]], ids=["default", "help"])
def test_make_help_lists_every_target(arguments: list[str]):
    listing = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  ([a-z]+) +\S", listing, re.MULTILINE)
    assert listed == TARGETS
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert phony == TARGETS


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_a_python_that_is_too_old_in_one_line(tmp_path: Path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    command = ["make", "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "Percept needs Python 3.11 or newer" in result.stdout
    assert "Python 3.9.2" in result.stdout
    assert not (tmp_path / "venv").exists()


def test_constraints_are_plain_pins_without_hosts():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    plain = re.compile(r"""[A-Za-z0-9._-]+==[A-Za-z0-9.!]+( ; (sys_platform|python_version) [=!<>]+ ["'][\w.]+["'])?""")
    assert [pin for pin in pins if not plain.fullmatch(pin)] == []
    names = [normalised(pin.partition("==")[0]) for pin in pins]
    assert len(names) == len(set(names))


def test_every_declared_dependency_is_pinned():
    pinned = {
        normalised(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    everything = set().union(declared(None), *(declared(extra) for extra in PROJECT["optional-dependencies"]))
    assert everything - pinned == set()
