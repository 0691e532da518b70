"""The client for programs that wait: each of Percept's own routes as a method.

Sends `calls` with httpx and tries again as `retry` says; errors are those of `errors`. One client may be used by many
threads; `async_client` is the same for asyncio. Hugging Face's, Rasa's and Open Inference clients have own routes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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


class Client(Sender):
    """Asks a service and waits.

    Args:
        base_url: of the service, such as "http://localhost:3000"; with the path where a proxy shows it under one.
        api_key: where the service wants one; the admin's for what changes it.
        timeout_s: the longest single wait: for a connection, for sending or receiving a part.
        retry: how often and how long; `Retry(attempts=1)` for never again.
        transport: in place of the network, as httpx takes it.
        clock: seconds, for tests; as `sleep`.
        sleep: likewise.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(retry, timeout_s, clock)
        self._sleep = sleep
        self._http = make_http(httpx.Client, base_url, api_key, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def tag(self, image: Image, *, top_k: int | None = None, min_score: float | None = None) -> ImageTags:
        """Return the tags of one photo."""
        return self._send(calls.tag(image, top_k, min_score))

    def tag_many(
        self, images: Sequence[Image], *, top_k: int | None = None, min_score: float | None = None
    ) -> list[ImageTags | ItemError]:
        """Return the tags of several photos, in their order; a bad one of several has its error in its place."""
        return self._send(calls.tag_many(images, top_k, min_score))

    def intent(self, text: str, *, top_k: int | None = None) -> Intent:
        """Return what an utterance wants."""
        return self._send(calls.intent(text, top_k))

    def intents(self, texts: Sequence[str], *, top_k: int | None = None) -> list[Intent | ItemError]:
        """Return what several want, in their order; a bad one has its error in its place."""
        return self._send(calls.intents(texts, top_k))

    def answer(self, question: str, context: str | None = None, *, passages: int | None = None) -> Answered:
        """Return the answer out of a context, or out of the knowledge base where there is none."""
        return self._send(calls.answer(question, context, passages))

    def understand(self, text: str, *, top_k: int | None = None, passages: int | None = None) -> Understood:
        """Return the intent, and the answer where a question is asked or no intent is meant."""
        return self._send(calls.understand(text, top_k, passages))

    def documents(self) -> list[Document]:
        """Return what is in the knowledge base, sorted by id."""
        return self._send(calls.documents())

    def document(self, document_id: str) -> DocumentText:
        """Return one document with its plain text."""
        return self._send(calls.document(document_id))

    def put_document(
        self, document_id: str, content: Image, *, content_type: str | None = None, title: str | None = None
    ) -> Document:
        """Add or replace a document, of a file's path or its bytes; the id's ending says what it is, or the type."""
        return self._send(calls.put_document(document_id, content, content_type, title))

    def delete_document(self, document_id: str) -> None:
        """Remove a document. Where the first answer was lost, a second try finds it gone: NotFound."""
        self._send(calls.delete_document(document_id))

    def models(self) -> ServedModels:
        """Return what serves."""
        return self._send(calls.models())

    def serve_bundle(self, bundle: str) -> ServedModels:
        """Serve another bundle, by its folder's name."""
        return self._send(calls.serve_bundle(bundle))

    def roll_back(self, model: str | None = None) -> ServedModels:
        """Serve the bundle that served before; `model` is needed where there are several. Sent once only."""
        return self._send(calls.roll_back(model))

    def ready(self) -> bool:
        """Return whether the service answers now; False too where nothing is there. Tries once."""
        try:
            return self._once(calls.ready(), 0.0)
        except (Unavailable, NoAnswer):
            return False

    def _send(self, call: Call[T]) -> T:
        start, failures = self.clock(), 0
        while True:
            try:
                return self._once(call, self.clock() - start)
            except ClientError as error:
                failures += 1
                self._sleep(self.pause_s(call, error, failures, start))

    def _once(self, call: Call[T], spent_s: float) -> T:
        try:
            response = self._http.request(call.method, call.path, **self.options(call, spent_s))
        except httpx.TransportError as error:
            raise no_answer(call, error) from error
        return read_response(call, response)
