"""JSON bodies that a route reads on its own: whatever the content type says, and whatever the bytes are.

pydantic parses the bytes itself: deep nesting and broken UTF-8 are a 422 with the place where they stand, and nothing
is built in between. Half a surrogate pair, which JSON can spell, is refused too; in an array it is one item's affair.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Annotated, Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, Field, Strict, ValidationError
from starlette.requests import Request

from shared.errors import UnsupportedMedia
from shared.serving.docs import inline_schema
from shared.serving.edge import header, invalid_body
from shared.serving.json_depth import check_depth

_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")
_NOT_JSON = {"multipart/form-data"}

Body = TypeVar("Body", bound=BaseModel)


def _as_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, Strict(), BeforeValidator(_as_whole)]
"""A whole number, not true and not "5". JSON has one kind of number: 5.0 is 5, and so some languages write it."""
Count = Annotated[int, Strict(), Field(ge=1), BeforeValidator(_as_whole)]
"""A whole number from 1 on. The limit stands inside: pydantic 2.14 writes that of a field `Whole | None` as `ge`, which
is no word of JSON Schema."""


async def read_json(request: Request, schema: type[Body]) -> Body:
    """Return the body as its schema reads it.

    Raises:
        RequestValidationError: it is no JSON, or not what the schema says.
        UnsupportedMedia: it is a form or compressed.
    """
    media_type = header(request.scope, b"content-type").partition(";")[0].strip().lower()
    if media_type in _NOT_JSON:
        raise UnsupportedMedia("a form is not accepted here. Send JSON, as `curl --json '{…}'` does.")
    encoding = header(request.scope, b"content-encoding") or "identity"
    if encoding != "identity":
        raise UnsupportedMedia(f"the body is encoded as {encoding[:20]!r}. Send it as it is, without compression.")
    body = await request.body()
    body = body.removeprefix(codecs.BOM_UTF8)
    check_depth(body, request.scope)
    try:
        try:
            return schema.model_validate_json(body)
        except ValidationError as error:
            if not _HALF_A_PAIR.search(body) or error.errors()[0]["type"] != "json_invalid":
                raise
            return schema.model_validate(_loads(body, error))
    except ValidationError as error:
        raise invalid_body(error) from None


def _loads(body: bytes, error: ValidationError) -> Any:
    """Return what Python's own parser makes of a body that pydantic's refused, for half a surrogate pair in an array.

    Raises:
        RequestValidationError: one stands elsewhere, as a field or its name.
        ValidationError: the one that was given, for what is no JSON either way.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise error from None
    rest: list[tuple[tuple[str, ...], Any]] = [((), found)]
    while rest:
        place, value = rest.pop()
        if isinstance(value, dict):
            rest += [((*place, name), each) for name, each in value.items()]
        if not (_is_whole(value) and all(map(_is_whole, place))):
            raise RequestValidationError([{"loc": place, "msg": "half a surrogate pair, which stands for nothing"}])
    return found


def _is_whole(value: object) -> bool:
    """Return whether a value is anything but a string with half a surrogate pair."""
    return not isinstance(value, str) or _HALF.search(value) is None


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads its body with `read_json`."""
    content = {"application/json": {"schema": inline_schema(schema)}}
    return {"requestBody": {"required": True, "content": content}}
