"""`percept serve` with language bundles over real sockets, with two workers and the clients that people use."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bentoml
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from shared.bundle.read import Bundle
from shared.project import PROJECT_ROOT
from tests.language_bundles import make_intent_bundle
from tests.nlp.conftest import ADMIN_KEY, DOCUMENT
from tests.server import Answer, Server, command, environment, free_port, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]
JSON = "application/json"
CONTEXT = "🎉 Le moteur fut décrit à Londres par Émile, puis par Ada."

HALF_PAIRS = b'{"text": "\\ud83d", "texts": ["\\ud83d"], "question": "\\ud83d"}'


@pytest.fixture(scope="module")
def intent_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_intent_bundle(tmp_path_factory.mktemp("bundles") / "intent", has_entities=True)


@pytest.fixture(scope="module")
def server(intent_bundle: Bundle, qa_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite"),
        "PERCEPT_ADMIN_KEY": ADMIN_KEY,
        "PERCEPT_MAX_BODY_BYTES": str(1 << 20),
        "PERCEPT_EXTRACTORS": "time,money",
    }
    bundles = [qa_bundle.path, intent_bundle.path]
    with serving(bundles, folder / "log.txt", "--no-ui", models=2, **settings) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def post(server: Server, path: str, **body: object) -> Answer:
    return server.post(path, json.dumps(body).encode(), JSON)


def test_it_says_what_it_serves_and_that_it_is_ready(server: Server, intent_bundle: Bundle, qa_bundle: Bundle):
    server.wait_for("announced", lambda: "Percept serves tiny-intent, tiny-qa" in server.log.read_text())
    ready = server.get("/readyz")
    assert ready.json == {"status": "ready"}
    assert ready.headers["x-model-name"] == f"{intent_bundle.name}, {qa_bundle.name}"
    assert len(server.workers) == 2


def test_french_flows_through_every_route_unharmed(server: Server):
    assert post(server, "/v1/intent", text="Réserve-moi un vol").json["results"][0]["intent"] == "book_flight"
    found = post(server, "/v1/answer", question="Qui l'a décrit ?", context=CONTEXT)
    answer = found.json["answer"]
    assert CONTEXT[answer["start"] : answer["end"]] == answer["text"] == "Émile"
    assert "Émile".encode() in found.body  # written as it is, not in escapes
    assert post(server, "/v1/understand", text="Joue une chanson").json["intent"]["intent"] == "play_music"
    parsed = post(server, "/model/parse", text="Météo à Nîmes ?").json
    assert (parsed["text"], parsed["intent"]["name"]) == ("Météo à Nîmes ?", "weather")


def test_a_single_answer_names_the_model_behind_it(server: Server):
    assert post(server, "/v1/intent", text="play").headers["x-model-name"] == "tiny-intent"
    assert post(server, "/v1/answer", question="qui", context="ada").headers["x-model-name"] == "tiny-qa"
    assert server.get("/v2/models/tiny-qa").headers["x-model-name"] == "tiny-qa"


def test_hugging_faces_client_finds_entities(server: Server):
    client = InferenceClient(model=f"{server.url}/hf/token-classification")
    text = "🎶 play Marie Curie, then Ada"
    for strategy in (None, "simple", "first", "average", "max"):
        found = client.token_classification(text, aggregation_strategy=strategy)
        assert [(each.entity_group, each.word) for each in found] == [
            ("person.singer", "Marie Curie"),
            ("person.singer", "Ada"),
        ]
        assert all(text[each.start : each.end] == each.word and 0 < each.score <= 1 for each in found)
    words = client.token_classification(text, aggregation_strategy="none", ignore_labels=["O", "I-person.singer"])
    assert [(each.entity, each.word) for each in words] == [("B-person.singer", "Marie"), ("B-person.singer", "Ada")]


def test_entities_come_from_every_worker(server: Server):
    body = {"text": "Ada, demain à 8 h", "now": "2026-11-24T10:15:00+01:00", "time_zone": "Europe/Paris"}
    for _ in range(8):
        [result] = post(server, "/v1/entities", **body).json["results"]
        found = [(each["value"], each["extractor"]) for each in result["entities"]]
        assert found == [("Ada", "percept"), ("2026-11-25T08:00:00+01:00", "built-in")]


def test_hugging_faces_client_classifies_texts(server: Server):
    client = InferenceClient(model=f"{server.url}/hf/text-classification")
    labels = client.text_classification("Réserver un vol pour Lyon")
    assert [each.label for each in labels] == ["book_flight", "play_music", "weather"]
    assert labels[0].score == pytest.approx(1, abs=1e-2)
    (best,) = client.text_classification("météo", top_k=1, function_to_apply="none")
    assert (best.label, best.score) == ("weather", pytest.approx(4, abs=1e-3))
    with pytest.raises(HfHubHTTPError, match="inputs is empty or blank"):
        client.text_classification(" ")


def test_hugging_faces_client_answers_questions(server: Server):
    client = InferenceClient(model=f"{server.url}/hf/question-answering")
    best = client.question_answering(question="Qui l'a décrit ?", context=CONTEXT)
    assert CONTEXT[best.start : best.end] == best.answer == "Émile"
    assert best.score > 0.99
    several = client.question_answering(question="Qui ?", context=CONTEXT, top_k=2, max_answer_len=1)
    assert [each.answer for each in several] == ["Émile", "Ada"]
    none = client.question_answering(question="Qui ?", context="Il pleut.", handle_impossible_answer=True)
    assert (none.answer, none.start, none.end) == ("", 0, 0)


def test_bentomls_client_asks(server: Server):
    with bentoml.SyncHTTPClient(server.url) as client, client._temp_dir:  # BentoML 1.4.39 leaves the folder behind
        assert client.is_ready()
        results = client.intent(texts=["météo", "", "play"], top_k=1)["results"]
        assert [result.get("intent") for result in results] == ["weather", None, "play_music"]
        answer = client.answer(question="Qui ?", context=CONTEXT)["answer"]
        assert CONTEXT[answer["start"] : answer["end"]] == answer["text"] == "Émile"
        assert client.understand(text="play a song")["intent"]["intent"] == "play_music"
        with pytest.raises(bentoml.exceptions.BentoMLException, match="empty or blank"):
            client.answer(question=" ", context=CONTEXT)


@pytest.mark.parametrize("path", ["/bento/intent", "/bento/answer", "/bento/understand"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", HALF_PAIRS, b"\xff", b"[" * 5000])
def test_bad_bodies_of_bentomls_methods_are_4xx_or_answered(server: Server, path: str, body: bytes):
    answer = server.post(path, body, JSON)
    assert answer.status < 500, answer.body
    assert answer.status >= 400 or "error" in answer.json["results"][0]


def test_open_inference_answers_with_each_networks_outputs(server: Server, intent_bundle: Bundle, qa_bundle: Bundle):
    assert server.get("/v2/health/ready").json["ready"] is True
    for bundle in (intent_bundle, qa_bundle):
        inputs = [
            {"name": name, "shape": rows.shape, "datatype": "INT64", "data": rows.ravel().tolist()}
            for name, rows in bundle.golden.inputs.items()
        ]
        answer = post(server, f"/v2/models/{bundle.name}/infer", id="call-7", inputs=inputs)
        assert (answer.status, answer.json["id"]) == (200, "call-7")
        for output in answer.json["outputs"]:
            expected = bundle.golden.outputs[output["name"]]
            np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), expected, atol=1e-4)


def test_a_document_put_to_one_worker_is_found_by_every_worker(server: Server):
    path = "/v1/knowledge/docs/moteur.md"
    key = {"authorization": f"Bearer {ADMIN_KEY}".encode()}
    assert server.request("PUT", path, DOCUMENT).status == 401
    assert server.request("PUT", path, DOCUMENT, **key).status == 201
    for _ in range(12):  # whichever worker is asked
        body = post(server, "/v1/answer", question="Combien coûte le moteur ?").json
        assert (body["answer"]["text"], body["answer"]["source"]["document"]) == ("42", "docs/moteur.md")
    listed = [each["id"] for each in server.get("/v1/knowledge").json["documents"]]
    assert {"docs/moteur.md", "percept/README.md"} <= set(listed)
    assert len(listed) == len(set(listed))
    assert server.request("DELETE", path, **key).status == 204
    for _ in range(12):
        assert server.get(path).status == 404
    assert ADMIN_KEY not in server.log.read_text()


def test_bad_requests_never_disturb_good_ones_and_are_never_a_500(server: Server):
    bad = [
        ("/v1/intent", b""),
        ("/v1/intent", b'{"text": "\\ud83d"}'),
        ("/v1/intent", b'{"text": ""}'),
        ("/v1/intent", b'{"text": "' + b"x" * 900_000 + b'"}'),
        ("/v1/answer", b'{"question": 5}'),
        ("/v1/answer", b'{"question": "qui", "context": "\\u0000"}'),
        ("/v1/understand", b"[" * 30_000),
        ("/model/parse", b"{}"),
        ("/hf/text-classification", b'{"inputs": {}}'),
        ("/hf/question-answering", b'{"inputs": "x"}'),
        ("/v2/models/tiny-qa/infer", b'{"inputs": []}'),
        ("/v1/knowledge/a.md", b"{}"),
        ("/bento/intent", b"\x80\x04."),
        ("/v1/intent", bytes(2 << 20)),
    ]
    good = ("/v1/intent", '{"text": "météo"}'.encode())
    jobs = [good if i % 2 else bad[i // 2 % len(bad)] for i in range(6 * len(bad))]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda job: server.post(*job, JSON), jobs))
    for job, answer in zip(jobs, answers, strict=True):
        if job is good:
            assert (answer.status, answer.json["results"][0]["intent"]) == (200, "weather")
        else:
            assert 400 <= answer.status < 500, (job[0], job[1][:50], answer.body)
            assert "error" in answer.json
    assert server.metric("percept_faults_total") == 0


def test_many_clients_at_once_each_get_their_own_answer(server: Server):
    names = ["ada", "marie", "hugo", "curie"]
    jobs = [(name, "rien " * (i % 40) + name) for i in range(40) for name in names]

    def ask(job: tuple[str, str]) -> Answer:
        return post(server, "/v1/answer", question="qui ?", context=job[1])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, jobs))
    assert [answer.json["answer"]["text"] for answer in answers] == [name for name, _ in jobs]


def test_the_log_is_json_without_what_clients_sent(server: Server):
    post(server, "/v1/intent", text="secret-word")
    post(server, "/v1/intent", secret="word")
    text = server.log.read_text()
    lines = [line for line in text.splitlines() if line.startswith("{")]
    assert all(json.loads(line)["time"] for line in lines)
    assert "secret" not in text
    assert "Traceback" not in text


# Servers of their own, because they end.


def test_a_request_in_flight_at_sigterm_is_answered_and_the_server_ends_with_0(intent_bundle: Bundle, tmp_path: Path):
    body = '{"text": "météo"}'.encode()
    with serving(intent_bundle.path, tmp_path / "log.txt", "--no-ui", workers=1) as server:
        assert post(server, "/v1/answer", question="qui", context="ada").status == 404
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            head = f"POST /v1/intent HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode() + body[:5])
            server.wait_for("in flight", lambda: server.metric("percept_http_requests_in_progress") == 2)
            server.process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(1)
            connection.sendall(body[5:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"weather"' in answer
        assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()


def test_while_a_server_ends_newcomers_are_told_so_at_once_and_idle_connections_do_not_hold_it_up(
    intent_bundle: Bundle, tmp_path: Path
):
    body = b'{"text": "weather"}'
    with serving(intent_bundle.path, tmp_path / "log.txt", "--no-ui", workers=2) as server:
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        idle.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(b"POST /v1/intent HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
            server.wait_for("in flight", lambda: server.metric("percept_http_requests_in_progress") == 2)
            server.process.terminate()
            time.sleep(1)
            for _ in range(3):
                refused = server.get("/livez")
                assert (refused.status, refused.headers["connection"]) == (503, "close")
                assert refused.json["error"]["type"] == "not_ready"
            connection.sendall(body)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        assert server.process.wait(15) == 0  # not `shutdown_s`
        idle.close()
    assert "Traceback" not in server.log.read_text()


def test_the_workers_of_a_server_that_is_killed_end(intent_bundle: Bundle, tmp_path: Path):
    with serving(intent_bundle.path, tmp_path / "log.txt", "--no-ui", workers=2) as server:
        workers = server.workers
        server.process.kill()
        server.process.wait(60)
        end = time.monotonic() + 20
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.parametrize("what", ["knowledge", "documents"])
def test_a_knowledge_base_that_cannot_be_opened_ends_the_start_with_one_line(
    qa_bundle: Bundle, tmp_path: Path, what: str
):
    (tmp_path / "broken.sqlite").write_bytes(b"no database, but long enough to look like one" * 100)
    settings = {
        "knowledge": {"PERCEPT_KNOWLEDGE": str(tmp_path / "broken.sqlite")},
        "documents": {"PERCEPT_KNOWLEDGE": str(tmp_path / "k.sqlite"), "PERCEPT_KNOWLEDGE_DOCUMENTS": "nowhere"},
    }[what]
    arguments = command(qa_bundle.path, "--port", str(free_port()), "--workers", "1", "--no-ui", "--device", "cpu")
    result = subprocess.run(
        arguments,
        cwd=PROJECT_ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith("percept: ")
