"""`GET /v1/quality`: what a monitor found last, for administrators alone, and by the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import nlp.api
from nlp.engine import LanguageEngine
from percept import Client, Denied, NotFound, ShareRight
from shared.bundle.read import Bundle
from shared.records.findings import Finding, keep_finding
from shared.records.store import Store
from shared.serving.access.keys import add_key
from shared.serving.app import with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings

ADMIN = {"X-API-Key": "the admin's"}
FOUND = {
    "model": {"name": "m", "version": "1", "task": "intent"},
    "window": {"records": 512},
    "sentence": "No alarm.",
    "alarms": [{"stat": "mean_confidence", "name": "mean confidence", "before": 0.9, "now": 0.91, "p": 0.6,
                "detectable": 0.88, "is_raised": False, "sentence": "mean confidence: …", "power": "…"}],
    "groups": [{"name": "parking", "size": 40, "records": [1, 2], "typical": [1], "nearest": "directions"}],
    "quality": {
        "said": 50, "value": 0.8, "low": 0.67, "high": 0.89, "thumbs": 3, "liked": 2, "expected": 0.95,
        "corrected": {"value": 0.9, "low": 0.8, "high": 0.95}, "audited": None,
    },
}  # fmt: skip
Open = Callable[..., Any]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


@pytest.fixture
def opened(intent_bundle: Bundle, url: str) -> Open:
    """Opens a client of a service that records."""

    @contextmanager
    def make(**changes: Any) -> Iterator[TestClient]:
        chosen: dict[str, Any] = {
            "device": "cpu", "tagger": "none", "intent": intent_bundle.path, "qa": "none", "encoder": "none",
            "writer": "none", "knowledge_documents": "none", "admin_key": ADMIN["X-API-Key"], "records": url,
        }  # fmt: skip
        settings = Settings(**{**chosen, **changes})
        lifecycle: Lifecycle[Any] = Lifecycle(lambda: LanguageEngine.load(settings))
        app = with_edge(nlp.api.create_app(lifecycle, settings), settings, lifecycle.model)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return make


def keep(url: str, model: str = "m", *, days_ago: float = 0.0, **changes: Any) -> None:
    store = Store(url)
    time = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days_ago)
    keep_finding(store, Finding(time, model, "1", "quiet", {**FOUND, **changes}))
    store.close()


def test_the_newest_finding_of_each_model_is_told_without_ids(opened: Open, url: str):
    keep(url, sentence="Older.")
    keep(url)
    keep(url, "another", days_ago=1, quality=None, groups=[], alarms=[])
    with opened() as client:
        other, mine = client.get("/v1/quality", headers=ADMIN).json()["models"]
        only = client.get("/v1/quality", params={"model": "another"}, headers=ADMIN).json()["models"]
    assert (mine["sentence"], mine["records"], mine["state"]) == ("No alarm.", 512, "quiet")
    assert mine["groups"] == [{"name": "parking", "size": 40, "nearest": "directions"}]
    assert mine["quality"]["corrected"] == {"value": 0.9, "low": 0.8, "high": 0.95, "said": None}
    assert mine["quality"]["feedback"]["said"] == 50
    assert mine["quality"]["audited"] is None
    assert 0 <= mine["age_s"] < 600
    assert 86_000 < other["age_s"] < 87_000
    assert [each["model"] for each in only] == ["another"]


def test_before_any_monitor_looked_it_is_404_and_says_what_to_run(opened: Open, url: str):
    with opened() as client:
        answer = client.get("/v1/quality", headers=ADMIN)
        assert answer.status_code == 404
        assert "percept monitor BUNDLE --every 30m" in answer.text
        keep(url)
        answer = client.get("/v1/quality", params={"model": "stranger"}, headers=ADMIN)
        assert answer.status_code == 404
        assert "'stranger'" in answer.text


def test_only_an_administrator_reads_it(opened: Open, url: str, tmp_path: Path):
    keep(url)
    shop = add_key(tmp_path / "keys.json", "shop")
    with opened(api_keys_file=tmp_path / "keys.json") as client:
        assert client.get("/v1/quality").status_code == 401
        assert client.get("/v1/quality", headers={"X-API-Key": shop}).status_code == 403
        assert client.get("/v1/quality", headers=ADMIN).status_code == 200


def test_a_service_that_records_nothing_says_so(opened: Open):
    with opened(records=None) as client:
        answer = client.get("/v1/quality", headers=ADMIN)
    assert answer.status_code == 403
    assert "PERCEPT_RECORDS" in answer.text


def test_a_finding_of_another_percept_is_shown_as_far_as_it_goes(opened: Open, url: str):
    keep(url, quality={"expected": 0.9, "value": 0.8}, groups=[{"name": "a"}], alarms=[{"stat": "x"}], window=None)
    with opened() as client:
        [found] = client.get("/v1/quality", headers=ADMIN).json()["models"]
    assert (found["records"], found["groups"]) == (0, [])
    assert found["quality"]["expected"] == 0.9


def test_the_client_reads_it(opened: Open, url: str):
    with opened() as service:

        def answer(request: httpx.Request) -> httpx.Response:
            given = service.get(request.url.raw_path.decode(), headers=dict(request.headers))
            return httpx.Response(given.status_code, content=given.content, headers=given.headers)

        transport = httpx.MockTransport(answer)
        with Client("http://test", api_key=ADMIN["X-API-Key"], transport=transport) as client:
            with pytest.raises(NotFound):
                client.quality()
            keep(url)
            [found] = client.quality("m")
        with Client("http://test", transport=transport) as client, pytest.raises(Denied):
            client.quality()
    assert found.groups[0].name == "parking"
    assert found.quality is not None
    assert found.quality.corrected == ShareRight(0.9, 0.8, 0.95, None)
