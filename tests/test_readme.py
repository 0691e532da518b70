"""Every command in the README and in docs/ does what it says: each is run as it stands, on small data."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import make_tagger_bundle
from tests.encoders import make_encoder
from tests.language_bundles import make_intent_bundle, make_qa_bundle
from tests.nlp.qa.conftest import rows as questions
from tests.photos import class_folders, photo
from tests.server import serving

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LOCAL = "http://localhost:3000"
KEY = "a key of the admin's"
BRIEF = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.num_sanity_val_steps=0", "--int8=false"]
"""Makes a recipe brief; a test of its own trains it for real."""
BRIEF_OF = {
    "tagging": ["--data.image_size_px=32", "--data.num_workers=0"],
    "intent": ["--model.encoder=encoder"],
    "qa": ["--model.encoder=encoder", "--data.max_length=48", "--data.stride=8"],
    "answer-writer": ["--model.size=64", "--model.layers=1"],
    "embedding": ["--model.encoder=encoder"],
}
"""Task -> what makes it small and spares a download."""
NO_DOWNLOAD = ["--model.weights=none"]
EXITS_OF = {"promote": (0, 1, 3)}
"""Command -> how it may end, beside 0: the few examples of this test decide nothing."""
INTENTS = {"greet": "hello {} my friend", "book": "book a table for {} people", "pay": "pay the bill of {} dollars"}


def blocks(language: str) -> list[tuple[str, str]]:
    """(file, code) of every fenced block in a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(path.name, code) for path in DOCUMENTS for code in pattern.findall(path.read_text("utf-8"))]


def commands(program: str) -> list[tuple[str, str]]:
    """(file, command) of every shell line that starts with a program, after variables that it sets."""
    lines = [(name, line) for name, code in blocks("bash") for line in code.replace("\\\n", " ").splitlines()]
    bare = [(name, re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)) for name, line in lines]
    return [(name, line.strip()) for name, line in bare if line.startswith(f"{program} ")]


def test_shell_lines_are_of_kinds_that_are_tested():
    known = len(commands("make")) + len(commands("curl")) + len(commands("percept"))
    lines = [line for _, code in blocks("bash") for line in code.replace("\\\n", " ").splitlines() if line.strip()]
    assert known == len(lines) > 10


@pytest.mark.parametrize("command", [command for _, command in commands("make")])
def test_make_knows_the_target(command: str):
    result = subprocess.run(
        ["make", "--dry-run", *shlex.split(command, comments=True)[1:]], cwd=ROOT, capture_output=True, check=False
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
    (folder / "guide.md").write_text("# Guide\n\nThe lamp is lit at nine.\n")
    lines = [f"{text.format(i)},{label}" for label, text in INTENTS.items() for i in range(20)]
    for name in ("utterances.csv", "intents.csv"):
        (folder / name).write_text("\n".join(["text,label", *lines]))
    new = [f"my {animal} is ill, call the vet at {i}," for animal in ("hamster", "parrot") for i in range(20)]
    (folder / "tickets.csv").write_text("\n".join(["text,label", *lines, *new]))
    spec = "name: utterances\nlicence: MIT\nsources:\n- {kind: files, path: utterances.csv}\n"
    (folder / "collection.yaml").write_text(spec)
    (folder / "questions.jsonl").write_text("\n".join(json.dumps(row) for row in questions()))
    asked = [
        {
            "question": f"Can I {verb} it?",
            "answer": f"Yes, for {i} euros.",
            "paraphrases": [f"{verb} that", f"{verb} mine"],
        }
        for i, verb in enumerate(
            ("mend", "sell", "lend", "wash", "cut", "fold", "drop", "keep", "lock", "send", "share", "name")
        )
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, asked)))
    make_encoder(folder / "encoder", [*lines, *(row["context"] for row in questions())])
    for name in ("configs", "models"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the all-in-one service of tiny models that go by the starters' names."""
    folder = tmp_path_factory.mktemp("tiny")
    bundles = [
        make_tagger_bundle(folder / "tagger", name="percept-tagger"),
        make_intent_bundle(folder / "intent", name="percept-intent"),
        make_qa_bundle(folder / "qa", name="percept-qa"),
    ]
    make_tagger_bundle(folder / "others" / "tagger-2", name="percept-tagger", version="2026.11.24-00000000")
    settings = {
        "PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite"),
        "PERCEPT_ADMIN_KEY": KEY,
        "PERCEPT_BUNDLES": str(folder / "others"),
        "PERCEPT_RECORDS": f"sqlite:///{folder / 'records.sqlite'}",
    }
    paths = [bundle.path for bundle in bundles]
    with serving(paths, folder / "log", workers=1, models=3, **settings) as running:
        yield running.url


@pytest.mark.server
@pytest.mark.parametrize("command", dict.fromkeys(command for _, command in commands("curl")))
def test_curl_gets_an_answer(command: str, place: Path, server: str):
    words = [word.replace("$PERCEPT_ADMIN_KEY", KEY) for word in shlex.split(command.replace(LOCAL, server))]
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
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.search("red|cat|[0-9]%|documents|Ada", result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("document", dict.fromkeys(name for name, _ in commands("percept") if name != "serving.md"))
def test_percept_commands_work_one_after_the_other(document: str, place: Path):
    for command in [command for name, command in commands("percept") if name == document]:
        words = shlex.split(command)[1:]
        if words[0] == "serve":
            assert_serves(words[1:], place)
            continue
        if words[0] in ("fit", "tune"):
            words += BRIEF
            if "tfidf" not in words:  # words alone need no encoder
                words += [*BRIEF_OF[words[1]], *([] if "--model.weights" in words else NO_DOWNLOAD)]
        if words[0] == "tune":
            words += ["--trials", "2"]
        result = run(words, place)
        assert result.returncode in EXITS_OF.get(words[0], (0,)), f"{command}\n{result.stdout}\n{result.stderr}"


def run(words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """Call `percept` in a folder."""
    command = [sys.executable, "-W", "ignore", "-m", "scripts.main", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(place / "cache")}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=500)


def assert_serves(words: list[str], place: Path) -> None:
    """`percept serve` announces itself and ends on a signal."""
    command = [sys.executable, "-m", "scripts.main", "serve", *words, "--port", "0", "--workers", "1", "--no-ui"]
    variables = {"PYTHONPATH": str(ROOT), "PERCEPT_KNOWLEDGE": str(place / "knowledge.sqlite")}
    process = subprocess.Popen(command, cwd=place, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with process.stdout as lines:
            assert any("Percept serves" in line for line in lines)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
