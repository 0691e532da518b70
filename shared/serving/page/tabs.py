"""One demo page on one port: a task's page alone, or several as tabs (`/ui#photos`, `/ui?tab=language`).

A package offers its page as data and never sees the others: `vision.demo.page(engine)` and `nlp.demo.page(engine)` each
return a `Page`, and a service puts together the pages of the models it has:

    app = mount_pages([vision.demo.page(tagging), nlp.demo.page(language)], "/ui")   # one page: no tabs

A page is built once and asks for the engine whenever it needs one: another model may have taken its place.
No event may use Gradio's queue or its sessions: both live in one process, and a service has several workers.
Only a package's `demo` may import this module, because it imports Gradio, which takes seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import gradio as gr
from fastapi import FastAPI
from gradio.events import api
from starlette.requests import Request
from starlette.responses import FileResponse, StreamingResponse

from shared.errors import InputError, NotFound, TooLarge
from shared.pages import translating
from shared.serving.http.errors import install_error_handlers
from shared.serving.http.requests import read_form
from shared.serving.page.calls import Call, Calls, result_folder
from shared.serving.page.guard import PageGuard, PageHeaders
from shared.serving.page.kept_files import KeptFolder, keep_sweeping, upload_folder
from shared.serving.page.uploads import Uploads, media_type
from shared.templates import templates

BRAND = "Percept"
_HOW_TO_UPLOAD = "Send one file in the field 'files' of a form."
_HERE = Path(str(files("shared.serving.page")))
_PARTS: Any = templates("shared.serving.page").get_template("tabs.html").module


class Part:
    """HTML that depends on the model; drawn into the open blocks, and anew when a visitor comes after a change.

    Args:
        render: returns the HTML as it is now.
        js_on_load: runs once in the browser.
    """

    def __init__(self, render: Callable[[], str], *, js_on_load: str | None = None) -> None:
        self.render = render
        self._drawn = render()
        self.component = gr.HTML(self._drawn, js_on_load=js_on_load)

    def now(self) -> Any:
        """Return what the component shows, or that what it has is right."""
        html = self.render()
        return gr.skip() if html == self._drawn else html


@dataclass(frozen=True)
class Page:
    """One task's page."""

    tab: str
    """The word on its tab: "Photos". In lower case it is the tab's address."""
    title: str
    """Its heading: "What is in this photo?" """
    fill: Callable[[], Sequence[Part]]
    """Draws what is below the heading, with its events, into the open blocks; returns what to keep up to date."""
    models: Callable[[], Sequence[tuple[str, str]]]
    """Gives name and version of each model behind it."""
    max_file_bytes: int
    """The largest file that people may drop on it."""
    summary: Callable[[], str] = str
    """Gives one or two sentences below the heading, as plain text."""
    css: str = ""
    """Its own styles, for its own ids and classes only: other pages may be beside it."""
    js: str = ""
    """Runs once, when the heading is drawn, in its own scope."""
    french: Mapping[str, str] = field(default_factory=dict)
    """What it says in English -> in French, as `translate.js` reads it."""
    sample_files: Sequence[Path] = ()
    """Files that the page may serve, each as `samples/NAME` below its own address."""
    calls: Sequence[Call] = ()
    """What programs that know Gradio may call by name."""
    kept: Sequence[KeptFolder] = ()
    """Folders that are swept while the page is open, besides those for uploads and results of calls."""

    @property
    def address(self) -> str:
        """Its name in the page's address."""
        return self.tab.lower()


def mount_pages(
    pages: Sequence[Page],
    path: str = "/ui",
    *,
    root_path: str = "",
    has_docs: bool = True,
    has_review: bool = False,
) -> FastAPI:
    """Return an application with the pages at `path`, and only as much of Gradio as they need.

    Args:
        pages: at least one.
        path: where they are in the service.
        root_path: where a proxy shows the service.
        has_docs: whether to link to the documentation.
        has_review: whether to link to the page for reviewers.
    """
    assert pages, "no page to show"
    uploaded, results = upload_folder(), result_folder()
    kept = [uploaded, results, *(folder for page in pages for folder in page.kept)]

    @asynccontextmanager
    async def sweeping(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(keep_sweeping(folder)) for folder in kept]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=sweeping)
    install_error_handlers(app)
    _add_files(app, path, pages, Uploads(uploaded.path))
    demo = build_blocks(pages, has_docs=has_docs, has_review=has_review)
    config = demo.get_config_file()
    _add_calls(app, path, Calls(results.path, _numbered(pages, config)))
    gr.mount_gradio_app(
        app,
        demo,
        path=path,
        root_path=root_path + path,
        max_file_size=max(page.max_file_bytes for page in pages),  # the browser says so, before anything is sent
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=_theme(),
        css="\n".join([_text("look.css"), *(page.css for page in pages)]),
    )
    app.add_middleware(PageGuard, path=path, config=config)
    icon, about = quote(_text("icon.svg").strip()), " ".join(page.title for page in pages)
    app.add_middleware(PageHeaders, path=path, head=str(_PARTS.head(icon, _title(pages), about)))
    return app


def _add_files(app: FastAPI, path: str, pages: Sequence[Page], uploads: Uploads) -> None:
    """Add the routes of uploads and samples; Gradio's own would keep each name, show folders and follow addresses."""
    samples = {file.name: file for page in pages for file in page.sample_files}
    max_file_bytes = max(page.max_file_bytes for page in pages)

    @app.post(f"{path}/gradio_api/upload")
    async def upload(request: Request) -> list[str]:
        parts = await read_form(request, max_files=1, too_many="send one file at a time.", how=_HOW_TO_UPLOAD)
        if len(parts) != 1 or parts[0].name != "files":
            raise InputError(f"the form must hold one file. {_HOW_TO_UPLOAD}")
        if len(parts[0].content) > max_file_bytes:
            raise TooLarge(f"the file has {len(parts[0].content)} bytes; the limit is {max_file_bytes}.")
        return [await asyncio.to_thread(uploads.keep, parts[0].filename or "", parts[0].content)]

    @app.get(path + "/gradio_api/file={address}")
    async def uploaded(address: str) -> FileResponse:
        file = await asyncio.to_thread(uploads.find, address)
        return FileResponse(file, media_type=media_type(file), headers={"cache-control": "private"})

    @app.get(path + "/favicon.ico")
    async def favicon() -> FileResponse:
        return FileResponse(_HERE / "icon.svg", media_type="image/svg+xml")

    @app.get(path + "/samples/{name}")
    async def sample(name: str) -> FileResponse:
        if name not in samples:
            raise NotFound("there is no such sample.")
        return FileResponse(samples[name])


def _add_calls(app: FastAPI, path: str, calls: Calls) -> None:
    """Add the routes by which Gradio's clients call; Gradio's own would keep a queue in each process."""

    @app.post(f"{path}/gradio_api/queue/join")
    async def join(request: Request) -> dict[str, str]:
        return await calls.join(request)

    @app.get(f"{path}/gradio_api/queue/data")
    async def stream(session_hash: str) -> StreamingResponse:
        return await calls.stream(session_hash)


def _numbered(pages: Sequence[Page], config: Mapping[str, Any]) -> dict[int, tuple[Call, int]]:
    """Return the number that the configuration gives each call -> the call, and how many values it takes."""
    calls = {call.__name__: call for page in pages for call in page.calls}
    named = [each for each in config["dependencies"] if each["api_visibility"] == "public"]
    return {each["id"]: (calls[each["api_name"]], len(each["inputs"])) for each in named}


def build_blocks(pages: Sequence[Page], *, has_docs: bool = True, has_review: bool = False) -> gr.Blocks:
    """Return the pages as Gradio draws them."""
    is_alone = len(pages) == 1
    with gr.Blocks(title=_title(pages), analytics_enabled=False) as demo:
        if is_alone:
            parts = _draw(pages[0], is_alone=True, has_docs=has_docs, has_review=has_review)
        else:
            gr.HTML(str(_PARTS.bar(BRAND, has_docs, has_review)), js_on_load=_look(pages))
            parts = []
            with gr.Tabs(selected=pages[0].address, elem_id="pages"):
                for page in pages:
                    with gr.Tab(page.tab, id=page.address, elem_id=f"page-{page.address}"):
                        parts += _draw(page, is_alone=False, has_docs=has_docs, has_review=has_review)
        for call in (call for page in pages for call in page.calls):
            api(call, api_name=call.__name__, queue=False)
        demo.load(
            lambda: {part.component: part.now() for part in parts},
            None,
            [part.component for part in parts],
            queue=False,
            api_visibility="private",
            show_progress="hidden",
        )
    return cast("gr.Blocks", demo)


def _draw(page: Page, *, is_alone: bool, has_docs: bool, has_review: bool) -> list[Part]:
    top = Part(
        partial(heading, page, is_alone=is_alone, has_docs=has_docs, has_review=has_review),
        js_on_load="\n".join([_look([page]) if is_alone else "", f"{{\n{page.js}\n}}"]),
    )
    return [top, *page.fill()]


def _look(pages: Sequence[Page]) -> str:
    """Return the scripts that all pages share, with the dictionary of these."""
    french = json.loads(_text("french.json"))
    for page in pages:
        french |= page.french
    return f"{translating(french)}\n{{\n{_text('look.js')}\n}}"


def heading(page: Page, *, is_alone: bool, has_docs: bool = True, has_review: bool = False) -> str:
    """Return the page's title with its summary and its models' names and versions."""
    return str(_PARTS.heading(page, BRAND, is_alone, has_docs, has_review))


def _title(pages: Sequence[Page]) -> str:
    """Return what the browser's tab and a link's preview are called."""
    return (
        f"{BRAND}: {pages[0].title}" if len(pages) == 1 else f"{BRAND}: {', '.join(page.tab for page in pages).lower()}"
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _theme() -> gr.themes.Base:
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]  # no GoogleFont: it would be fetched from outside
    return gr.themes.Base(
        primary_hue="teal", neutral_hue="zinc", radius_size="lg", font=fonts, font_mono=["ui-monospace", "monospace"]
    )
