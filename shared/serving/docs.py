"""What /docs and /openapi.json need: Swagger's files from the installed BentoML, not from a CDN, and whole schemas."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from shared.serving.page_headers import headers_of

DOCS = "/docs"
ASSETS = f"{DOCS}/assets"


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema without references, for a body that a route reads on its own (`openapi_extra`)."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inlined(definitions[node["$ref"].rpartition("/")[2]])
            return {key: inlined(value) for key, value in node.items()}
        return [inlined(value) for value in node] if isinstance(node, list) else node

    result: dict[str, Any] = inlined(schema)
    return result


def add_docs(app: FastAPI) -> None:
    """Add /docs to an app that was made with `docs_url=None`."""
    # BentoML 1.4.39 serves its own index page with these; a test holds that they are there.
    folder = str(files("bentoml") / "_internal" / "server" / "static_content")

    @app.get(DOCS, include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon-light-32x32.png",
        )
        page.headers.update(headers_of(bytes(page.body).decode()))
        return page

    app.mount(ASSETS, StaticFiles(directory=folder))
