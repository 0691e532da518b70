"""What mypy tells those who use the client, strictly."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from percept import AsyncClient, Client

ROOT = Path(__file__).resolve().parents[2]
USE = """
from typing import assert_type

from percept import Answer, AsyncClient, Client, DocumentText, Entities, Entity
from percept import ImageTags, Intent, ItemError, ServedModels

client = Client("http://localhost:3000")
assert_type(client.tag("photo.jpg"), ImageTags)
assert_type(client.tag(b"")  .tags[0].parents, tuple[str, ...])
assert_type(client.tag_many(["photo.jpg", b""]), list[ImageTags | ItemError])
assert_type(client.intent("hello"), Intent)
assert_type(client.intents(["hello"]), list[Intent | ItemError])
assert_type(client.entities("hello"), Entities)
assert_type(client.intent("hello").entities, tuple[Entity, ...])
assert_type(client.answer("who?").answer, Answer | None)
assert_type(client.understand("hello").intent, Intent | None)
assert_type(client.document("a.md"), DocumentText)
assert_type(client.models(), ServedModels)
assert_type(client.ready(), bool)


async def wait(client: AsyncClient) -> None:
    assert_type(await client.tag("photo.jpg"), ImageTags)
    assert_type(await client.intents(["hello"]), list[Intent | ItemError])
    assert_type(await client.ready(), bool)
"""

WRONG = """
from percept import Client

client = Client("http://x")
client.intents(3)
client.tag("photo.jpg", top=3)
client.intent("hello").intention
"""


@pytest.mark.slow
def test_answers_have_their_types_and_a_wrong_use_is_told(tmp_path: Path):
    (tmp_path / "right.py").write_text(USE)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", str(tmp_path)]
    environment = {"MYPYPATH": str(ROOT), "PATH": "", "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.count("error:") == 3, result.stdout + result.stderr
    assert all(f"wrong.py:{line}: error" in result.stdout for line in (5, 6, 7)), result.stdout


def test_both_clients_have_the_same_documented_methods():
    public = [{name for name in dir(kind) if not name.startswith("_")} for kind in (Client, AsyncClient)]
    assert public[0] == public[1]
    assert {"tag", "intents", "put_document", "ready"} < public[0]
    for name in public[0] - {"close", "ready"}:
        method = getattr(Client, name)
        assert method is getattr(AsyncClient, name) or name in {"options", "pause_s"}
        assert method.__doc__
    assert list(inspect.signature(Client("http://x").tag).parameters) == ["image", "top_k", "min_score"]
