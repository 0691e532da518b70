"""One page stands alone; several stand in tabs."""

from __future__ import annotations

import dataclasses
import errno
import html
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.testclient import TestClient

from shared.serving.page.tabs import Page, Part, build_blocks, heading, mount_pages

HOSTILE = '<img src=x onerror="window.wasRun=1">'
PHOTOS = Page("Photos", "What is in this photo?", list, lambda: [("tagger", "1")], max_file_bytes=1000)
LANGUAGE = Page("Language", "What do you want?", list, lambda: [("intent", "2"), ("qa", "3")], max_file_bytes=2000)


def labels(pages: list[Page], kind: type) -> list[str]:
    return [part.label for part in build_blocks(pages).blocks.values() if type(part) is kind]


def drawn(pages: list[Page]) -> str:
    return "\n".join(str(part.value) for part in build_blocks(pages).blocks.values() if isinstance(part, gr.HTML))


def test_page_alone_has_no_tab_and_says_whose_it_is():
    assert labels([PHOTOS], gr.Tab) == []
    assert drawn([PHOTOS]).count("<h1>") == 1
    assert "Percept" in drawn([PHOTOS])
    assert build_blocks([PHOTOS]).title == "Percept: What is in this photo?"


def test_each_page_has_its_tab_and_the_brand_stands_once():
    assert labels([PHOTOS, LANGUAGE], gr.Tab) == ["Photos", "Language"]
    shown = drawn([PHOTOS, LANGUAGE])
    assert [shown.count(text) for text in ("p-brand", "API docs", "tagger", "intent", "qa")] == [1, 1, 1, 1, 1]


def test_page_fills_its_own_tab():
    page = dataclasses.replace(LANGUAGE, fill=lambda: [Part(lambda: "mine")])
    blocks = build_blocks([PHOTOS, page])
    mine = next(part for part in blocks.blocks.values() if isinstance(part, gr.HTML) and part.value == "mine")
    assert mine.parent is not None
    assert mine.parent.elem_id == "page-language"


def test_what_a_page_says_of_itself_is_escaped():
    page = dataclasses.replace(PHOTOS, title=HOSTILE, summary=lambda: HOSTILE, models=lambda: [(HOSTILE, HOSTILE)])
    text = heading(page, is_alone=True)
    assert HOSTILE not in text
    assert html.unescape(text).count(HOSTILE) == 4


def test_a_visitor_sees_the_models_of_now_and_only_what_changed_is_sent():
    versions = ["1"]
    page = dataclasses.replace(PHOTOS, models=lambda: [("tagger", versions[-1])], fill=lambda: [Part(lambda: "mine")])
    with TestClient(mount_pages([page])) as client:
        (load,) = client.get("/ui/config").json()["dependencies"]

        def loaded() -> list[Any]:
            body = {"data": [], "fn_index": load["id"], "session_hash": "test"}
            return client.post("/ui/gradio_api/run/predict", json=body).json()["data"]

        assert [part["__type__"] for part in loaded()] == ["update", "update"]  # an update without a value: as it is
        assert "mine" not in str(loaded())
        versions.append("2")
        heading, mine = loaded()
    assert "<span>2</span>" in heading
    assert "mine" not in str(mine)


@pytest.mark.parametrize("size", [1500, 2500])
def test_largest_file_that_any_page_takes_is_the_limit(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with TestClient(mount_pages([PHOTOS, LANGUAGE])) as client:
        assert client.get("/ui/config").json()["max_file_size"] == 2000  # the browser says so first
        answer = client.post("/ui/gradio_api/upload", files={"files": ("photo.png", bytes(size))})
    assert answer.status_code == (200 if size < 2000 else 413)


def test_an_upload_that_the_disk_has_no_room_for_is_503_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "secret"))

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    client = TestClient(mount_pages([PHOTOS]), raise_server_exceptions=False)
    files = {"files": ("photo.png", b"bytes", "image/png")}
    assert client.post("/ui/gradio_api/upload", files=files).status_code == 200
    monkeypatch.setattr(Path, "write_bytes", full)
    answer = client.post("/ui/gradio_api/upload", files=files)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable")
    assert "disk is full" in answer.text
    assert "secret" not in answer.text
