"""The language page alone, for the browser tests: uvicorn starts `create` in each of its workers."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette

from nlp.demo import page
from nlp.engine import AnswerEngine, IntentEngine, LanguageEngine
from nlp.knowledge import KnowledgeBase
from shared.bundle.read import read_bundle
from shared.runtime.cpu import OnnxRuntime
from shared.serving.page.tabs import mount_pages
from shared.serving.settings import Settings
from tests.browser import NamesItsWorker


def language_engine(folder: Path) -> LanguageEngine:
    """Return an engine of the folder's bundles `intent` and `qa` and its `knowledge.sqlite`."""
    settings = Settings(max_text_chars=200)
    intent, qa = read_bundle(folder / "intent"), read_bundle(folder / "qa")
    return LanguageEngine(
        intent=IntentEngine(intent, OnnxRuntime(intent), settings),
        qa=AnswerEngine(qa, OnnxRuntime(qa), settings),
        knowledge=KnowledgeBase(folder / "knowledge.sqlite"),
        settings=settings,
    )


def create() -> Starlette:
    """Return the page of what lies in the folder that PAGE_FOLDER names."""
    engine = language_engine(Path(os.environ["PAGE_FOLDER"]))
    app = mount_pages([page(lambda: engine)])
    app.add_middleware(NamesItsWorker)
    return app
