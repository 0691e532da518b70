"""Several models and several routers make one app: readiness, Open Inference and headers are of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import APIRouter, Request
from starlette.testclient import TestClient

from shared.bundle.layout import TensorSignature
from shared.serving.app import make_app, with_edge
from shared.serving.http.middleware import answered_by
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings

NUMBERS = TensorSignature(name="numbers", dtype="float32", shape=("batch",))


class Times:
    """A model that multiplies."""

    version = "1"
    is_ready = True
    inputs = (NUMBERS,)
    outputs = (NUMBERS,)
    runtime = SimpleNamespace(device="cpu")

    def __init__(self, factor: int) -> None:
        config = SimpleNamespace(task=f"times {factor}", onnx=None)
        self.bundle = SimpleNamespace(path=Path(f"times-{factor}"), config=config)
        self.name = f"times-{factor}"
        self.factor = factor

    async def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"numbers": inputs["numbers"] * np.float32(self.factor)}


class Engine:
    """Two of them."""

    def __init__(self) -> None:
        self.models = [Times(2), Times(3)]

    async def close(self) -> None:
        """Nothing is held."""


def router(lifecycle: Lifecycle[Engine], place: int) -> APIRouter:
    made = APIRouter()

    @made.get(f"/name/{place}")
    async def name(request: Request) -> str:
        model = lifecycle().models[place]
        answered_by(request, model)
        return model.name

    return made


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    lifecycle = Lifecycle(Engine)
    routers = [router(lifecycle, place) for place in (0, 1)]
    app = make_app(lifecycle, routers, Settings(), title="Times", description="Multiplies.", home="/name/0")
    with TestClient(with_edge(app, Settings(), lifecycle.model), follow_redirects=False) as client:
        client.lifecycle = lifecycle
        yield client


@pytest.mark.parametrize("factor", [2, 3])
def test_each_model_infers_by_its_name(client: TestClient, factor: int):
    body = {"inputs": [{"name": "numbers", "shape": [2], "datatype": "FP32", "data": [1, 5]}]}
    response = client.post(f"/v2/models/times-{factor}/infer", json=body)
    assert response.json()["outputs"][0]["data"] == [factor, 5 * factor]
    assert response.headers["x-model-name"] == f"times-{factor}"


def test_a_route_names_its_model_and_all_other_answers_name_all(client: TestClient):
    assert client.get("/name/1").headers["x-model-name"] == "times-3"
    for path in ("/readyz", "/nowhere", "/v2"):
        headers = client.get(path).headers
        assert (headers["x-model-name"], headers["x-model-version"]) == ("times-2, times-3", "1, 1")


def test_a_model_that_is_not_there_is_404_with_those_that_are(client: TestClient):
    response = client.get("/v2/models/times-4")
    assert response.status_code == 404
    assert response.json() == {"error": "there is no model 'times-4' here. The models are called 'times-2', 'times-3'."}


def test_the_server_is_ready_when_every_model_is(client: TestClient):
    assert client.get("/v2/health/ready").status_code == 200
    client.lifecycle().models[1].is_ready = False
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/models/times-2/ready").status_code == 200
    client.lifecycle().models[1].is_ready = True


def test_the_metrics_show_every_model(client: TestClient):
    text = client.get("/metrics").text
    for name in ("times-2", "times-3"):
        assert f'percept_model_ready{{device="cpu",model="{name}",version="1"}} 1.0' in text


def test_the_root_leads_home_and_one_document_has_all_routes(client: TestClient):
    assert client.get("/").headers["location"] == "/name/0"
    assert {"/name/0", "/name/1", "/readyz"} <= set(client.get("/openapi.json").json()["paths"])
