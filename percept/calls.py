"""Each route as a call that can be sent: what goes over the wire, and how its answer is read. Sends nothing itself.

Neighbours: `client` sends calls, `answers` has what comes back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from percept.answers import (
    Answered,
    Document,
    DocumentText,
    ImageTags,
    Intent,
    ItemError,
    ServedModels,
    Understood,
    read,
)
from percept.errors import BadAnswer

T = TypeVar("T")
ItemT = TypeVar("ItemT")
Image = str | os.PathLike[str] | bytes
"""A file's path, or its bytes. A URL is no path: services fetch none."""
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
    """Whether asking twice does no more than asking once."""


def tag(image: Image, top_k: int | None, min_score: float | None) -> Call[ImageTags]:
    params = _given(top_k=top_k, min_score=min_score)
    return Call(
        "POST", "/v1/tag", lambda body: _only(ImageTags, body), params, content=_bytes(image), content_type=BYTES
    )


def tag_many(images: Sequence[Image], top_k: int | None, min_score: float | None) -> Call[list[ImageTags | ItemError]]:
    _refuse_one(images, "images")
    files = [("image", (f"image-{place}", _bytes(image), BYTES)) for place, image in enumerate(images)]
    return Call(
        "POST",
        "/v1/tag",
        lambda body: _items(ImageTags, body, count=len(images)),
        _given(top_k=top_k, min_score=min_score),
        files=files,
    )


def intent(text: str, top_k: int | None) -> Call[Intent]:
    return Call("POST", "/v1/intent", lambda body: _only(Intent, body), json=_given(text=text, top_k=top_k))


def intents(texts: Sequence[str], top_k: int | None) -> Call[list[Intent | ItemError]]:
    _refuse_one(texts, "texts")
    return Call(
        "POST",
        "/v1/intent",
        lambda body: _items(Intent, body, count=len(texts)),
        json=_given(texts=list(texts), top_k=top_k),
    )


def answer(question: str, context: str | None, passages: int | None) -> Call[Answered]:
    body = _given(question=question, context=context, passages=passages)
    return Call("POST", "/v1/answer", lambda found: read(Answered, found), json=body)


def understand(text: str, top_k: int | None, passages: int | None) -> Call[Understood]:
    def parse(body: Any) -> Understood:
        models = _field(body, "models")
        intent = _field(body, "intent")
        named = None if intent is None else {**intent, "model": _field(models, "intent")}
        return read(Understood, {**body, "intent": named, "answered_by": _field(models, "qa")})

    return Call("POST", "/v1/understand", parse, json=_given(text=text, top_k=top_k, passages=passages))


def documents() -> Call[list[Document]]:
    return Call(
        "GET",
        "/v1/knowledge",
        lambda body: [read(Document, item, f"document {at}") for at, item in enumerate(_list(body, "documents"))],
    )


def document(document_id: str) -> Call[DocumentText]:
    return Call("GET", _document(document_id), lambda body: read(DocumentText, body))


def put_document(document_id: str, content: Image, content_type: str | None, title: str | None) -> Call[Document]:
    return Call(
        "PUT",
        _document(document_id),
        lambda body: read(Document, body),
        _given(title=title),
        content=_bytes(content),
        content_type=content_type or BYTES,
    )


def delete_document(document_id: str) -> Call[None]:
    return Call("DELETE", _document(document_id), lambda _: None)


def models() -> Call[ServedModels]:
    return Call("GET", "/v1/model", lambda body: read(ServedModels, body))


def serve_bundle(bundle: str) -> Call[ServedModels]:
    return Call("PUT", "/v1/model", lambda body: read(ServedModels, body), json={"bundle": bundle})


def roll_back(model: str | None) -> Call[ServedModels]:
    return Call(
        "POST",
        "/v1/model/rollback",
        lambda body: read(ServedModels, body),
        _given(model=model),
        is_idempotent=False,  # a second one rolls forward again
    )


def ready() -> Call[bool]:
    return Call("GET", "/readyz", lambda _: True)


def _items(kind: type[ItemT], body: Any, *, count: int) -> list[ItemT | ItemError]:
    """Return one result for each that was sent, with the model that all of them share."""
    model, results = _field(body, "model"), _list(body, "results")
    if len(results) != count:
        raise BadAnswer(f"{count} were sent and {len(results)} answers came. Is that a Percept service?")
    found: list[ItemT | ItemError] = []
    for place, result in enumerate(results):
        if isinstance(result, dict) and "error" in result:
            found.append(read(ItemError, result["error"], f"results[{place}].error"))
        else:
            content = {**result, "model": model} if isinstance(result, dict) else result
            found.append(read(kind, content, f"results[{place}]"))
    return found


def _only(kind: type[ItemT], body: Any) -> ItemT:
    """Return the one result; a single one that cannot be answered fails by its status."""
    [found] = _items(kind, body, count=1)
    if not isinstance(found, kind):
        raise BadAnswer("the only result is an error, with a status of success. Is that a Percept service?")
    return found


def _field(body: Any, name: str) -> Any:
    if not isinstance(body, dict) or name not in body:
        raise BadAnswer(f"the answer has no {name!r}. Is that a Percept service, and of this client's version?")
    return body[name]


def _list(body: Any, name: str) -> list[Any]:
    found = _field(body, name)
    if not isinstance(found, list):
        raise BadAnswer(f"the answer's {name!r} is no array. Is that a Percept service?")
    return found


def _bytes(given: Image) -> bytes:
    if isinstance(given, bytes):
        return given
    if isinstance(given, str) and given.startswith(("http://", "https://")):
        raise ValueError(f"{given} is a URL; a service fetches none. Give a file's path or its bytes.")
    return Path(given).read_bytes()


def _refuse_one(items: object, what: str) -> None:
    if isinstance(items, str | bytes | os.PathLike):
        raise TypeError(f"{what} must be a sequence of them; came a single {type(items).__name__}.")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _document(document_id: str) -> str:
    return f"/v1/knowledge/{quote(document_id, safe='/')}"
