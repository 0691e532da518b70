"""/docs without the internet: Swagger's files come from the installed BentoML, not from a CDN."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = "/docs/assets"


def add_docs(app: FastAPI) -> None:
    """Add /docs to an app that was made with `docs_url=None`."""
    # BentoML 1.4.39 serves its own index page with these; a test holds that they are there.
    folder = str(files("bentoml") / "_internal" / "server" / "static_content")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=app.openapi_url or "/openapi.json",
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon-light-32x32.png",
        )

    app.mount(ASSETS, StaticFiles(directory=folder))
