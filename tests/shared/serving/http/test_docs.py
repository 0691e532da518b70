"""/docs works without a CDN, and a schema for `openapi_extra` refers to nothing outside itself."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.testclient import TestClient

from shared.serving.http.browser import ASSETS, add_docs
from shared.serving.http.requests import inline_schema


class Leaf(BaseModel):
    name: str


class Branch(BaseModel):
    leaves: list[Leaf]
    top: Leaf | None = None


class Tree(BaseModel):
    branches: list[Branch]


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(docs_url=None, title="Trees")
    add_docs(app)
    return TestClient(app)


def test_the_page_loads_only_from_its_own_host_and_all_of_it_is_there(client: TestClient):
    page = client.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 3
    for address in addresses:
        assert address.startswith(ASSETS)
        assert client.get(address).status_code == 200, f"fastapi-swagger has no longer {address}"
    assert "https://" not in page.text


def test_the_page_is_no_part_of_the_document_that_it_shows(client: TestClient):
    assert "/openapi.json" in client.get("/docs").text
    assert client.get("/openapi.json").json()["paths"] == {}


def test_nothing_outside_the_folder_is_served(client: TestClient):
    assert client.get(f"{ASSETS}/%2e%2e/%2e%2e/__init__.py").status_code == 404


def test_a_schema_is_inlined_to_its_last_reference():
    schema = inline_schema(Tree)
    assert "$ref" not in str(schema)
    assert "$defs" not in schema
    branch = schema["properties"]["branches"]["items"]
    assert branch["properties"]["leaves"]["items"]["properties"]["name"]["type"] == "string"
    assert branch["properties"]["top"]["anyOf"][0]["properties"]["name"]["type"] == "string"
