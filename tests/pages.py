"""The page of all services, with tiny bundles and a guide to ask about, on two workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nlp.knowledge import KnowledgeBase
from tests.browser import served
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle, make_qa_bundle


@contextmanager
def all_served(folder: Path, title: str) -> Iterator[str]:
    """Give the address of the page; the guide has this title."""
    make_tagger_bundle(folder / "tagger", ("cat", "dog", "car"))
    make_intent_bundle(folder / "intent")
    make_qa_bundle(folder / "qa")
    knowledge = KnowledgeBase(folder / "knowledge.sqlite")
    knowledge.put("guide.md", f"# {title}\n\nThe engine is by ada.".encode())
    knowledge.close()
    with served("tests.page_server:create", folder, {"PAGE_FOLDER": str(folder)}) as address:
        yield address
