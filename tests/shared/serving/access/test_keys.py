"""Keys are kept hashed, written whole, read again when they change, and a broken file changes nothing."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.errors import ConfigError
from shared.serving.access import keys as api_keys
from shared.serving.access.keys import KEY_PREFIX, KeyRing, add_key, digest_of, read_keys, remove_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "keys.json"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a ring look at its file at each question."""
    monkeypatch.setattr(api_keys, "_CHECK_S", 0.0)


def test_a_key_is_long_and_stands_nowhere_in_its_file(path: Path):
    secret = add_key(path, "shop", role="admin", expires=date(2030, 1, 2), requests_per_minute=60)
    assert secret.startswith(KEY_PREFIX)
    assert len(secret) >= len(KEY_PREFIX) + 43
    content = path.read_text()
    assert secret not in content
    assert secret.removeprefix(KEY_PREFIX) not in content
    (key,) = read_keys(path)
    assert (key.name, key.role, key.expires, key.requests_per_minute) == ("shop", "admin", date(2030, 1, 2), 60)
    assert key.sha256 == digest_of(secret)


def test_only_its_owner_may_read_the_file_and_nothing_else_is_left_behind(path: Path):
    add_key(path, "a")
    add_key(path, "b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_no_two_keys_are_alike(path: Path):
    secrets = {add_key(path, f"client-{number}") for number in range(20)}
    assert len(secrets) == 20
    assert len({key.sha256 for key in read_keys(path)}) == 20


@pytest.mark.parametrize("name", ["", "a b", "-a", "é", "a" * 65, "a\n", 'a"'])
def test_a_name_that_is_no_word_is_refused(path: Path, name: str):
    with pytest.raises(ConfigError, match="name is wrong"):
        add_key(path, name)
    assert not path.exists()


def test_a_name_is_given_once_and_only_what_is_there_is_removed(path: Path):
    add_key(path, "shop")
    with pytest.raises(ConfigError, match="there is already a key of shop"):
        add_key(path, "shop")
    with pytest.raises(ConfigError, match=r"no key of store in .*; there are: shop"):
        remove_key(path, "store")
    remove_key(path, "shop")
    assert read_keys(path) == []


def test_a_file_that_is_not_there_is_not_made_by_removing(path: Path):
    with pytest.raises(ConfigError, match="percept key add NAME"):
        remove_key(path, "shop")
    assert not path.exists()


def test_a_write_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch):
    add_key(path, "shop")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        add_key(path, "store")
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


GOOD = {"name": "a", "sha256": "0" * 64, "created": "2026-11-25"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Invalid JSON"),
        ('{"keys": [', "Invalid JSON"),
        ("[]", "file"),
        (json.dumps({"format_version": 2}), "format_version"),
        (json.dumps({"keys": [GOOD | {"sha256": "abc"}]}), "keys.0.sha256"),
        (json.dumps({"keys": [GOOD | {"key": "in clear"}]}), "keys.0.key"),
        (json.dumps({"keys": [GOOD | {"role": "root"}]}), "keys.0.role"),
        (json.dumps({"keys": [GOOD | {"requests_per_minute": 0}]}), "keys.0.requests_per_minute"),
        (json.dumps({"keys": [GOOD, GOOD]}), "two keys have the same name"),
    ],
)
def test_a_broken_file_is_refused_with_the_place_and_never_with_what_stands_there(
    path: Path, content: str, problem: str
):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        read_keys(path)
    assert "in clear" not in str(caught.value)


def test_a_ring_finds_a_key_by_itself_alone(path: Path):
    secret = add_key(path, "shop")
    ring = KeyRing(path)
    found = ring.find(secret)
    assert found is not None
    assert found.name == "shop"
    for wrong in ("", secret[:-1], secret + "a", secret.upper(), digest_of(secret), "shop", "\udcff"):
        assert ring.find(wrong) is None


def test_the_administrators_key_opens_beside_those_of_the_file(path: Path):
    add_key(path, "shop")
    ring = KeyRing(path, SecretStr("mañana"))
    found = ring.find("mañana")
    assert found is not None
    assert (found.name, found.role, found.requests_per_minute) == ("admin", "admin", None)


@pytest.mark.usefixtures("at_once")
def test_keys_come_and_go_without_a_restart(path: Path):
    first = add_key(path, "first")
    ring = KeyRing(path, SecretStr("root"))
    second = add_key(path, "second")
    assert ring.find(second) is not None
    remove_key(path, "first")
    assert ring.find(first) is None
    assert ring.find(second) is not None
    assert ring.find("root") is not None


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("breakage", ["gone", "half", "empty"])
def test_a_file_that_breaks_leaves_the_keys_as_they_were_and_is_logged_once(
    path: Path, breakage: str, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(api_keys._log, "error", lambda message, *values: said.append(message % values))
    secret = add_key(path, "shop")
    ring = KeyRing(path)
    content = path.read_bytes()
    path.unlink() if breakage == "gone" else path.write_bytes(content[:20] if breakage == "half" else b"")
    for _ in range(3):
        assert ring.find(secret) is not None
    (message,) = said
    assert "the keys stay as they were" in message
    path.write_bytes(content.replace(b"shop", b"store"))
    found = ring.find(secret)
    assert found is not None
    assert found.name == "store"


def test_the_file_is_looked_at_no_more_than_once_a_second(path: Path, monkeypatch: pytest.MonkeyPatch):
    secret = add_key(path, "shop")
    now = [1000.0]
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: now[0])
    ring = KeyRing(path)
    looks: list[Path] = []
    monkeypatch.setattr(api_keys, "_signature", looks.append)
    for second in (0.0, 0.5, 0.9, 1.1, 1.9, 2.2):
        now[0] = 1000.0 + second
        ring.find(secret)
    assert len(looks) == 2


def test_a_key_opens_on_its_last_day_and_not_on_the_next(path: Path):
    today = datetime.now(UTC).date()
    add_key(path, "old", expires=today - timedelta(days=1))
    add_key(path, "last-day", expires=today + timedelta(days=1))
    assert [key.is_expired for key in read_keys(path)] == [True, False]
