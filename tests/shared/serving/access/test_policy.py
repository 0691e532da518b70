"""Who may come in: with keys every route needs one but health, and no answer, log line or metric holds a key."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from prometheus_client import REGISTRY, generate_latest
from pydantic import SecretStr
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from shared.serving import app as serving_app
from shared.serving.access import policy as access
from shared.serving.access.keys import add_key
from shared.serving.access.policy import admin_only
from shared.serving.app import with_edge
from shared.serving.http.errors import install_error_handlers
from shared.serving.observe.logs import RequestLog
from shared.serving.settings import Settings

OPEN = ["/livez", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"]
BROWSED = ["/", "/ui", "/ui/config", "/docs", "/docs/assets/x.css", "/openapi.json", "/metrics"]
CLOSED = [
    "/v1/word",
    "/v2/models/m",
    "/schema.json",
    "/nowhere",
    "/livez/",
    "/livezz",
    "/uix",
    "/x//livez",
    "/v2/health",
]
SHOP = "https://shop.example"


class Door:
    """A service with keys, and what it logs."""

    def __init__(self, folder: Path, log: io.StringIO, **settings: Any) -> None:
        self.file = folder / "keys.json"
        self.user = add_key(self.file, "shop")
        self.admin = add_key(self.file, "boss", role="admin")
        self.log = log
        chosen = Settings(api_keys_file=self.file, **settings)
        app = FastAPI(openapi_url=None)
        install_error_handlers(app)

        @app.post("/admin", dependencies=[Depends(admin_only(chosen))])
        async def admin() -> str:
            return "changed"

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        async def any_path(path: str) -> str:
            return "in"

        self.client = TestClient(with_edge(app, chosen, lambda: None))

    def status(self, path: str, method: str = "GET", **headers: str) -> int:
        return int(self.client.request(method, path, headers=headers).status_code)


MakeDoor = Callable[..., Door]


@pytest.fixture
def make_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeDoor:
    log = io.StringIO()
    monkeypatch.setattr(serving_app, "RequestLog", lambda lines_per_s: RequestLog(lines_per_s, log))
    return lambda **settings: Door(tmp_path, log, **settings)


@pytest.fixture
def door(make_door: MakeDoor) -> Door:
    return make_door()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(key: str, name: str = "me") -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{name}:{key}'.encode()).decode()}"}


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_key(door: Door, path: str):
    assert door.status(path) == 200


@pytest.mark.parametrize("path", [*CLOSED, *BROWSED])
def test_every_other_route_needs_one_and_says_how(door: Door, path: str):
    response = door.client.get(path)
    assert response.status_code == 401
    scheme = "Basic" if path in BROWSED else "Bearer"
    assert response.headers["www-authenticate"].startswith(scheme)
    error = response.json()["error"]
    if path.startswith("/v2"):
        assert error.startswith("this needs a key.")
    else:
        assert (error["type"], error["request_id"]) == ("unauthorized", response.headers["x-request-id"])


@pytest.mark.parametrize("path", [*CLOSED, *BROWSED])
def test_a_key_opens_every_route_as_bearer_and_in_its_own_header(door: Door, path: str):
    for headers in (bearer(door.user), {"authorization": f"bearer  {door.user} "}, {"x-api-key": door.user}):
        assert door.status(path, **headers) == 200


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer"}, {"x-api-key": ""}, bearer("x"), basic("x"), {"x-api-key": "é"}]
)
def test_what_is_no_key_opens_nothing(door: Door, headers: dict[str, str]):
    encoded = {name: value.encode() for name, value in headers.items()}
    assert door.client.get("/v1/word", headers=encoded).status_code == 401
    assert door.client.get("/ui", headers=encoded).status_code == 401


def test_basic_opens_what_a_browser_shows_and_no_more(door: Door):
    for path in BROWSED:
        assert door.status(path, **basic(door.user)) == 200
    assert door.status("/ui", **basic(f"{door.user}:x")) == 401
    for path in CLOSED:
        assert door.status(path, **basic(door.user)) == 401
    assert door.status("/admin", "POST", **basic(door.admin)) == 401


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("cross-site", 401), ("same-site", 401)]
)
def test_no_other_site_uses_what_a_browser_was_told(door: Door, site: str, status: int):
    assert door.status("/ui/run", "POST", **basic(door.user), **{"sec-fetch-site": site}) == status


@pytest.mark.parametrize(
    "headers", [{"authorization": "Basic !"}, {"authorization": "Basic /w=="}, {"authorization": "Basic"}]
)
def test_basic_that_cannot_be_read_is_401(door: Door, headers: dict[str, str]):
    assert door.status("/ui", **headers) == 401


def test_only_an_administrators_key_changes_anything(make_door: MakeDoor):
    door = make_door(admin_key="root")
    assert door.status("/admin", "POST", **bearer(door.admin)) == 200
    assert door.status("/admin", "POST", **{"x-api-key": "root"}) == 200
    response = door.client.post("/admin", headers=bearer(door.user))
    assert (response.status_code, response.json()["error"]["type"]) == (403, "forbidden")
    assert door.status("/admin", "POST") == 401


@pytest.mark.parametrize(("area", "paths"), [("ui", BROWSED[1:3]), ("docs", BROWSED[3:6]), ("metrics", BROWSED[6:])])
def test_a_setting_opens_page_documentation_or_metrics_to_all(make_door: MakeDoor, area: str, paths: list[str]):
    door = make_door(public=[area])
    for path in [*CLOSED, *BROWSED]:
        assert door.status(path) == (200 if path in paths else 401), path


def test_an_expired_key_says_so(make_door: MakeDoor, tmp_path: Path):
    old = add_key(tmp_path / "keys.json", "old", expires=date(2020, 1, 1))
    response = make_door().client.get("/v1/word", headers=bearer(old))
    assert response.status_code == 401
    assert "expired after 2020-01-01" in response.json()["error"]["message"]


def test_beyond_its_rate_a_key_is_429_and_others_are_not(make_door: MakeDoor, tmp_path: Path):
    slow = add_key(tmp_path / "keys.json", "slow", requests_per_minute=2)
    door = make_door()
    answers = [door.client.get("/v1/word", headers=bearer(slow)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["type"] == "rate_limited"
    assert 20 <= int(answers[2].headers["retry-after"]) <= 30  # one of two a minute comes back after 30 s
    assert door.status("/v1/word", **bearer(door.user)) == 200
    assert door.status("/livez", **bearer(slow)) == 200


def test_a_stranger_gets_no_byte_of_a_body_read(door: Door):
    scope = {"type": "http", "method": "POST", "path": "/v1/word", "headers": [], "query_string": b""}
    sent = []

    async def receive():
        raise AssertionError("it was read")

    async def send(message):
        sent.append(message)

    asyncio.run(door.client.app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_a_websocket_is_refused(door: Door):
    with pytest.raises(WebSocketDisconnect), door.client.websocket_connect("/ui/queue", headers=bearer(door.user)):
        pass


def test_log_and_metrics_name_the_holder_and_never_the_key(make_door: MakeDoor, tmp_path: Path):
    slow = add_key(tmp_path / "keys.json", "slow", requests_per_minute=1)
    old = add_key(tmp_path / "keys.json", "old", expires=date(2020, 1, 1))
    door = make_door(admin_key="root-secret")
    sent = [door.user, slow, slow, old, "root-secret", "percept_wrong"]
    bodies = [door.client.get("/v1/word", headers=bearer(key)).text for key in sent]
    bodies += [door.client.get("/ui", headers=basic(key)).text for key in sent]
    lines = [json.loads(line) for line in door.log.getvalue().splitlines()]
    assert [line.get("key") for line in lines[:6]] == ["shop", "slow", None, None, "admin", None]
    metrics = generate_latest(REGISTRY).decode()
    for key in sent:
        assert key not in door.log.getvalue() + metrics + "".join(bodies)
    for name, outcome in (("shop", "admitted"), ("slow", "rate_limited"), ("old", "expired"), ("", "unknown")):
        labels = {"key": name, "outcome": outcome}
        assert REGISTRY.get_sample_value("percept_key_requests_total", labels), labels
    assert "percept_wrong" not in metrics


def test_without_a_file_of_keys_anybody_may_ask_and_the_administrators_key_guards_the_rest():
    assert access.access_layers(Settings(admin_key=SecretStr("root"))) == []


# Pages of other origins


def preflight(client: TestClient, origin: str, method: str = "POST", headers: str = "authorization,content-type"):
    asked = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": headers}
    return client.options("/v1/word", headers=asked)


def test_no_other_origin_may_ask_unless_it_is_listed(door: Door):
    assert "access-control-allow-origin" not in preflight(door.client, SHOP).headers
    response = door.client.get("/v1/word", headers=bearer(door.user) | {"origin": SHOP})
    assert "access-control-allow-origin" not in response.headers


def test_a_listed_origin_may_ask_with_a_key_and_its_preflight_needs_none(make_door: MakeDoor):
    door = make_door(cors_origins=[SHOP])
    for method in ("POST", "PUT", "DELETE"):
        response = preflight(door.client, SHOP, method, "authorization,x-api-key,content-type,x-request-id")
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == SHOP
        assert method in response.headers["access-control-allow-methods"]
    response = door.client.get("/v1/word", headers=bearer(door.user) | {"origin": SHOP})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "X-Request-ID" in response.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in response.headers


def test_a_refusal_can_be_read_by_the_page_that_caused_it(make_door: MakeDoor):
    door = make_door(cors_origins=[SHOP])
    response = door.client.get("/v1/word", headers={"origin": SHOP})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (401, SHOP)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://shop.example", "https://shop.example.evil", "null"])
def test_another_origin_than_those_listed_may_not(make_door: MakeDoor, origin: str):
    door = make_door(cors_origins=[SHOP])
    response = preflight(door.client, origin)
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers


# Behind a proxy that shows the service under a path


@pytest.mark.parametrize("prefix", ["", "/percept"], ids=["taken off", "left on"])
def test_below_a_root_path_the_same_routes_are_open_and_closed(make_door: MakeDoor, prefix: str):
    door = make_door(root_path="/percept")
    for path in OPEN:
        assert door.status(prefix + path) == 200
    for path in CLOSED:
        assert door.status(prefix + path) == 401
    assert isinstance(door.client.get(f"{prefix}/v2/models/m").json()["error"], str)
    assert door.client.get(f"{prefix}/ui").headers["www-authenticate"].startswith("Basic")
    assert door.status(f"{prefix}/admin", "POST", **bearer(door.admin)) == 200


def test_every_answer_forbids_to_guess_its_type(door: Door):
    for path in ("/livez", "/v1/word", "/ui"):
        assert door.client.get(path).headers["x-content-type-options"] == "nosniff"
