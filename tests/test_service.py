"""The all-in-one service: vision and language on one port, with one page; and what is absent is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bentoml
import pytest

import nlp.api
import vision.api
from shared.bundle.read import Bundle
from shared.project import PROJECT_ROOT
from shared.serving.app import DirectApi
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings
from tests.pictures import GREEN, plain
from tests.promql import OF_MONITOR, SCRAPED, exposed, expressions, queried_variables, used
from tests.server import Server, environment, serving


@pytest.fixture(scope="module")
def server(
    tagger_bundle: Bundle, intent_bundle: Bundle, qa_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    bundles = [tagger_bundle.path, intent_bundle.path, qa_bundle.path]
    settings = {"PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite")}
    with serving(bundles, folder / "log.txt", workers=1, models=3, **settings) as server:
        yield server


def post(server: Server, path: str, **body: object):
    return server.post(path, json.dumps(body).encode(), "application/json")


def test_the_routes_that_services_live_by_take_the_short_way():
    settings = Settings()
    apps: list[DirectApi] = [
        module.create_app(Lifecycle(lambda: pytest.fail("nothing is loaded"), drain_s=0), settings)
        for module in (vision.api, nlp.api)
    ]
    photos, texts = (set(app.direct_paths) for app in apps)
    assert photos == {"/v1/tag", "/hf/image-classification"}
    assert texts == {
        "/v1/intent",
        "/v1/entities",
        "/v1/answer",
        "/v1/understand",
        "/v1/embed",
        "/openai/v1/chat/completions",
        "/openai/v1/embeddings",
        "/model/parse",
        "/hf/text-classification",
        "/hf/question-answering",
        "/hf/token-classification",
    }


@pytest.mark.server
@pytest.mark.slow
class TestServer:
    """`percept serve TAGGER INTENT QA` over a real socket."""

    def test_every_service_answers_on_the_one_port(self, server: Server):
        tagged = server.post("/v1/tag", plain(GREEN))
        assert tagged.json["results"][0]["tags"][0]["label"] == "dog"
        assert tagged.headers["x-model-name"] == "tiny-tagger"
        understood = post(server, "/v1/intent", text="Réserve-moi un vol")
        assert understood.json["results"][0]["intent"] == "book_flight"
        assert understood.headers["x-model-name"] == "tiny-intent"
        answered = post(server, "/v1/answer", question="Qui ?", context="C'est Émile.")
        assert answered.json["answer"]["text"] == "Émile"
        assert answered.headers["x-model-name"] == "tiny-qa"
        assert server.post("/hf/image-classification", plain()).json[0]["label"] == "cat"
        assert post(server, "/model/parse", text="xyzzy").json["intent"]["name"] == "nlu_fallback"

    def test_readiness_metrics_and_open_inference_are_of_all_three(self, server: Server):
        names = ["tiny-tagger", "tiny-intent", "tiny-qa"]
        assert server.get("/readyz").headers["x-model-name"] == ", ".join(names)
        assert server.metric("percept_model_ready") == 3
        for name in names:
            assert server.get(f"/v2/models/{name}/ready").json == {"name": name, "ready": True}
        assert "'tiny-tagger', 'tiny-intent', 'tiny-qa'" in server.get("/v2/models/stranger").json["error"]

    def test_what_the_dashboard_and_the_alerts_ask_for_is_in_the_metrics(self, server: Server):
        post(server, "/v1/answer", question="Qui ?")  # searches the documents
        shown = exposed(server.get("/metrics").body.decode())
        wanted = [item for expression in expressions() for item in used(expression).items()]
        wanted += [(metric, {label}) for metric, label in queried_variables()]
        for metric, labels in wanted:
            if metric.startswith(OF_MONITOR):  # another process shows them: tests/shared/monitoring/test_watching.py
                continue
            assert metric in shown, metric
            assert labels - SCRAPED <= shown[metric], metric

    def test_labels_of_metrics_are_never_what_a_client_made_up(self, server: Server):
        server.request("MADEUP", "/made-up-path?made=up", **{"x-made-up": "made-up", "traceparent": "made-up"})
        server.get("/v2/models/made-up")
        server.get("/v1/knowledge/made-up")
        post(server, "/v1/intent", text="made-up")
        assert "made" not in server.get("/metrics").body.decode().lower()

    def test_one_document_describes_all_routes(self, server: Server):
        paths = server.get("/openapi.json").json["paths"]
        assert {"/v1/tag", "/v1/intent", "/v1/answer", "/model/parse", "/hf/image-classification"} <= set(paths)

    def test_bentomls_client_has_the_methods_of_both(self, server: Server, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with bentoml.SyncHTTPClient(server.url) as client, client._temp_dir:  # BentoML leaves the folder behind
            assert client.tag(plain())["results"][0]["tags"][0]["label"] == "cat"
            assert client.intent(texts=["play"])["results"][0]["intent"] == "play_music"

    def test_the_page_opens_and_shows_both(self, server: Server):
        assert server.get("/").headers["location"] == "/ui"
        server.wait_for("open", lambda: (answer := server.get("/ui/")).status == 200 and b"gradio" in answer.body)
        config = server.get("/ui/config").body.decode()
        assert "page-photos" in config
        assert "page-language" in config or "page-chat" in config or config.count('"page-') > 1
        assert "Traceback" not in server.log.read_text()


def in_process(script: str, tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own: a service reads its settings when it is imported."""
    env = environment(BENTOML_HOME=str(tmp_path), PERCEPT_UI="false", PERCEPT_KNOWLEDGE=str(tmp_path / "k"), **settings)
    return subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, env=env, capture_output=True, text=True, check=False
    )


ASK = """
from starlette.testclient import TestClient
import service
with TestClient(service.Percept.to_asgi()) as client:
    for method, path, body in [("GET", "/readyz", None), ("POST", "/v1/tag", None),
                               ("POST", "/v1/intent", {"text": "play"}),
                               ("POST", "/v1/answer", {"question": "qui", "context": "ada"})]:
        answer = client.request(method, path, json=body)
        print(answer.status_code, answer.headers["x-model-name"], answer.text)
"""


@pytest.mark.slow
def test_what_there_is_no_bundle_for_is_404_and_the_rest_answers(
    tmp_path: Path, qa_bundle: Bundle, tagger_bundle: Bundle
):
    alone = {"PERCEPT_TAGGER": "none", "PERCEPT_INTENT": "none", "PERCEPT_QA": str(qa_bundle.path)}
    result = in_process(ASK, tmp_path, **alone)
    assert result.returncode == 0, result.stderr
    ready, tag, intent, answer = [line for line in result.stdout.splitlines() if line[:3].isdigit()]
    assert ready.startswith("200 tiny-qa ")
    assert tag.startswith("404 ")
    assert "no tagger" in tag
    assert "no intent model" in intent
    assert answer.startswith("200 ")
    alone = {"PERCEPT_TAGGER": str(tagger_bundle.path), "PERCEPT_INTENT": "none", "PERCEPT_QA": "none"}
    result = in_process(ASK, tmp_path, **alone)
    ready, tag, intent, answer = [line for line in result.stdout.splitlines() if line[:3].isdigit()]
    assert ready.startswith("200 tiny-tagger ")
    assert tag.startswith("400 ")
    assert "no language model" in intent
    assert answer.startswith("404 ")


def test_without_any_bundle_the_check_before_the_start_ends_it(tmp_path: Path):
    nothing = {"PERCEPT_TAGGER": "none", "PERCEPT_INTENT": "none", "PERCEPT_QA": "none"}
    result = in_process("import service; service.Percept.inner.check()", tmp_path, **nothing)
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].startswith("percept: there is no bundle to serve.")


def test_two_models_of_one_name_are_refused(tmp_path: Path, intent_bundle: Bundle):
    script = (
        "from pathlib import Path\n"
        "from tests.bundles import make_tagger_bundle\n"
        "import os, service\n"
        "from shared.serving.settings import Settings\n"
        "tagger = make_tagger_bundle(Path(os.environ['FOLDER']) / 'tagger', name='tiny-intent').path\n"
        "settings = Settings(tagger=tagger, intent=os.environ['INTENT'], qa='none', device='cpu')\n"
        "service.Everything.load(settings)\n"
    )
    result = in_process(script, tmp_path, FOLDER=str(tmp_path), INTENT=str(intent_bundle.path))
    assert "ConfigError: two of the bundles tiny-intent, tiny-intent have the same name" in result.stderr
