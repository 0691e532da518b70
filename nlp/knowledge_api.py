"""The knowledge base over REST: list, read, put and delete documents. Changes need the admin's key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from nlp.engine import LanguageEngine
from nlp.knowledge import DocumentInfo
from nlp.knowledge.documents import HTML, MARKDOWN, PDF, PLAIN, WORD
from shared.errors import InputError
from shared.serving.access.policy import admin_only
from shared.serving.http.errors import error_responses
from shared.serving.http.requests import examples, read_form
from shared.serving.settings import Settings

FIELD = "document"
_HOW = (
    "Send the document as the body with its content type, as `curl -T guide.md` does, or multipart/form-data with one "
    f"file in the field {FIELD!r}, as `curl -X PUT -F {FIELD}=@guide.md` does."
)
_FILE = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": [FIELD], "properties": {FIELD: _FILE, "title": {"type": "string"}}}
_BODIES = {**dict.fromkeys((MARKDOWN, PLAIN, HTML, PDF, WORD), _FILE), "multipart/form-data": _FORM}
_PUT_BODY = {
    "requestBody": {
        "required": True,
        "content": {media_type: {"schema": schema} for media_type, schema in _BODIES.items()},
    }
}
_EXAMPLE = DocumentInfo(
    id="guides/serving.md",
    title="Serving",
    media_type=MARKDOWN,
    passages=12,
    characters=5210,
    sha256="9f86d081884c7d65…",
    updated="2026-11-24T12:00:00Z",
)


class DocumentOut(BaseModel):
    """What the knowledge base says of a document."""

    model_config = examples(asdict(_EXAMPLE))

    id: str
    title: str
    media_type: str
    passages: int
    characters: int = Field(description="Of its plain text.")
    sha256: str = Field(description="Of the file as it was sent.")
    updated: str = Field(description="ISO 8601, UTC.")


class DocumentList(BaseModel):
    """All documents."""

    documents: list[DocumentOut]


class DocumentText(DocumentOut):
    """A document with its plain text, in which answers have their places."""

    text: str


def make_router(engine: Callable[[], LanguageEngine], settings: Settings) -> APIRouter:
    """Return the routes.

    Args:
        engine: called for the engine at every request.
        settings: the admin's key and the limit of a body.
    """
    router = APIRouter(tags=["knowledge"])
    admin = [Depends(admin_only(settings))]
    path = "/v1/knowledge/{document:path}"

    @router.get("/v1/knowledge", summary="List documents", responses=error_responses(404, 503))
    async def list_documents() -> DocumentList:
        """Sorted by id."""
        current = engine()
        found = await current.in_thread(current.needed_knowledge().list)
        return DocumentList(documents=[DocumentOut(**asdict(info)) for info in found])

    @router.get(path, summary="Read a document", responses=error_responses(400, 404, 422, 503))
    async def read_document(document: str) -> DocumentText:
        """Its plain text, in which answers have their places, and what is known of it."""
        current = engine()
        knowledge = current.needed_knowledge()
        info = await current.in_thread(knowledge.get, document)
        return DocumentText(**asdict(info), text=await current.in_thread(knowledge.text, document))

    @router.put(
        path,
        summary="Add or replace a document",
        status_code=200,
        responses={201: {"model": DocumentOut}, **error_responses(400, 401, 403, 404, 413, 415, 422, 503)},
        dependencies=admin,
        openapi_extra=_PUT_BODY,
    )
    async def put_document(
        document: str,
        request: Request,
        response: Response,
        title: str | None = Query(None, max_length=300, description="Its title; by default the one it gives itself."),
    ) -> DocumentOut:
        """201 for a new document, 200 for one that is replaced. Questions find it at once, in every worker."""
        knowledge = engine().needed_knowledge()
        content, media_type, named = await _read_document(request)
        info, is_new = await asyncio.to_thread(
            knowledge.put, document, content, media_type=media_type, title=title or named
        )
        response.status_code = 201 if is_new else 200
        return DocumentOut(**asdict(info))

    @router.delete(
        path,
        summary="Remove a document",
        status_code=204,
        responses=error_responses(400, 401, 403, 404, 422, 503),
        dependencies=admin,
    )
    async def delete_document(document: str) -> None:
        """Questions no longer find it."""
        await asyncio.to_thread(engine().needed_knowledge().delete, document)

    return router


async def _read_document(request: Request) -> tuple[bytes, str | None, str | None]:
    """Return content, media type and title; None for what the client did not say."""
    content_type = request.headers.get("content-type")
    if (content_type or "").partition(";")[0].strip().lower() != "multipart/form-data":
        return await request.body(), content_type, None
    too_many = "the form holds more than one file. Send one document at a time."
    parts = await read_form(request, max_files=1, too_many=too_many, how=_HOW)
    strangers = sorted({part.name for part in parts} - {FIELD, "title"})
    if strangers:
        raise InputError(f"the form has the field {strangers[0][:80]!r}; expected {FIELD!r}. {_HOW}")
    files = [part for part in parts if part.name == FIELD]
    if len(files) != 1:
        raise InputError(f"the form must hold one file in the field {FIELD!r}. {_HOW}")
    title = next((part.text for part in parts if part.name == "title"), None)
    return files[0].content, files[0].content_type, title
