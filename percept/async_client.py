"""The client for asyncio: `client`, with each method awaited. One client may be used by many tasks of one loop.

Arguments, retries and errors are the same; see there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx

from percept import calls
from percept.answers import (
    Answered,
    Document,
    DocumentText,
    ImageTags,
    Intent,
    ItemError,
    ServedModels,
    Understood,
)
from percept.calls import Call, Image
from percept.errors import ClientError, NoAnswer, Unavailable
from percept.retry import Retry
from percept.sending import Sender, make_http, no_answer, read_response

T = TypeVar("T")


class AsyncClient(Sender):
    """Asks a service from asyncio; arguments are those of `Client`."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(retry, timeout_s, clock)
        self._sleep = sleep
        self._http = make_http(httpx.AsyncClient, base_url, api_key, transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def tag(self, image: Image, *, top_k: int | None = None, min_score: float | None = None) -> ImageTags:
        """Return the tags of one photo; files are read in a thread."""
        return await self._send(await asyncio.to_thread(calls.tag, image, top_k, min_score))

    async def tag_many(
        self, images: Sequence[Image], *, top_k: int | None = None, min_score: float | None = None
    ) -> list[ImageTags | ItemError]:
        """Return the tags of several photos, in their order; a bad one of several has its error in its place."""
        return await self._send(await asyncio.to_thread(calls.tag_many, images, top_k, min_score))

    async def intent(self, text: str, *, top_k: int | None = None) -> Intent:
        """Return what an utterance wants."""
        return await self._send(calls.intent(text, top_k))

    async def intents(self, texts: Sequence[str], *, top_k: int | None = None) -> list[Intent | ItemError]:
        """Return what several want, in their order; a bad one has its error in its place."""
        return await self._send(calls.intents(texts, top_k))

    async def answer(self, question: str, context: str | None = None, *, passages: int | None = None) -> Answered:
        """Return the answer out of a context, or out of the knowledge base where there is none."""
        return await self._send(calls.answer(question, context, passages))

    async def understand(self, text: str, *, top_k: int | None = None, passages: int | None = None) -> Understood:
        """Return the intent, and the answer where a question is asked or no intent is meant."""
        return await self._send(calls.understand(text, top_k, passages))

    async def documents(self) -> list[Document]:
        """Return what is in the knowledge base, sorted by id."""
        return await self._send(calls.documents())

    async def document(self, document_id: str) -> DocumentText:
        """Return one document with its plain text."""
        return await self._send(calls.document(document_id))

    async def put_document(
        self, document_id: str, content: Image, *, content_type: str | None = None, title: str | None = None
    ) -> Document:
        """Add or replace a document, of a file's path or its bytes; the id's ending says what it is, or the type."""
        return await self._send(await asyncio.to_thread(calls.put_document, document_id, content, content_type, title))

    async def delete_document(self, document_id: str) -> None:
        """Remove a document. Where the first answer was lost, a second try finds it gone: NotFound."""
        await self._send(calls.delete_document(document_id))

    async def models(self) -> ServedModels:
        """Return what serves."""
        return await self._send(calls.models())

    async def serve_bundle(self, bundle: str) -> ServedModels:
        """Serve another bundle, by its folder's name."""
        return await self._send(calls.serve_bundle(bundle))

    async def roll_back(self, model: str | None = None) -> ServedModels:
        """Serve the bundle that served before; `model` is needed where there are several. Sent once only."""
        return await self._send(calls.roll_back(model))

    async def ready(self) -> bool:
        """Return whether the service answers now; False too where nothing is there. Tries once."""
        try:
            return await self._once(calls.ready(), 0.0)
        except (Unavailable, NoAnswer):
            return False

    async def _send(self, call: Call[T]) -> T:
        start, failures = self.clock(), 0
        while True:
            try:
                return await self._once(call, self.clock() - start)
            except ClientError as error:
                failures += 1
                await self._sleep(self.pause_s(call, error, failures, start))

    async def _once(self, call: Call[T], spent_s: float) -> T:
        try:
            response = await self._http.request(call.method, call.path, **self.options(call, spent_s))
        except httpx.TransportError as error:
            raise no_answer(call, error) from error
        return read_response(call, response)
