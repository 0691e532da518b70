"""The vision API in this process, with the layers that a worker has around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from shared.bundle.read import Bundle
from shared.serving.app import with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings
from vision.api import create_app
from vision.engine import TaggingEngine

OpenClient = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture(scope="session")
def open_client(tagger_bundle: Bundle) -> OpenClient:
    """Opens a client of the API, with settings by name; `change` may alter the engine first."""

    @contextmanager
    def open_one(change: Callable[[TaggingEngine], None] | None = None, **settings: Any) -> Iterator[TestClient]:
        chosen = Settings(tagger=tagger_bundle.path, device="cpu", **settings)

        def load() -> TaggingEngine:
            engine = TaggingEngine.load(chosen)
            if change is not None:
                change(engine)
            return engine

        lifecycle = Lifecycle(load)
        app = with_edge(create_app(lifecycle, chosen), chosen, lifecycle.model)
        with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
            client.lifecycle = lifecycle
            yield client

    return open_one


@pytest.fixture(scope="module")
def client(open_client: OpenClient) -> Iterator[TestClient]:
    with open_client(max_images=4, max_body_bytes=1 << 20) as client:
        yield client
