"""The page and a model that takes another one's place: it answers with the new one, and nothing keeps the old one."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import weakref
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from PIL import Image

from shared.bundle.read import Bundle
from shared.runtime.cpu import OnnxRuntime
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.page.tabs import mount_pages
from shared.serving.settings import Settings
from vision.demo import REPLACED, page
from vision.engine import TaggingEngine


class Visitor:
    """A browser at the page."""

    def __init__(self, client: AsyncClient, config: dict[str, Any]) -> None:
        self.client = client
        self.parts = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
        self.events = {tuple(event["targets"][0]): event["id"] for event in config["dependencies"] if event["targets"]}

    async def send(self, part: str, event: str, *data: object, **more: object) -> list[Any]:
        body = {"data": data, "fn_index": self.events[self.parts[part], event], "session_hash": "test", **more}
        answer = await self.client.post("/ui/gradio_api/run/predict", json=body)
        assert answer.status_code == 200, answer.text
        shown: list[Any] = answer.json()["data"]
        return shown

    async def upload(self) -> str:
        buffer = BytesIO()
        Image.new("RGB", (40, 30), (255, 0, 0)).save(buffer, "PNG")
        answer = await self.client.post("/ui/gradio_api/upload", files={"files": ("red.png", buffer.getvalue())})
        (address,) = answer.json()
        return str(address)


@pytest.fixture
def visit(
    tagger_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Visitor, Lifecycle[TaggingEngine], Callable[[int], TaggingEngine]], Awaitable[None]]], None]:
    """Runs a function with a visitor, the life cycle behind the page, and what makes engines of a version."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    def engine(version: int) -> TaggingEngine:
        config = tagger_bundle.config.model_copy(update={"version": str(version)})
        bundle = dataclasses.replace(tagger_bundle, config=config)
        return TaggingEngine(bundle, OnnxRuntime(bundle), Settings())

    def run(
        use: Callable[[Visitor, Lifecycle[TaggingEngine], Callable[[int], TaggingEngine]], Awaitable[None]],
    ) -> None:
        async def visited() -> None:
            lifecycle = Lifecycle(lambda: engine(0))
            async with lifecycle.run():
                app = mount_pages([page(lifecycle)])
                transport = ASGITransport(app)
                async with (
                    app.router.lifespan_context(app),
                    AsyncClient(transport=transport, base_url="http://t") as it,
                ):
                    await use(Visitor(it, (await it.get("/ui/config")).json()), lifecycle, engine)

        asyncio.run(visited())

    return run


def test_a_replaced_model_is_freed_though_the_page_has_used_it(visit: Callable[..., None]):
    old: list[weakref.ref[TaggingEngine]] = []

    async def use(
        visitor: Visitor, lifecycle: Lifecycle[TaggingEngine], engine: Callable[[int], TaggingEngine]
    ) -> None:
        photo = await visitor.upload()
        for version in range(1, 25):
            answer, tags, *_ = await visitor.send("photo-address", "change", photo, True, 50)
            assert ">cat<" in tags
            assert json.loads(answer)["version"] == str(version - 1)
            old.append(weakref.ref(lifecycle()))
            await lifecycle.replace(engine(version))
        await asyncio.sleep(0.1)
        gc.collect()
        assert [ref() for ref in old] == [None] * 24

    visit(use)


def test_what_the_page_kept_of_another_model_is_not_read_with_the_labels_of_this_one(visit: Callable[..., None]):
    async def use(
        visitor: Visitor, lifecycle: Lifecycle[TaggingEngine], engine: Callable[[int], TaggingEngine]
    ) -> None:
        photo = await visitor.upload()
        kept, *_ = await visitor.send("photo-address", "change", photo, True, 50)
        pressed = {"event_data": {"index": 0}}
        assert "p-heat" in (await visitor.send("tags", "select", photo, kept, **pressed))[0]
        await lifecycle.replace(engine(1))
        assert await visitor.send("tags", "select", photo, kept, **pressed) == [REPLACED]

    visit(use)
