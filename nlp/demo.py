"""The language page: write a message, see its intent and its answer; drop documents to ask about them.

The page calls this module through Gradio's server functions: each call is one request that any worker may answer, and
the page learns when a call fails. The state between calls is in the browser (conversation, visitor's name) or in a
folder that all workers share (documents). Nothing contacts another host.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from nlp.api import understand_text
from nlp.engine import ANSWER_ITEM, LanguageEngine
from nlp.knowledge import DocumentInfo
from nlp.page import render
from nlp.page.documents import MAX_FILE_BYTES, VisitorDocuments, document_folder, shown_name
from nlp.page.render import Judged, ReplyView, documents, explain, notice
from nlp.page.reply import Replier
from shared.errors import Overloaded, PerceptError
from shared.serving.page.kept_files import upload_folder
from shared.serving.page.tabs import Page, Part
from shared.serving.page.uploads import Uploads
from shared.serving.recording.notes import noting
from shared.serving.recording.thumbs import keep_opinion

_PAGE = Path(str(files("nlp.page")))
MAX_READ = 8
"""Documents that may wait to be read in one worker; further ones are refused for now."""
PASTED = "Pasted text"

_log = logging.getLogger(__name__)


class LanguagePage:
    """Answers the page's calls; keeps nothing between them."""

    def __init__(self, engine: Callable[[], LanguageEngine], kept: VisitorDocuments) -> None:
        self.engine = engine
        self.kept = kept
        self._in_hand = 0
        self._one_read = asyncio.Semaphore(1)  # reading a document takes a core: messages must get their turn

    def fill(self) -> Sequence[Part]:
        """Draw everything below the heading into the open blocks; return what the models decide."""
        engine = self.engine()
        parts = []
        gr.HTML(
            render.chat(engine),
            js_on_load=(_PAGE / "page.js").read_text("utf-8"),
            server_functions=self.server_functions(),
            apply_default_css=False,
            elem_id="language",
        )
        with gr.Accordion("Call it from your program", open=False):
            gr.HTML(render.how_to_call(engine))
        if engine.intent:
            with gr.Accordion("What it understands", open=False):
                parts.append(Part(lambda: render.knows(self.engine())))
        with gr.Accordion("What it is not for", open=False):
            parts.append(Part(lambda: render.limits(self.engine())))
        return parts

    def server_functions(self) -> list[Callable[..., Any]]:
        """Return the functions that the page calls, each with one JSON value, which may be anything."""

        async def reply(sent: Any) -> dict[str, str]:
            return await self.reply(_field(sent, "text"), _field(sent, "visitor"), _field(sent, "previous"))

        async def add_file(sent: Any) -> dict[str, str]:
            return await self.add_file(_field(sent, "visitor"), _field(sent, "path"), _field(sent, "name"))

        async def add_text(sent: Any) -> dict[str, str]:
            return await self.add_text(_field(sent, "visitor"), _field(sent, "text"))

        async def forget(sent: Any) -> dict[str, str]:
            return await self.remove(_field(sent, "visitor"), _field(sent, "document"))

        async def greet(sent: Any) -> dict[str, str]:
            return {**render.greeting(self.engine()), **await self._listed(_field(sent, "visitor"))}

        async def judge(sent: Any) -> dict[str, str]:
            return await self.judge(sent)

        return [reply, add_file, add_text, forget, greet, judge]

    async def understand(self, text: str) -> dict[str, Any]:
        """Return what a message wants and, if it asks something, the answer, as POST /v1/understand does."""
        return (await understand_text(self.engine(), text)).model_dump()

    async def reply(self, text: object, visitor: object, previous: object = None) -> dict[str, str]:
        """Return the card for a message and what a screen reader says about it, or a notice."""
        try:
            engine = self.engine()
            said = await Replier(engine, self.kept).reply(text, visitor, previous)
        except PerceptError as error:
            title, message = _explained(error, "message")
            return {"html": notice(title, message), "said": f"{title} {message}"}
        view, notes, labels = ReplyView(engine), noting(), engine.intent.labels if engine.intent else []
        judged = Judged.of(said, notes.request_id, notes.kept_items, labels) if notes is not None else None
        return {"html": view.reply(said, judged), "said": view.summary(said)}

    async def judge(self, sent: object) -> dict[str, str]:
        """Keep what a person says of an answer: a thumb, `up`, or the `label` that it is rather."""
        return {"said": await keep_opinion(sent, "helpful" if _field(sent, "item") == ANSWER_ITEM else "right")}

    async def add_file(self, visitor: object, path: object, name: object) -> dict[str, str]:
        """Keep an uploaded file for the visitor; return the list of kept documents, and a notice."""
        return await self._add(visitor, lambda: self.kept.add(visitor, name, self.kept.take_upload(path)), name)

    async def add_text(self, visitor: object, text: object) -> dict[str, str]:
        """Keep a pasted text for the visitor; returns as `add_file`."""
        content = str(text).encode("utf-8", "replace") if isinstance(text, str) else b""
        title = _title(str(text))
        return await self._add(visitor, lambda: self.kept.add(visitor, title, content, "text/plain"), title)

    async def remove(self, visitor: object, document: object) -> dict[str, str]:
        """Delete one of the visitor's documents; returns as `add_file`."""
        try:
            await asyncio.to_thread(self.kept.remove, visitor, document)
        except PerceptError as error:
            return await self._listed(visitor, notice(*_explained(error, "document")))
        return await self._listed(visitor)

    async def _add(self, visitor: object, add: Callable[[], DocumentInfo], name: object) -> dict[str, str]:
        try:
            info = await self._read(add)
        except PerceptError as error:
            said = " ".join(_explained(error, "document"))
            return await self._listed(visitor, notice(f"{shown_name(name)}:", said))
        return await self._listed(visitor, said=f"You can ask about {info.title} now.")

    async def _read(self, add: Callable[[], DocumentInfo]) -> DocumentInfo:
        if self._in_hand >= MAX_READ:
            raise Overloaded("many documents are being read right now.")
        self._in_hand += 1
        try:
            async with self._one_read:
                return await asyncio.to_thread(add)
        finally:
            self._in_hand -= 1

    async def _listed(self, visitor: object, problem: str = "", said: str = "") -> dict[str, str]:
        try:
            return {
                "html": documents(await asyncio.to_thread(self.kept.list, visitor)),
                "notice": problem,
                "said": said,
            }
        except PerceptError as error:
            return {"html": "", "notice": problem or notice(*_explained(error, "document")), "said": ""}


def page(engine: Callable[[], LanguageEngine]) -> Page:
    """Return the page of a language service; `engine` gives the one that answers now."""
    folder = document_folder()
    knowledge = engine().knowledge
    encoder = knowledge.encoder if knowledge else None
    kept = VisitorDocuments(folder.path, Uploads(upload_folder().path), encoder)
    shown = LanguagePage(engine, kept)
    return Page(
        tab="Language",
        title="What does this message want?" if engine().intent else "What do you want to know?",
        summary=lambda: " ".join(_summaries(engine())),
        models=lambda: [(model.name, model.version) for model in engine().models],
        fill=shown.fill,
        calls=[shown.understand],
        max_file_bytes=min(MAX_FILE_BYTES, engine().settings.max_body_bytes),
        css=(_PAGE / "page.css").read_text("utf-8"),
        french=json.loads((_PAGE / "french.json").read_text("utf-8")),
        kept=[folder],
    )


def _summaries(engine: LanguageEngine) -> Sequence[str]:
    """Return the first sentence of each model card's summary; two whole ones would push the chat off the screen."""
    found = [model.predictor.bundle.config.card.get("summary") for model in engine.models]
    return [re.split(r"(?<=[.!?])\s", summary, maxsplit=1)[0] for summary in found if isinstance(summary, str)]


def _field(sent: Any, name: str) -> Any:
    return sent.get(name) if isinstance(sent, dict) else None


def _title(text: str) -> str:
    """Return the name of a pasted text: its first words.

    >>> _title("\\n# Opening hours of the shop\\nfrom nine to five")
    'Opening hours of the shop'
    >>> _title("  ")
    'Pasted text'
    """
    first = next((line.strip(" #*_>\t") for line in text.splitlines() if line.strip(" #*_>\t")), PASTED)
    return first if len(first) <= 60 else first[:59].rsplit(" ", 1)[0] + "…"


def _explained(error: PerceptError, subject: str) -> tuple[str, str]:
    _log.info("the page could not use a %s: %s", subject, type(error).__name__)
    return explain(error, subject)
