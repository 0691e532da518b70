"""Bundles whose digests are right and whose values are not: each is refused at load in one line, or answers rightly."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nlp.engine import AnswerEngine, IntentEngine
from shared.bundle.read import Bundle
from shared.errors import PerceptError
from shared.serving.settings import Settings
from tests.pictures import plain
from tests.shared.bundle.test_hostile import put
from vision.engine import TaggingEngine

VALUES = [
    None, True, -1, 0, 0.5, 2, 10**9, 10**30, float("nan"), float("inf"), "", "a", "1", [], [0], {}, {"a": 1}, ...,
]  # fmt: skip
"""What takes the place of a value; `...` takes it away."""
SETTINGS = Settings(device="cpu", knowledge=Path("unused"))
UNREAD = {"metrics", "card", "provenance", "files", "version", "name", "architectures"}
"""What nothing is computed with."""


def values_in(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value, of two in each list or object."""
    if path:
        yield path
    if isinstance(content, dict):
        for name in [name for name in content if path or name not in UNREAD][:12]:
            yield from values_in(content[name], (*path, name))
    elif isinstance(content, list):
        for place in range(min(len(content), 2)):
            yield from values_in(content[place], (*path, place))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with another value at that place."""
    result = copy.deepcopy(content)
    inner = result
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return result


async def tag(engine: TaggingEngine) -> None:
    result = await engine.tag(plain())
    assert all(0 <= each.score <= 1 for each in result.tags)
    await engine.close()


async def classify(engine: IntentEngine) -> None:
    for text in ("play a song", "é" * 2000):
        result = await engine.classify(text)
        assert 0 <= result.confidence <= 1
        assert 0 <= result.out_of_scope_score <= 1
    await engine.close()


async def reply(engine: AnswerEngine) -> None:
    for context in ("It was Ada.", "Ada and " * 300):
        for found in await engine.answer("who", context):
            assert 0 <= found.score <= 1
            assert context[found.start : found.end] == found.text
    await engine.close()


KINDS: dict[str, tuple[str, Callable[[Path, Settings], Any], Callable[[Any], Any], str]] = {
    "tagging": ("tagger_bundle", TaggingEngine._of, tag, "preprocessor_config.json"),
    "intent": ("intent_bundle", IntentEngine.load, classify, "tokenizer_config.json"),
    "qa": ("qa_bundle", AnswerEngine.load, reply, "tokenizer_config.json"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_config", [True, False], ids=["config", "other"])
def test_a_bundle_that_lies_is_refused_in_one_line_or_answers(
    kind: str, is_config: bool, request: pytest.FixtureRequest, tmp_path: Path
):
    fixture, load, ask, other = KINDS[kind]
    bundle: Bundle = request.getfixturevalue(fixture)
    folder = Path(shutil.copytree(bundle.path, tmp_path / kind))
    name = "config.json" if is_config else other
    good = json.loads((folder / name).read_text())
    answered, reasons = 0, []
    for number, path in enumerate(values_in(good)):
        for value in VALUES[number % 2 :: 2] if is_config else VALUES:
            content = json.dumps(changed(good, path, value))
            if is_config:
                (folder / name).write_text(content)
            else:
                put(folder, name, content.encode())
            try:
                engine = load(folder, SETTINGS)
            except PerceptError as error:
                reasons.append(str(error))
                continue
            except Exception as error:
                raise AssertionError(f"{name}: {path} = {value!r}: {error!r}") from error
            try:
                asyncio.run(ask(engine))
            except Exception as error:
                raise AssertionError(f"{name}: {path} = {value!r}: loaded, then {error!r}") from error
            answered += 1
    assert len(reasons) > 10
    assert all(len(reason.splitlines()) == 1 and len(reason) < 2000 for reason in reasons), reasons
    assert answered


def sized(folder: Path, size: int) -> None:
    config = json.loads((folder / "preprocessor_config.json").read_text())
    put(folder, "preprocessor_config.json", json.dumps({**config, "size": size}).encode())


def test_a_size_that_is_not_the_networks_is_refused(tagger_bundle: Bundle, tmp_path: Path):
    folder = Path(shutil.copytree(tagger_bundle.path, tmp_path / "tagger"))
    for size in (31, 64, 4096):
        sized(folder, size)
        with pytest.raises(PerceptError, match="cannot answer an example"):
            TaggingEngine._of(folder, SETTINGS)
    sized(folder, 10**9)
    with pytest.raises(PerceptError, match="size: Input should be less than or equal to 4096"):
        TaggingEngine._of(folder, SETTINGS)


def test_a_tokenizer_with_more_words_than_the_network_is_refused(intent_bundle: Bundle, tmp_path: Path):
    folder = Path(shutil.copytree(intent_bundle.path, tmp_path / "intent"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zebra"] = 10_000
    put(folder, "tokenizer.json", json.dumps(tokenizer).encode())
    with pytest.raises(PerceptError, match="cannot answer an example"):
        IntentEngine.load(folder, SETTINGS)
