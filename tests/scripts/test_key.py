"""`percept key`: made, listed, removed; the key itself is shown once and is on no list."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.serving.access.keys import KeyRing, read_keys


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("PERCEPT_API_KEYS_FILE", str(path))
    return path


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["key", *args])


def test_a_key_is_made_shown_once_and_opens(file: Path):
    result = run("add", "shop", "--admin", "--rate", "600", "--expires", "2099-12-31")
    assert result.exit_code == 0
    secret = result.stdout.strip()  # alone, so that a script can take it
    assert "shown this once" in result.stderr
    found = KeyRing(file).find(secret)
    assert found is not None
    assert (found.name, found.role, found.requests_per_minute, str(found.expires)) == (
        "shop",
        "admin",
        600,
        "2099-12-31",
    )
    assert secret not in run("list").output


def test_the_list_says_whose_keys_there_are(file: Path):
    run("add", "shop", "--rate", "60")
    run("add", "boss", "--admin")
    run("add", "old", "--expires", "2020-01-01")
    lines = run("list").stdout.splitlines()
    assert [line.split("  ")[:4] for line in lines] == [
        ["shop", "user", "60 per minute", "never expires"],
        ["boss", "admin", "no limit", "never expires"],
        ["old", "user", "no limit", "expired 2020-01-01"],
    ]
    assert all(key.sha256 not in run("list").output for key in read_keys(file))


def test_a_removed_key_opens_no_more(file: Path):
    secret = run("add", "shop").stdout.strip()
    assert run("remove", "shop").exit_code == 0
    assert KeyRing(file).find(secret) is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("remove", "nobody"), "there is no file of keys"),
        (("list",), "there is no file of keys"),
        (("add", "no name"), "name is wrong"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(args: tuple[str, ...], message: str):
    result = run(*args)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize("args", [("add", "a", "--rate", "0"), ("add", "a", "--expires", "soon")])
def test_a_wrong_option_is_refused_by_its_name(args: tuple[str, ...], file: Path):
    result = run(*args)
    assert result.exit_code == 2
    assert args[2] in result.stderr
    assert not file.exists()


def test_without_a_file_it_asks_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("PERCEPT_API_KEYS_FILE")
    assert "--file" in run("list").stderr
    assert run("add", "shop", "--file", str(tmp_path / "other.json")).exit_code == 0
    assert (tmp_path / "other.json").is_file()
