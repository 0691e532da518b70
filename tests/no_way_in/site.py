"""A running server with two workers, and what a stranger would like to read of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.bundle.read import Bundle
from tests.canary import Canary, canary
from tests.server import Answer, Server, serving

KEY = "admin-key"
JSON = "application/json"
PICKLE_TYPES = ("application/vnd.bentoml+pickle", "application/octet-stream", "application/x-pickle", JSON)
METHODS = ("/bento/tag", "/bento/tag_base64", "/bento/intent", "/bento/answer", "/bento/understand")
BYTES_ROUTES = ("/v1/tag", "/hf/image-classification", *METHODS)


@dataclass
class Site:
    """A server with what a stranger would like to read of it."""

    server: Server
    folder: Path
    """Bundles, knowledge base and uploads lie in it."""
    canary: Canary


@pytest.fixture(scope="package")
def site(
    tagger_bundle: Bundle, intent_bundle: Bundle, qa_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    settings = {
        "PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite"),
        "PERCEPT_KNOWLEDGE_DOCUMENTS": "none",
        "PERCEPT_ADMIN_KEY": KEY,
        "GRADIO_TEMP_DIR": str(folder),
    }
    bundles = [tagger_bundle.path, intent_bundle.path, qa_bundle.path]
    with canary() as bird, serving(bundles, folder / "log", workers=2, models=3, **settings) as server:
        server.wait_for("open", lambda: b"gradio" in server.get("/ui/").body)
        yield Site(server, folder, bird)


def form(**fields: tuple[str | None, bytes]) -> tuple[bytes, str]:
    """Return a multipart body and its content type; a field has a file name, or None, and its bytes."""
    parts = []
    for name, (file, content) in fields.items():
        named = f'; filename="{file}"' if file is not None else ""
        parts.append(
            f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return b"".join(parts) + b"--b--\r\n", "multipart/form-data; boundary=b"


def post_json(server: Server, path: str, body: object, **headers: str) -> Answer:
    return server.post(path, json.dumps(body).encode(), JSON, **headers)
