"""One real server for the clients in Python and in TypeScript."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.bundle.read import Bundle
from tests.server import Server, serving

KEY = "the admin's"


@pytest.fixture(scope="package")
def server(
    tagger_bundle: Bundle, intent_bundle: Bundle, qa_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    bundles = [tagger_bundle.path, intent_bundle.path, qa_bundle.path]
    settings = {
        "PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite"),
        "PERCEPT_KNOWLEDGE_DOCUMENTS": "none",
        "PERCEPT_ADMIN_KEY": KEY,
        "PERCEPT_MAX_TEXTS": "2",
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(bundles, folder / "log.txt", "--no-ui", workers=1, models=3, **settings) as server,
    ):
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server
