"""The knowledge base over REST: list, read, put and delete documents. Who may ask may read; the admin's key changes.

Neighbours: `api` puts these routes beside the others, `nlp.knowledge` keeps the documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from nlp.engine import LanguageEngine
from nlp.knowledge import DocumentInfo
from shared.errors import InputError
from shared.serving.access.policy import admin_only
from shared.serving.http.errors import error_responses
from shared.serving.http.requests import open_form
from shared.serving.settings import Settings

FIELD = "document"
_HOW = (
    "Send the document as the body with its content type, as `curl -T guide.md` does, or multipart/form-data with one "
    f"file in the field {FIELD!r}, as `curl -X PUT -F {FIELD}=@guide.md` does."
)
_UNSAID = {"", "application/octet-stream", "application/x-www-form-urlencoded"}
"""What clients say of a file that they know nothing of, `curl --data-binary` among them: its id tells what it is."""
_FILE = {"type": "string", "format": "binary"}
_PUT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **{
                media_type: {"schema": _FILE}
                for media_type in ("text/markdown", "text/plain", "text/html", "application/pdf")
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: _FILE, "title": {"type": "string"}},
                }
            },
        },
    }
}


class DocumentOut(BaseModel):
    """What the knowledge base says of a document."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "guides/serving.md",
                    "title": "Serving",
                    "media_type": "text/markdown",
                    "passages": 12,
                    "characters": 5210,
                    "sha256": "9f86d081884c7d65…",
                    "updated": "2026-11-24T12:00:00Z",
                }
            ]
        }
    )

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
    """A document with its plain text, which the offsets of answers count in."""

    text: str


def make_router(engine: Callable[[], LanguageEngine], settings: Settings) -> APIRouter:
    """Return the routes.

    Args:
        engine: gives the engine at every request.
        settings: the admin's key.
    """
    router = APIRouter(tags=["knowledge"])
    admin = [Depends(admin_only(settings))]
    path = "/v1/knowledge/{document:path}"

    @router.get("/v1/knowledge", summary="List documents", responses=error_responses(404, 503))
    async def list_documents() -> DocumentList:
        """Sorted by id."""
        current = engine()
        found = await current.in_thread(current.needed_knowledge().list)
        return DocumentList(documents=[DocumentOut(**_fields(info)) for info in found])

    @router.get(path, summary="Read a document", responses=error_responses(400, 404, 422, 503))
    async def read_document(document: str) -> DocumentText:
        """Its plain text, as answers count in it, and what is known of it."""
        current = engine()
        knowledge = current.needed_knowledge()
        info = await current.in_thread(knowledge.get, document)
        return DocumentText(**_fields(info), text=await current.in_thread(knowledge.text, document))

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
        title: str | None = Query(None, max_length=300, description="Its title; by default what it calls itself."),
    ) -> DocumentOut:
        """201 where it is new, 200 where it replaces an older one. Questions find it at once, in every worker."""
        knowledge = engine().needed_knowledge()
        content, media_type, named = await _read_document(request, settings)
        info, is_new = await asyncio.to_thread(
            knowledge.put, document, content, media_type=media_type, title=title or named
        )
        response.status_code = 201 if is_new else 200
        return DocumentOut(**_fields(info))

    @router.delete(
        path,
        summary="Remove a document",
        status_code=204,
        responses=error_responses(400, 401, 403, 404, 422, 503),
        dependencies=admin,
    )
    async def delete_document(document: str) -> None:
        """No question finds it from then on."""
        await asyncio.to_thread(engine().needed_knowledge().delete, document)

    return router


def _fields(info: DocumentInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in DocumentOut.model_fields}


async def _read_document(request: Request, settings: Settings) -> tuple[bytes, str | None, str | None]:
    """Return content, media type and title; None for what was not said."""
    said = request.headers.get("content-type", "")
    if _kind(said) != "multipart/form-data":
        return await request.body(), _said(said), None
    too_many = "the form holds more than one file. Send one document at a time."
    async with open_form(
        request, max_files=1, max_body_bytes=settings.max_body_bytes, too_many=too_many, how=_HOW
    ) as form:
        strangers = sorted(set(form) - {FIELD, "title"})
        if strangers:
            raise InputError(f"the form has the field {strangers[0][:80]!r}; expected is {FIELD!r}. {_HOW}")
        files = form.getlist(FIELD)
        if len(files) != 1 or not isinstance(files[0], UploadFile):
            raise InputError(f"the form must hold one file in the field {FIELD!r}. {_HOW}")
        title = form.get("title")
        named = title if isinstance(title, str) and title else None
        return await files[0].read(), _said(files[0].content_type or ""), named


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _said(content_type: str) -> str | None:
    """Return what was said of a file, its charset too; None where that was nothing."""
    return None if _kind(content_type) in _UNSAID else content_type
