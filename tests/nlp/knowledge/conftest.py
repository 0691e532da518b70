from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nlp.knowledge import KnowledgeBase


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "knowledge.sqlite"


@pytest.fixture
def knowledge(file: Path) -> Iterator[KnowledgeBase]:
    opened = KnowledgeBase(file)
    yield opened
    opened.close()
