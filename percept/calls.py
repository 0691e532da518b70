"""Percept's routes as methods, written once for both clients: what each sends, and how its answer is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from urllib.parse import quote

from percept.answers import (
    Answered,
    Document,
    DocumentText,
    Entities,
    Feedback,
    ImageTags,
    Intent,
    ItemError,
    ModelQuality,
    ServedModels,
    Understood,
    read,
)
from percept.errors import BadAnswer

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Image = str | os.PathLike[str] | bytes
"""The path of a file, or its bytes. A URL is refused: services fetch none."""
BYTES = "application/octet-stream"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what reads the JSON of its answer."""

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Mapping[str, str | int | float] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    content: bytes | None = None
    content_type: str | None = None
    files: Sequence[tuple[str, tuple[str, bytes, str]]] | None = None
    is_idempotent: bool = True
    """Whether sending it twice does no more than sending it once."""


class Blocking:
    """Base of the client whose methods return answers."""

    def _send(self, make: Callable[[], Call[T]], *, reads_files: bool) -> T:
        raise NotImplementedError


class Awaited:
    """Base of the client whose methods return coroutines."""

    async def _send(self, make: Callable[[], Call[T]], *, reads_files: bool) -> T:
        raise NotImplementedError


class Method(Protocol[P, T_co]):
    """How type checkers see a route: on one client it returns the answer, on the other a coroutine."""

    @overload
    def __get__(self, client: Blocking, kind: Any = ...) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, client: Awaited, kind: Any = ...) -> Callable[P, Coroutine[Any, Any, T_co]]: ...


def _method(build: Callable[Concatenate[Any, P], Call[T]], *, reads_files: bool) -> Method[P, T]:
    @wraps(build)
    def method(client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        return client._send(partial(build, client, *args, **kwargs), reads_files=reads_files)

    return cast("Method[P, T]", method)


def route(build: Callable[Concatenate[Any, P], Call[T]]) -> Method[P, T]:
    """Turn a function that describes a call into a method that sends it."""
    return _method(build, reads_files=False)


def route_with_files(build: Callable[Concatenate[Any, P], Call[T]]) -> Method[P, T]:
    """Do the same for a call that reads files, which the asyncio client does in a thread."""
    return _method(build, reads_files=True)


class Routes:
    """What a service can be asked."""

    @route_with_files
    def tag(self, image: Image, *, top_k: int | None = None, min_score: float | None = None) -> Call[ImageTags]:
        """Return the tags of one photo."""
        return Call(
            "POST",
            "/v1/tag",
            partial(_only, ImageTags),
            _given(top_k=top_k, min_score=min_score),
            content=_bytes(image),
            content_type=BYTES,
        )

    @route_with_files
    def tag_many(
        self, images: Sequence[Image], *, top_k: int | None = None, min_score: float | None = None
    ) -> Call[list[ImageTags | ItemError]]:
        """Return the tags of several photos, in their order; a bad photo has its error in its place."""
        _refuse_one(images, "images")
        return Call(
            "POST",
            "/v1/tag",
            partial(_items, ImageTags, count=len(images)),
            _given(top_k=top_k, min_score=min_score),
            files=[("image", (f"image-{place}", _bytes(image), BYTES)) for place, image in enumerate(images)],
        )

    @route
    def intent(
        self,
        text: str,
        *,
        top_k: int | None = None,
        extract: Sequence[str] | None = None,
        language: str | None = None,
        now: datetime | None = None,
        time_zone: str | None = None,
    ) -> Call[Intent]:
        """Return the intent of an utterance, and what it names.

        Args:
            text: an utterance.
            top_k: most intents in the ranking.
            extract: which built-in extractors read the text, of those that the service has switched on; all if None.
            language: of the text, for them: "en" or "fr".
            now: when it was said, with its time zone; "tomorrow" counts from it.
            time_zone: IANA's name of the speaker's, such as "Europe/Paris".
        """
        asked = _asking(extract, language, now, time_zone)
        return _post("/v1/intent", partial(_only, Intent), text=text, top_k=top_k, **asked)

    @route
    def intents(
        self,
        texts: Sequence[str],
        *,
        top_k: int | None = None,
        extract: Sequence[str] | None = None,
        language: str | None = None,
        now: datetime | None = None,
        time_zone: str | None = None,
    ) -> Call[list[Intent | ItemError]]:
        """Return the intents of several utterances, in their order; a bad one has its error in its place."""
        _refuse_one(texts, "texts")
        asked = _asking(extract, language, now, time_zone)
        return _post("/v1/intent", partial(_items, Intent, count=len(texts)), texts=list(texts), top_k=top_k, **asked)

    @route
    def entities(
        self,
        text: str,
        *,
        extract: Sequence[str] | None = None,
        language: str | None = None,
        now: datetime | None = None,
        time_zone: str | None = None,
    ) -> Call[Entities]:
        """Return what a text names, without its intent; options as for `intent`. NotFound if nothing finds entities."""
        asked = _asking(extract, language, now, time_zone)
        return _post("/v1/entities", partial(_only, Entities), text=text, **asked)

    @route
    def answer(
        self,
        question: str,
        context: str | None = None,
        *,
        previous: str | None = None,
        passages: int | None = None,
        style: str | None = None,
    ) -> Call[Answered]:
        """Return the answer from a context, or from the knowledge base if there is no context.

        A question that follows from the `previous` one, such as "and on Sundays?", is completed by it. With the style
        "sentence", a service that has a writer also makes a sentence of the answer.
        """
        body = {"question": question, "previous": previous, "context": context, "passages": passages, "style": style}
        return _post("/v1/answer", partial(read, Answered), **body)

    @route
    def understand(
        self,
        text: str,
        *,
        previous: str | None = None,
        top_k: int | None = None,
        passages: int | None = None,
        style: str | None = None,
        extract: Sequence[str] | None = None,
        language: str | None = None,
        now: datetime | None = None,
        time_zone: str | None = None,
    ) -> Call[Understood]:
        """Return the intent, and an answer if the text is a question or has no known intent; options as above."""
        body = {"text": text, "previous": previous, "top_k": top_k, "passages": passages, "style": style}
        return _post("/v1/understand", _understood, **body, **_asking(extract, language, now, time_zone))

    @route
    def feedback(
        self,
        request_id: str,
        *,
        item: int = 0,
        right: bool | None = None,
        label: str | None = None,
        labels: Sequence[str] | None = None,
        answer: str | None = None,
        helpful: bool | None = None,
        comment: str | None = None,
    ) -> Call[Feedback]:
        """Say whether an answer was right, or what would be; exactly one of `right` to `helpful`.

        Sent again with the same key, it takes the place of what was said before.

        Args:
            request_id: of the request that was answered, as given to `traced`.
            item: which of several; of `understand`, 0 is the intent and 1 the answer.
            right: whether the answer is right.
            label: the right intent, or the one right tag.
            labels: all right tags.
            answer: the right answer; empty if there is none.
            helpful: thumbs up or down.
            comment: in the person's words.
        """
        if labels is not None:
            _refuse_one(labels, "labels")
        body = {"right": right, "label": label, "labels": None if labels is None else list(labels), "answer": answer}
        more = {"helpful": helpful, "comment": comment}
        return _post("/v1/feedback", partial(read, Feedback), request_id=request_id, item=item, **body, **more)

    @route
    def documents(self) -> Call[list[Document]]:
        """Return the documents in the knowledge base, sorted by id."""
        return Call("GET", "/v1/knowledge", _documents)

    @route
    def document(self, document_id: str) -> Call[DocumentText]:
        """Return one document with its plain text."""
        return Call("GET", _path(document_id), partial(read, DocumentText))

    @route_with_files
    def put_document(
        self, document_id: str, content: Image, *, content_type: str | None = None, title: str | None = None
    ) -> Call[Document]:
        """Add or replace a document.

        Args:
            document_id: its ending says what it is, unless `content_type` does.
            content: the path of a file, or its bytes.
            content_type: such as "text/html".
            title: in place of the document's own.
        """
        return Call(
            "PUT",
            _path(document_id),
            partial(read, Document),
            _given(title=title),
            content=_bytes(content),
            content_type=content_type or BYTES,
        )

    @route
    def delete_document(self, document_id: str) -> Call[None]:
        """Remove a document. If the first answer was lost, the second try raises NotFound."""
        return Call("DELETE", _path(document_id), lambda _: None)

    @route
    def quality(self, model: str | None = None) -> Call[list[ModelQuality]]:
        """Return what the monitor found last, of each model or of one; needs an administrator's key.

        Raises NotFound if no monitor has looked yet.
        """
        return Call("GET", "/v1/quality", _qualities, _given(model=model))

    @route
    def models(self) -> Call[ServedModels]:
        """Return the models that are being served."""
        return Call("GET", "/v1/model", partial(read, ServedModels))

    @route
    def serve_bundle(self, bundle: str) -> Call[ServedModels]:
        """Serve another bundle, given the name of its folder."""
        return Call("PUT", "/v1/model", partial(read, ServedModels), json={"bundle": bundle})

    @route
    def roll_back(self, model: str | None = None) -> Call[ServedModels]:
        """Serve the previous bundle again; with several models, say which. Never sent twice."""
        return Call(
            "POST",
            "/v1/model/rollback",
            partial(read, ServedModels),
            _given(model=model),
            is_idempotent=False,  # a second rollback would go forward again
        )


def _asking(
    extract: Sequence[str] | None, language: str | None, now: datetime | None, time_zone: str | None
) -> dict[str, Any]:
    if extract is not None:
        _refuse_one(extract, "extract")
    return {
        "extract": None if extract is None else list(extract),
        "language": language,
        "now": None if now is None else now.isoformat(),
        "time_zone": time_zone,
    }


def _post(path: str, parse: Callable[[Any], T], **body: Any) -> Call[T]:
    return Call("POST", path, parse, json=_given(**body))


READY: Call[bool] = Call("GET", "/readyz", lambda _: True)


def _items(kind: type[T], body: Any, *, count: int) -> list[T | ItemError]:
    """Return one result for each input, with the model that all of them share."""
    model, results = _field(body, "model"), _list(body, "results")
    if len(results) != count:
        raise BadAnswer(f"{count} inputs were sent, but {len(results)} answers came. Is that a Percept service?")
    found: list[T | ItemError] = []
    for place, result in enumerate(results):
        if isinstance(result, dict) and "error" in result:
            found.append(read(ItemError, result["error"], f"results[{place}].error"))
        else:
            content = {**result, "model": model} if isinstance(result, dict) else result
            found.append(read(kind, content, f"results[{place}]"))
    return found


def _only(kind: type[T], body: Any) -> T:
    """Return the one result; an error of a single input comes as a status, never as a result."""
    [found] = _items(kind, body, count=1)
    if not isinstance(found, kind):
        raise BadAnswer("the only result is an error, but the status says success. Is that a Percept service?")
    return found


def _understood(body: Any) -> Understood:
    models, intent = _field(body, "models"), _field(body, "intent")
    named = None if intent is None else {**intent, "model": _field(models, "intent")}
    return read(Understood, {**body, "intent": named, "answered_by": _field(models, "qa")})


def _documents(body: Any) -> list[Document]:
    return [read(Document, item, f"document {at}") for at, item in enumerate(_list(body, "documents"))]


def _qualities(body: Any) -> list[ModelQuality]:
    return [read(ModelQuality, item, f"the answer.models[{at}]") for at, item in enumerate(_list(body, "models"))]


def _field(body: Any, name: str) -> Any:
    if not isinstance(body, dict) or name not in body:
        raise BadAnswer(f"the answer has no {name!r}. Is that a Percept service, and of this client's version?")
    return body[name]


def _list(body: Any, name: str) -> list[Any]:
    found = _field(body, name)
    if not isinstance(found, list):
        raise BadAnswer(f"{name!r} of the answer is not an array. Is that a Percept service?")
    return found


def _bytes(given: Image) -> bytes:
    if isinstance(given, bytes):
        return given
    if isinstance(given, str) and given.startswith(("http://", "https://")):
        raise ValueError(f"{given} is a URL; a service fetches none. Give the path of a file, or its bytes.")
    return Path(given).read_bytes()


def _refuse_one(items: object, what: str) -> None:
    if isinstance(items, str | bytes | os.PathLike):
        raise TypeError(f"{what} must be a sequence; came a single {type(items).__name__}.")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _path(document_id: str) -> str:
    return f"/v1/knowledge/{quote(document_id, safe='/')}"
