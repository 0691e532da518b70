"""The page alone, for the browser tests: uvicorn starts `create` in each of its workers."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette

from shared.bundle.read import read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.serving.page.tabs import mount_pages
from shared.serving.settings import Settings
from tests.browser import NamesItsWorker
from vision.demo import page
from vision.engine import TaggingEngine


def create() -> Starlette:
    """Return the page of the bundle that PAGE_BUNDLE names."""
    bundle = read_bundle(Path(os.environ["PAGE_BUNDLE"]))
    engine = TaggingEngine(bundle, OnnxRuntime(bundle), Settings(max_body_bytes=200_000))
    app = mount_pages([page(lambda: engine)])
    app.add_middleware(NamesItsWorker)
    return app
