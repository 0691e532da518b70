"""`percept serve` over real sockets, with two workers and the clients that people use."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bentoml
import numpy as np
import pytest
from huggingface_hub import InferenceClient

from shared.bundle.read import Bundle, Golden
from shared.bundle.write import write_bundle
from shared.project import PROJECT_ROOT
from tests.pictures import BLUE, GREEN, bomb_png, plain, tiff, truncated_jpeg
from tests.server import Server, command, environment, free_port, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]
MAX_BODY_BYTES = 1 << 20


@pytest.fixture(scope="module")
def server(tagger_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving(tagger_bundle.path, log, PERCEPT_MAX_BODY_BYTES=str(MAX_BODY_BYTES)) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def tags_of(body: dict) -> list[list[str]]:
    return [[tag["label"] for tag in result["tags"]] for result in body["results"]]


def form(*images: bytes) -> tuple[bytes, str]:
    """Return a form's body and its content type."""
    head = b'--limit\r\ncontent-disposition: form-data; name="image"; filename="photo"\r\n\r\n'
    body = b"".join(head + image + b"\r\n" for image in images) + b"--limit--\r\n"
    return body, "multipart/form-data; boundary=limit"


def test_it_says_where_it_answers_and_that_it_is_ready(server: Server):
    server.wait_for("announced", lambda: "Percept serves tiny-tagger" in server.log.read_text())
    assert f"docs http://localhost:{server.port}/docs" in server.log.read_text()
    assert server.get("/livez").json == {"status": "alive"}
    assert server.get("/readyz").json == {"status": "ready"}
    assert len(server.workers) == 2


def test_an_image_is_tagged_raw_and_as_a_form(server: Server, tagger_bundle: Bundle):
    raw = server.post("/v1/tag", plain())
    assert (raw.status, tags_of(raw.json)) == (200, [["cat"]])
    assert raw.json["model"] == {"name": tagger_bundle.name, "version": tagger_bundle.version}
    several = server.post("/v1/tag?top_k=1", *form(plain(BLUE), truncated_jpeg(), plain(GREEN)))
    first, second, third = several.json["results"]
    assert first["tags"][0]["label"] == "car"
    assert second["error"]["type"] == "invalid_image"
    assert third["tags"][0]["label"] == "dog"


def test_every_answer_carries_its_request_id_and_the_model(server: Server, tagger_bundle: Bundle):
    for answer in (server.get("/readyz", **{"x-request-id": "mine-1"}), server.get("/x", **{"x-request-id": "mine-1"})):
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["x-model-name"] == tagger_bundle.name
        assert answer.headers["x-model-version"] == tagger_bundle.version


@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_hugging_faces_client_classifies(server: Server, tmp_path: Path, kind: str):
    path = tmp_path / "photo.png"
    path.write_bytes(plain(GREEN))
    client = InferenceClient(model=f"{server.url}/hf/image-classification")
    scores = client.image_classification(path.read_bytes() if kind == "bytes" else path)
    assert [entry.label for entry in scores] == ["dog", "cat", "car"]
    assert scores[0].score == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-4)
    (best,) = client.image_classification(str(path), top_k=1, function_to_apply="none")
    assert (best.label, best.score) == ("dog", pytest.approx(4, abs=1e-3))


def test_bentomls_client_tags(server: Server):
    with bentoml.SyncHTTPClient(server.url) as client, client._temp_dir:  # BentoML 1.4.39 leaves the folder behind
        assert client.is_ready()
        assert tags_of(client.tag(plain(BLUE))) == [["car"]]
        image = base64.b64encode(plain()).decode()
        assert tags_of(client.tag_base64(image=image, min_score=0.0, top_k=2)) == [["cat", "dog"]]
        with pytest.raises(bentoml.exceptions.BentoMLException, match="truncated or broken"):
            client.tag_base64(image=base64.b64encode(truncated_jpeg()).decode())


def test_open_inference_answers_with_the_networks_logits(server: Server, tagger_bundle: Bundle):
    assert server.get("/v2/health/ready").json["ready"] is True
    pixels = tagger_bundle.golden.inputs["pixel_values"]
    tensor = {"name": "pixel_values", "shape": pixels.shape, "datatype": "FP32", "data": pixels.ravel().tolist()}
    path = f"/v2/models/{tagger_bundle.name}/infer"
    answer = server.post(path, json.dumps({"id": "call-7", "inputs": [tensor]}).encode(), "application/json")
    assert (answer.status, answer.json["id"]) == (200, "call-7")
    logits = np.reshape(answer.json["outputs"][0]["data"], answer.json["outputs"][0]["shape"])
    np.testing.assert_allclose(logits, tagger_bundle.golden.outputs["logits"], atol=1e-4)
    assert server.get("/v2/models/stranger").json == {
        "error": f"there is no model 'stranger' here. The model is called {tagger_bundle.name!r}."
    }


def test_metrics_add_up_over_the_workers(server: Server):
    labels = ('route="/v1/tag"', 'status="200"')
    before = server.metric("percept_http_requests_total", *labels)
    for _ in range(40):
        assert server.post("/v1/tag", plain()).status == 200
    for _ in range(6):  # whichever worker is asked
        assert server.metric("percept_http_requests_total", *labels) == before + 40
    assert server.metric("percept_model_ready") == 2


def test_docs_and_schema_are_there(server: Server):
    assert "swagger-ui" in server.get("/docs").body.decode()
    assert server.get("/docs/assets/swagger-ui.css").status == 200
    assert {"/v1/tag", "/hf/image-classification", "/v2/models/{name}/infer"} <= set(
        server.get("/openapi.json").json["paths"]
    )


def test_the_page_asks_to_wait_and_then_opens(server: Server):
    assert server.get("/").headers["location"] == "/ui"
    answers = {503, 200}

    def is_open() -> bool:
        answer = server.get("/ui/")  # the other worker may still build its page
        assert answer.status in answers
        return answer.status == 200 and b"gradio" in answer.body

    server.wait_for("open", is_open)


@pytest.mark.parametrize("path", ["/v1/tag", "/hf/image-classification", "/bento/tag", "/v2/models/tiny-tagger/infer"])
def test_a_body_over_the_limit_is_413_and_the_client_gets_to_read_it(server: Server, path: str):
    answer = server.post(path, bytes(4 * MAX_BODY_BYTES))
    assert answer.status == 413
    assert str(MAX_BODY_BYTES) in answer.body.decode()


def test_who_asks_before_it_sends_too_much_is_refused_without_sending(server: Server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST /v1/tag HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {10**9}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_truncated_jpeg_is_400_and_an_unknown_path_404_in_json(server: Server):
    for answer, status, kind in (
        (server.post("/v1/tag", truncated_jpeg(), "image/jpeg"), 400, "invalid_image"),
        (server.get("/nowhere"), 404, "not_found"),
    ):
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert answer.json["error"]["type"] == kind
        assert answer.json["error"]["request_id"] == answer.headers["x-request-id"]


def test_bad_requests_never_disturb_good_ones_and_are_never_a_500(server: Server):
    bad = [
        ("/v1/tag", truncated_jpeg(), "image/jpeg"),
        ("/v1/tag", b"", "image/png"),
        ("/v1/tag", bomb_png(), "image/png"),
        ("/v1/tag", tiff(), "image/tiff"),
        ("/v1/tag", b"--limit\r\n", "multipart/form-data; boundary=limit"),
        ("/v1/tag?top_k=0", plain(), "image/png"),
        ("/v1/tag", bytes(2 * MAX_BODY_BYTES), "image/png"),
        ("/hf/image-classification", b"{", "application/json"),
        ("/bento/tag_base64", b"\xff", "multipart/form-data; boundary=x"),
        ("/bento/tag", b"\x80\x04.", "application/vnd.bentoml+pickle"),
        ("/v2/models/tiny-tagger/infer", b'{"inputs": []}', "application/json"),
    ]
    good = ("/v1/tag", plain(), "image/png")
    jobs = [good if i % 2 else bad[i // 2 % len(bad)] for i in range(8 * len(bad))]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda job: server.post(*job), jobs))
    for job, answer in zip(jobs, answers, strict=True):
        if job is good:
            assert (answer.status, tags_of(answer.json)) == (200, [["cat"]])
        else:
            assert 400 <= answer.status < 500, (job[0], job[2], answer.body)
            assert "error" in answer.json
    assert server.metric("percept_faults_total") == 0


def test_the_log_is_json_without_what_clients_sent(server: Server):
    server.get("/secret-path?word=secret-word")
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert all(json.loads(line)["time"] for line in lines)
    assert "secret" not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


# Servers of their own, because they end.


def test_a_request_in_flight_at_sigterm_is_answered_and_the_server_ends_with_0(tagger_bundle: Bundle, tmp_path: Path):
    image = plain()
    with serving(tagger_bundle.path, tmp_path / "log.txt", "--no-ui", workers=1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            head = f"POST /v1/tag HTTP/1.1\r\nhost: x\r\ncontent-length: {len(image)}\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode() + image[:20])
            server.wait_for("in flight", lambda: server.metric("percept_http_requests_in_progress") == 2)
            server.process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(1)
            connection.sendall(image[20:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"cat"' in answer
        assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()


def test_after_its_only_worker_was_killed_the_server_answers_again(tagger_bundle: Bundle, tmp_path: Path):
    with serving(tagger_bundle.path, tmp_path / "log.txt", "--no-ui", workers=1) as server:
        (killed,) = server.workers
        subprocess.run(["kill", "-9", str(killed)], check=True)
        server.wait_for("back", lambda: killed not in server.workers and server.post("/v1/tag", plain()).status == 200)
        assert server.metric("percept_model_ready") == 1
        assert server.workers != [killed]


def run_to_its_end(bundle: Path) -> subprocess.CompletedProcess[str]:
    arguments = command(bundle, "--port", str(free_port()), "--workers", "1", "--no-ui", "--device", "cpu")
    return subprocess.run(
        arguments, cwd=PROJECT_ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )


def test_a_bundle_that_is_not_there_ends_the_start_with_one_line(tmp_path: Path):
    result = run_to_its_end(tmp_path / "nothing")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"percept: no bundle at {tmp_path / 'nothing'}")


def untrue_bundle(tagger_bundle: Bundle, path: Path) -> Bundle:
    """Return a bundle no file of which is damaged: only the worker that computes the golden outputs can tell."""
    return write_bundle(
        path,
        tagger_bundle.config,
        files={"model.onnx": (tagger_bundle.path / "model.onnx").read_bytes()},
        preprocessor=json.loads((tagger_bundle.path / "preprocessor_config.json").read_text()),
        golden=Golden(tagger_bundle.golden.inputs, {"logits": tagger_bundle.golden.outputs["logits"] + 1}),
    )


def test_a_bundle_whose_network_answers_otherwise_than_trained_ends_the_start(tagger_bundle: Bundle, tmp_path: Path):
    bundle = untrue_bundle(tagger_bundle, tmp_path / "bundle")
    result = run_to_its_end(bundle.path)
    assert result.returncode == 2
    assert "Traceback" not in result.stdout + result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"percept: {bundle.path} on ONNX Runtime")
    assert "does not answer as it did after training" in last


def test_plain_bentoml_serve_ends_too_where_no_worker_can_start(tagger_bundle: Bundle, tmp_path: Path):
    bundle = untrue_bundle(tagger_bundle, tmp_path / "bundle")
    settings = {"PERCEPT_TAGGER": str(bundle.path), "PERCEPT_WORKERS": "1", "PERCEPT_UI": "false"}
    result = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "vision.service:Vision", "--port", str(free_port())],
        cwd=PROJECT_ROOT,
        env=environment(BENTOML_HOME=str(tmp_path / "home"), BENTOML_DO_NOT_TRACK="True", **settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"percept: {bundle.path} on ONNX Runtime")
