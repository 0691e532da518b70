"""Traces: a caller's traceparent is believed where it is one, and spans leave where an exporter is set."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from shared.bundle.read import Bundle
from shared.serving.host.carrier import tracing_config
from shared.serving.http.middleware import RequestEdge
from shared.serving.observe.logs import RequestLog, trace_id
from shared.serving.settings import Settings
from tests.server import serving
from tests.shared.serving.http.test_middleware import make_app

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize("value", [GOOD, f"00-{TRACE}-{PARENT}-00", f"cc-{TRACE}-{PARENT}-01-what-comes-later"])
def test_a_traceparent_gives_its_trace(value: str):
    assert trace_id([(b"host", b"x"), (b"traceparent", value.encode())]) == TRACE


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [f"ff-{TRACE}-{PARENT}-01"],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE.upper()}-{PARENT}-01"],
        [f"00-{TRACE}-{PARENT}-01-more"],
        [f"00-{TRACE[1:]}-{PARENT}-01"],
        [f"00-{TRACE}-{PARENT}"],
        [f"{GOOD}\n"],
        [f'00-{TRACE}-{PARENT}-01","level":"error'],
        [GOOD, GOOD],
        ["\xff" * 55],
    ],
)
def test_what_is_no_traceparent_is_not_believed(values: list[str]):
    assert trace_id([(b"traceparent", value.encode("latin-1")) for value in values]) is None


def test_the_log_line_of_a_request_has_its_trace():
    stream = io.StringIO()
    client = TestClient(RequestEdge(make_app(), log=RequestLog(100, stream), model=lambda: None))
    client.get("/items/a", headers={"traceparent": GOOD})
    client.get("/items/a", headers={"traceparent": "garbage"})
    client.get("/items/a")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("trace_id") for line in lines] == [TRACE, None, None]


def test_without_an_exporter_nothing_is_traced():
    assert tracing_config(Settings()) == {}


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP receiver: its address, and the bodies that came."""
    bodies: list[bytes] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()
    server.server_close()


@pytest.mark.server
@pytest.mark.slow
def test_with_an_exporter_each_request_is_a_span_of_its_callers_trace(
    intent_bundle: Bundle, tmp_path, collector: tuple[str, list[bytes]]
):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    endpoint, bodies = collector
    settings = {"PERCEPT_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200", "NO_PROXY": "127.0.0.1"}
    with serving(intent_bundle.path, tmp_path / "log.txt", "--no-ui", workers=1, **settings) as server:
        body = json.dumps({"text": "play a song"}).encode()
        assert server.post("/v1/intent", body, "application/json", traceparent=GOOD).status == 200
        own = server.post("/v1/intent", body, "application/json", **{"x-request-id": "without-parent"})
        assert own.status == 200
        server.wait_for("spans", lambda: len(spans(bodies, ExportTraceServiceRequest)) >= 2)
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if '"/v1/intent"' in line]
    found = spans(bodies, ExportTraceServiceRequest)
    traces = {trace for trace, _ in found}
    assert (TRACE, PARENT) in found
    assert {line["trace_id"] for line in lines} == traces  # a request without a trace has one of its own
    assert len(traces) == 2  # and what machines ask has none


def spans(bodies: list[bytes], message: type) -> list[tuple[str, str]]:
    """Return trace and parent of each request's span."""
    found = []
    for body in bodies:
        for resource in message.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found += [(span.trace_id.hex(), span.parent_span_id.hex()) for span in scope.spans if span.kind == 2]
    return found
