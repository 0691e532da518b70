"""The language API in this process, with the layers that a worker has around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from nlp.api import create_app
from nlp.engine import LanguageEngine
from shared.bundle.read import Bundle
from shared.serving.app import with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings

OpenClient = Callable[..., AbstractContextManager[TestClient]]
ADMIN_KEY = "schlüssel-1"
DOCUMENT = b"""# Le moteur

Le moteur a \xc3\xa9t\xc3\xa9 d\xc3\xa9crit par Ada en 1815.

## Prix

Il co\xc3\xbbte 42 francs.
"""
"""Two passages; the answer model finds a name and numbers in them."""


@pytest.fixture(scope="session")
def language_settings(intent_bundle: Bundle, qa_bundle: Bundle) -> Callable[..., Settings]:
    """Makes settings of a service with both models and an empty knowledge base of its own in `folder`."""

    def make(folder: Path, **changes: Any) -> Settings:
        chosen = {
            "device": "cpu",
            "intent": intent_bundle.path,
            "qa": qa_bundle.path,
            "knowledge": folder / "knowledge.sqlite",
            "knowledge_documents": "none",
            "encoder": "none",
            "writer": "none",
            "admin_key": ADMIN_KEY,
        }
        return Settings(**{**chosen, **changes})

    return make


@pytest.fixture(scope="session")
def open_client(language_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> OpenClient:
    """Opens a client of the API, with settings by name; `change` may alter the engine first."""

    @contextmanager
    def open_one(change: Callable[[LanguageEngine], None] | None = None, **changes: Any) -> Iterator[TestClient]:
        settings = language_settings(tmp_path_factory.mktemp("knowledge"), **changes)

        def load() -> LanguageEngine:
            engine = LanguageEngine.load(settings)
            if change is not None:
                change(engine)
            return engine

        lifecycle = Lifecycle(load)
        app = with_edge(create_app(lifecycle, settings), settings, lifecycle.model)
        with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
            client.lifecycle = lifecycle
            yield client

    return open_one


@pytest.fixture(scope="module")
def client(open_client: OpenClient) -> Iterator[TestClient]:
    """With one document in the knowledge base."""
    with open_client(max_texts=8, max_text_chars=500, max_context_chars=20_000, max_body_bytes=1 << 20) as client:
        client.lifecycle().knowledge.put("docs/moteur.md", DOCUMENT)
        yield client


@pytest.fixture
def with_engine(language_settings: Callable[..., Settings], tmp_path: Path) -> Callable[..., None]:
    """Runs a coroutine with an engine of both models and the one document."""

    def run_with(use: Callable[[LanguageEngine], Awaitable[None]], **settings: Any) -> None:
        async def run() -> None:
            engine = LanguageEngine.load(language_settings(tmp_path, **settings))
            if engine.knowledge:
                engine.knowledge.put("docs/moteur.md", DOCUMENT)
            try:
                await use(engine)
            finally:
                await engine.close()

        asyncio.run(run())

    return run_with


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random sentence encoder, as transformers saves one."""
    from nlp.embedding.packing import SENTENCES  # torch takes seconds: only where it is needed
    from tests.encoders import make_encoder

    return make_encoder(tmp_path_factory.mktemp("encoders") / "tiny-encoder", SENTENCES)


@pytest.fixture(scope="session")
def embedding_bundle(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle. Read it, never change it."""
    from nlp.embedding.packing import pack_encoder

    return pack_encoder(encoder_folder, tmp_path_factory.mktemp("bundles") / "tiny")
