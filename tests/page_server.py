"""The page of all services in tabs, for the browser tests: uvicorn starts `create` in each of its workers."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette

import nlp.demo
import vision.demo
from shared.bundle.read import read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.serving.page.tabs import mount_pages
from shared.serving.settings import Settings
from tests.browser import NamesItsWorker
from tests.nlp.page_server import language_engine
from vision.engine import TaggingEngine


def create() -> Starlette:
    """Return the pages of what lies in the folder that PAGE_FOLDER names."""
    folder = Path(os.environ["PAGE_FOLDER"])
    bundle = read_bundle(folder / "tagger")
    tagging = TaggingEngine(bundle, OnnxRuntime(bundle), Settings(max_body_bytes=200_000))
    language = language_engine(folder)
    app = mount_pages([vision.demo.page(lambda: tagging), nlp.demo.page(lambda: language)])
    app.add_middleware(NamesItsWorker)
    return app
