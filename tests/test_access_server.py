"""A service with keys, behind proxies, over real sockets: every way in is guarded, whichever command started it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import bentoml
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from playwright.sync_api import BrowserContext, Page, expect

from shared.bundle.read import Bundle
from shared.project import PROJECT_ROOT
from shared.serving.access.keys import add_key, remove_key
from tests.browser import launched
from tests.live import live
from tests.pictures import GREEN, plain
from tests.proxy import make_proxy
from tests.server import Server, command, environment, free_port, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = "/percept"
SHOP = "https://shop.example"
RATE = 5
ROUTES = [
    ("GET", "/"),
    ("POST", "/v1/tag"),
    ("PUT", "/v1/model"),
    ("POST", "/v1/feedback"),
    ("DELETE", "/v1/records"),
    ("PUT", "/v1/review"),
    ("GET", "/ui/review"),
    ("POST", "/hf/image-classification"),
    ("GET", "/v2/models/tiny-tagger"),
    ("POST", "/v2/models/tiny-tagger/infer"),
    ("POST", "/bento/tag"),
    ("POST", "/bento/tag_base64"),
    ("GET", "/schema.json"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/ui/"),
    ("GET", "/ui/config"),
    ("POST", "/ui/gradio_api/upload"),
    ("GET", "/nowhere"),
]
HEALTH = ["/livez", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"]


@dataclass(frozen=True)
class Guarded:
    """A server with its file of keys and two of them."""

    server: Server
    file: Path
    user: str
    admin: str
    slow: str


@pytest.fixture(scope="module")
def guarded(tagger_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "keys.json"
    user, admin = add_key(file, "shop"), add_key(file, "boss", role="admin")
    slow = add_key(file, "slow", requests_per_minute=RATE)
    settings = {
        "PERCEPT_API_KEYS_FILE": str(file),
        "PERCEPT_PUBLIC": "metrics",
        "PERCEPT_ROOT_PATH": ROOT,
        "PERCEPT_CORS_ORIGINS": SHOP,
        "PERCEPT_MAX_HEAD_BYTES": "8192",
        "GRADIO_TEMP_DIR": str(folder),
    }
    with serving(tagger_bundle.path, folder / "log.txt", **settings) as server:
        yield Guarded(server, file, user, admin, slow)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("prefix", ["", ROOT])
def test_no_route_answers_a_stranger(guarded: Guarded, method: str, path: str, prefix: str):
    for headers in ({}, bearer("percept_wrong")):
        answer = guarded.server.request(method, prefix + path, **headers)
        assert answer.status == 401
        assert "www-authenticate" in answer.headers
    assert guarded.server.request(method, prefix + path, **bearer(guarded.user)).status != 401


@pytest.mark.parametrize("path", HEALTH)
def test_health_answers_everybody(guarded: Guarded, path: str):
    assert guarded.server.get(path).status == 200


def test_clients_that_send_a_token_work_unchanged(guarded: Guarded, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"{guarded.server.url}/hf/image-classification"
    assert InferenceClient(model=url, token=guarded.user).image_classification(plain(GREEN))[0].label == "dog"
    with pytest.raises(HfHubHTTPError, match="401"):
        InferenceClient(model=url, token="hf_other").image_classification(plain(GREEN))
    with bentoml.SyncHTTPClient(guarded.server.url, token=guarded.user) as client, client._temp_dir:
        assert client.tag(plain(GREEN))["results"][0]["tags"][0]["label"] == "dog"


def test_keys_come_and_go_in_every_worker_without_a_restart(guarded: Guarded):
    secret = add_key(guarded.file, "guest")

    def statuses() -> set[int]:
        answers = [guarded.server.post("/v1/tag", plain(), **bearer(secret)) for _ in range(8)]
        return {answer.status for answer in answers}

    guarded.server.wait_for("let in", lambda: statuses() == {200})
    remove_key(guarded.file, "guest")
    guarded.server.wait_for("shut out", lambda: statuses() == {401})


def test_a_rate_holds_over_both_workers_together(guarded: Guarded):
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: guarded.server.post("/v1/tag", plain(), **bearer(guarded.slow)), range(24)))
    came_back = (time.monotonic() - began) * RATE / 60
    let_in = sum(answer.status == 200 for answer in answers)
    assert RATE <= let_in <= RATE + came_back + 1
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) + let_in == 24
    assert all(answer.json["error"]["type"] == "rate_limited" for answer in refused)
    assert all(1 <= int(answer.headers["retry-after"]) <= 12 for answer in refused)


def test_a_preflight_needs_no_key_and_the_answer_that_follows_may_be_read(guarded: Guarded):
    asked = {"origin": SHOP, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert guarded.server.request("OPTIONS", "/v1/tag", **asked).headers["access-control-allow-origin"] == SHOP
    answer = guarded.server.post("/v1/tag", plain(), **bearer(guarded.user), origin=SHOP)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, SHOP)


def test_a_head_over_the_limit_is_431_whoever_sends_it(guarded: Guarded):
    answer = guarded.server.get("/v1/tag", **{"x-long": "a" * 9000})
    assert (answer.status, answer.json["error"]["type"]) == (431, "too_large")


def test_the_log_names_holders_and_holds_no_key(guarded: Guarded):
    guarded.server.post("/v1/tag", plain(), **bearer(guarded.user))
    guarded.server.get("/ui/", authorization=f"Basic {base64.b64encode(f'x:{guarded.admin}'.encode()).decode()}")

    def named() -> set[str]:
        lines = guarded.server.log.read_text().splitlines()
        return {json.loads(line).get("key") for line in lines if line.startswith("{") and line.endswith("}")}

    # A request's line is written when it is answered, and another process reads the file: it may come a moment later.
    guarded.server.wait_for("both holders in the log", lambda: named() >= {"shop", "boss"})
    log = guarded.server.log.read_text()
    metrics = guarded.server.get("/metrics").body.decode()
    assert guarded.server.metric("percept_key_requests_total", 'key="shop"', 'outcome="admitted"') >= 1
    for key in (guarded.user, guarded.admin, guarded.slow):
        assert key not in log + metrics
        assert base64.b64encode(f"x:{key}".encode()).decode() not in log


# Behind a proxy, in a browser


@pytest.fixture(params=[True, False], ids=["path taken off", "path left on"], scope="module")
def shown(guarded: Guarded, request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of the service as the proxy shows it."""
    with live(make_proxy(guarded.server.url, ROOT, takes_off=request.param), max_head_bytes=65536) as port:
        yield f"http://127.0.0.1:{port}{ROOT}"


@pytest.fixture(scope="module")
def browser(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with launched(tmp_path_factory.mktemp("profile"), key=guarded.user) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def watched(page: Page) -> list[str]:
    """Return a list that fills with what goes wrong on a page from now on."""
    problems: list[str] = []
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on("console", lambda message: problems.append(message.text) if "Security Policy" in message.text else None)
    page.on("response", lambda answer: problems.append(answer.url) if answer.status in (404, 500) else None)
    return problems


def test_the_page_asks_for_a_key_and_works_below_the_path(guarded: Guarded, shown: str, page: Page, tmp_path: Path):
    guarded.server.wait_for("open", lambda: guarded.server.get("/ui/config", **bearer(guarded.user)).status == 200)
    photo = tmp_path / "photo.png"
    photo.write_bytes(plain(GREEN))
    problems = watched(page)
    page.goto(f"{shown}/")
    page.locator("#samples button").first.wait_for()
    assert page.url.startswith(f"{shown}/ui")
    page.set_input_files("#photo input[type=file]", photo)
    expect(page.locator("#tags .p-label").first).to_have_text("dog")
    unused = re.compile(r"/ui/gradio_api/upload_progress\?|/manifest\.json$")  # Gradio asks; no page needs them
    assert [problem for problem in problems if not unused.search(problem)] == []


def test_the_documentation_works_below_the_path(shown: str, page: Page):
    problems = watched(page)
    page.goto(f"{shown}/docs")
    operation = page.locator(".opblock-summary-path", has_text="/v1/tag").first
    operation.wait_for()
    page.locator("#operations-health-livez_livez_get").get_by_role("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
    expect(page.locator(".request-url").first).to_contain_text(f"{shown}/livez")
    assert problems == []


# Servers of their own


def test_bentomls_own_command_enforces_the_same(tagger_bundle: Bundle, tmp_path: Path):
    key = add_key(tmp_path / "keys.json", "shop")
    port = free_port()
    variables = environment(
        BENTOML_HOME=str(tmp_path / "home"),
        BENTOML_DO_NOT_TRACK="True",
        PERCEPT_TAGGER=str(tagger_bundle.path),
        PERCEPT_API_KEYS_FILE=str(tmp_path / "keys.json"),
        PERCEPT_DEVICE="cpu",
        PERCEPT_UI="false",
        PERCEPT_WORKERS="1",
        PERCEPT_MAX_HEAD_BYTES="8192",
    )
    arguments = [sys.executable, "-m", "bentoml", "serve", "vision.service:Vision", "--port", str(port)]
    log = tmp_path / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(arguments, cwd=PROJECT_ROOT, env=variables, stdout=stream, stderr=subprocess.STDOUT)
    server = Server(process, port, log)
    try:
        server.wait_for("ready", lambda: server.get("/readyz").status == 200)
        assert [server.request(method, path).status for method, path in ROUTES if path != "/ui"] == [401] * len(ROUTES)
        assert server.get("/metrics").status == 401
        assert server.post("/v1/tag", plain(), **bearer(key)).status == 200
        assert server.get("/livez", **{"x-long": "a" * 9000}).status == 431
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("content", [None, "{"], ids=["missing", "broken"])
def test_a_file_of_keys_that_cannot_be_read_ends_the_start_with_one_line(
    tagger_bundle: Bundle, tmp_path: Path, content: str | None
):
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    arguments = command(tagger_bundle.path, "--port", str(free_port()), "--workers", "1", "--no-ui", "--device", "cpu")
    variables = environment(PERCEPT_API_KEYS_FILE=str(file))
    result = subprocess.run(
        arguments, cwd=PROJECT_ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode != 0
    assert "Traceback" not in result.stdout + result.stderr
    assert str(file) in result.stderr.splitlines()[-1]
