"""The two distributions as people install them: what the wheels contain, and that they work far from a checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from scripts.main import EXTRA_OF
from shared.bundle.read import Bundle
from tests.pictures import GREEN, plain
from tests.server import environment, serving

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["nlp", "percept", "scripts", "shared", "vision"]
SHIPPED = ["README.md", "CONTRIBUTING.md", "docs", "configs"]
CLIENT_BUILD_FILES = {"percept/pyproject.toml", "percept/LICENSE"}


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def build(source: Path, folder: Path) -> Path:
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def server_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("server_wheel"))


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "percept", tmp_path_factory.mktemp("client_wheel"))


class Environment:
    """A virtual environment without pip."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.folder = folder
        [self.packages] = folder.glob("lib/python*/site-packages")

    def install(self, wheel: Path) -> None:
        pip("--python", self.folder / "bin" / "python", "install", "--no-deps", "--no-index", wheel)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        program = [str(self.folder / "bin" / command[0]), *command[1:]]
        return subprocess.run(
            program, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=120, check=False
        )


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return Environment(tmp_path / "fresh")


@pytest.fixture
def installed(fresh: Environment, server_wheel: Path) -> Environment:
    """The server's wheel with the libraries of this Python, which the checkout is not among."""
    fresh.install(server_wheel)
    libraries = Path(pytest.__file__).parents[1]
    (fresh.packages / "borrowed.pth").write_text(f"{libraries}\n")  # its own .pth files are not read
    return fresh


def without_extras(installed: Environment) -> Environment:
    (installed.packages / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({list(EXTRA_OF)}))\n"
    )
    return installed


def source_files(*paths: str) -> set[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *paths]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout: there is no list of its files")
    return {name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).exists()}


def content(wheel: Path, package: str = "") -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(package) and ".dist-info/" not in name]
        return {name: archive.read(name) for name in names}


def test_the_wheel_contains_the_packages_the_service_the_documents_and_the_recipes(server_wheel: Path):
    code = source_files(*PACKAGES, "service.py") - CLIENT_BUILD_FILES
    assert content(server_wheel).keys() == code | {f"shared/shipped/{name}" for name in source_files(*SHIPPED)}


def test_both_wheels_have_the_same_client_of_the_same_version(server_wheel: Path, client_wheel: Path):
    assert content(client_wheel) == content(server_wheel, "percept/")
    server, client = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in ("", "percept")
    )
    assert (client["version"], client["requires-python"]) == (server["version"], server["requires-python"])
    assert client["dependencies"] == server["optional-dependencies"]["client"]


def requirements_of(name: str) -> Iterator[Distribution]:
    """Yield an installed distribution and all that it needs."""
    found = distribution(name)
    yield found
    for line in found.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from requirements_of(requirement.name)


def test_the_client_alone_needs_httpx_and_nothing_else(fresh: Environment, client_wheel: Path):
    for needed in requirements_of("httpx"):
        for file in needed.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = fresh.packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    fresh.install(client_wheel)
    result = fresh.run(
        "python",
        "-c",
        "import percept\n"
        "from importlib.util import find_spec\n"
        "from percept import AsyncClient, Client\n"
        "print(percept.__file__)\n"
        "print([name for name in ('bentoml', 'onnxruntime', 'numpy', 'shared') if find_spec(name)])\n"
        "print(Client('http://127.0.0.1:9').ready())\n",
    )
    assert result.stdout.splitlines() == [str(fresh.packages / "percept" / "__init__.py"), "[]", "False"], result.stderr


def test_server_and_client_can_be_installed_beside_each_other(
    installed: Environment, server_wheel: Path, client_wheel: Path
):
    installed.install(client_wheel)
    for name, written in content(server_wheel, "percept/").items():
        assert (installed.packages / name).read_bytes() == written
    assert installed.run("percept", "--version").stdout == "percept, version 0.1.0\n"


@pytest.mark.slow
@pytest.mark.server
def test_the_installed_wheel_serves_without_extras(
    installed: Environment, tagger_bundle: Bundle, intent_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path
):
    program = [str(without_extras(installed).folder / "bin" / "percept")]
    bundles = [tagger_bundle.path, intent_bundle.path, qa_bundle.path]
    settings = {"PERCEPT_KNOWLEDGE": str(tmp_path / "knowledge.sqlite")}
    with serving(
        bundles, tmp_path / "log", workers=1, models=3, program=program, folder=tmp_path, **settings
    ) as server:
        intent = server.post("/v1/intent", b'{"text": "play some music"}', "application/json")
        assert (intent.status, intent.json["model"]["name"]) == (200, intent_bundle.name)
        tags = server.post("/v1/tag", plain(GREEN))
        assert [tag["label"] for tag in tags.json["results"][0]["tags"]] == ["dog"]
        documents = {document["id"] for document in server.get("/v1/knowledge").json["documents"]}
        assert {"percept/README.md", "percept/docs/serving.md"} <= documents


def test_installed_without_a_bundle_it_says_what_to_do(installed: Environment):
    result = installed.run("percept", "serve")
    assert result.returncode == 2
    assert "starter models are in a checkout" in result.stderr
    assert "percept serve BUNDLE" in result.stderr


@pytest.mark.slow
def test_installed_it_trains_with_a_recipe_that_it_brings(installed: Environment):
    for recipe in ("configs/vision/tagging_smoke.yaml", "configs/nlp/intent_smoke.yaml"):
        task = "tagging" if "tagging" in recipe else "intent"
        result = installed.run("percept", "fit", task, "-c", recipe, "--print_config")
        assert result.returncode == 0, result.stderr
        assert "run_dir:" in result.stdout
    result = installed.run("percept", "fit", "tagging", "-c", "configs/vision/none.yaml", "--print_config")
    assert result.returncode == 2
    assert "configs/vision/none.yaml" in result.stderr
    assert "configs/vision/tagging.yaml" in result.stderr
