"""Every command in the README and in docs/ does what it says: each is run as it stands, on small photos."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stacks import percept
from tests.bundles import make_tagger_bundle
from tests.photos import class_folders, photo

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LOCAL = "http://localhost:3000"
BRIEF = [
    "--trainer.max_epochs=1",
    "--data.image_size_px=32",
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
    "--int8=false",
]
"""Makes a recipe brief; a test of its own trains it for real."""
NO_DOWNLOAD = ["--model.weights=none"]


def blocks(language: str) -> list[tuple[str, str]]:
    """(file, code) of every fenced block in a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(path.name, code) for path in DOCUMENTS for code in pattern.findall(path.read_text("utf-8"))]


def commands(program: str) -> list[tuple[str, str]]:
    """(file, command) of every shell line that starts with a program."""
    lines = [(name, line) for name, code in blocks("bash") for line in code.replace("\\\n", " ").splitlines()]
    return [(name, line.strip()) for name, line in lines if line.startswith(f"{program} ")]


def test_shell_lines_are_of_kinds_that_are_tested():
    known = len(commands("make")) + len(commands("curl")) + len(commands("percept"))
    lines = [line for _, code in blocks("bash") for line in code.replace("\\\n", " ").splitlines() if line.strip()]
    assert known == len(lines) > 10


@pytest.mark.parametrize("command", [command for _, command in commands("make")])
def test_make_knows_the_target(command: str):
    result = subprocess.run(
        ["make", "--dry-run", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8"))
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert not missing


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands find what they name."""
    folder = tmp_path_factory.mktemp("readme")
    class_folders(folder / "photos", count=10)
    photo("red", 1, size=64).save(folder / "photo.jpg")
    photo("blue", 2, size=64).save(folder / "other.png")
    for name in ("configs", "models"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service of a tiny model that goes by the starter tagger's name."""
    bundle = make_tagger_bundle(tmp_path_factory.mktemp("tiny") / "bundle", name="percept-tagger")
    with percept(bundle.path, workers=1) as (url, _):
        yield url.removesuffix("/v1/tag")


@pytest.mark.server
@pytest.mark.parametrize("command", dict.fromkeys(command for _, command in commands("curl")))
def test_curl_gets_an_answer(command: str, place: Path, server: str):
    words = shlex.split(command.replace(LOCAL, server))
    result = subprocess.run(
        [words[0], "-sS", "--fail-with-body", *words[1:]], cwd=place, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.server
@pytest.mark.parametrize("code", [code for _, code in blocks("python")])
def test_python_client_prints_tags(code: str, place: Path, server: str):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code.replace(LOCAL, server)],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.search("red|cat|[0-9]%", result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "training.md", "starter-tagger.md"])
def test_percept_commands_work_one_after_the_other(document: str, place: Path):
    for command in [command for name, command in commands("percept") if name == document]:
        words = shlex.split(command)[1:]
        if words[0] == "serve":
            assert_serves(words[1:], place)
            continue
        if words[0] == "fit":
            words += [*BRIEF, *([] if "--model.weights" in words else NO_DOWNLOAD)]
        result = run(words, place)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


def run(words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """Call `percept` in a folder."""
    command = [sys.executable, "-W", "ignore", "-m", "scripts.main", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(place / "cache")}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=500)


def assert_serves(words: list[str], place: Path) -> None:
    """`percept serve` announces itself and ends on a signal."""
    command = [sys.executable, "-m", "scripts.main", "serve", *words, "--port", "0", "--workers", "1", "--no-ui"]
    process = subprocess.Popen(
        command, cwd=place, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        with process.stdout as lines:
            assert any("Percept serves" in line for line in lines)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
