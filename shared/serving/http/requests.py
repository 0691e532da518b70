"""Reading requests: headers and path, JSON bodies, multipart forms.

pydantic parses the JSON bytes directly, so broken UTF-8 and nesting over 200 levels are a 422 that names the place, and
nothing is built in between. Half a surrogate pair, which JSON can spell, is refused too; in an array it only fails its
own item.
Forms are read whole or not at all and never touch the disk: the body limit bounds what stays in memory.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Scope

from shared.errors import InputError, TooLarge, UnsupportedMedia

REQUEST_ID = "percept.request_id"
"""Key in the ASGI scope, as are the others here."""
MODEL = "percept.model"
"""Name and version of the model that answers, if a route says so."""
HEADERS = "percept.headers"
"""Key in a request's scope: further headers of its answer."""
CALLER = "percept.caller"
"""The `ApiKey` of the caller, if keys are set and the route needs one."""
TASK = "percept.task"
"""The task that answers the request."""
LEFT = "percept.client_left"
"""The client hung up, and the task was cancelled for that."""

MAX_JSON_BYTES = 16 << 20
"""A photo of 12 MB in base64; larger ones are sent as bytes."""
MAX_JSON_MARKS = {b",": 620_000, b"[": 40_000, b"{": 40_000, b":": 40_000, b"\\": 400_000}
"""How often a JSON body may hold each of these bytes, its texts included. The worker does nothing else while it parses
JSON, and these make that slow: a value takes 0.03 to 0.1 us, an escape 0.04, an array or a name 0.3 (two cores,
pydantic 2.14, 2026-11), so about 60 ms at most. Four photos as tensors are 602,112 values."""
_SMALL_JSON_BYTES = 32 << 10
"""Not counted: it holds no more than the limits."""
_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{1,70}")
"""RFC 2046, 5.1.1."""
_MAX_PROBLEMS = 100
_MAX_FIELDS = 1000
_SLICE_BYTES = 128 << 10

Body = TypeVar("Body", bound=BaseModel)


def _as_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, Strict(), BeforeValidator(_as_whole)]
"""A whole number, not true and not "5". JSON has one kind of number: 5.0 is 5, and some languages write it so."""
Count = Annotated[int, Strict(), Field(ge=1), BeforeValidator(_as_whole)]
"""A whole number from 1 up. It has the limit itself: pydantic 2.14 writes that of a field `Whole | None` as `ge`, which
is not JSON Schema."""


def examples(*bodies: dict[str, Any], **settings: Any) -> ConfigDict:
    """Return the `model_config` of a body that the API's description shows with these examples."""
    return cast("ConfigDict", {"json_schema_extra": {"examples": list(bodies)}, **settings})


def header(scope: Scope, name: bytes) -> str:
    """Return the first header with that lower-case name; empty if there is none."""
    for key, value in scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return ""


def route_path(scope: Scope) -> str:
    """Return the path below the one where a proxy shows the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("app_root_path", scope.get("root_path", "")))


async def check_size(request: Request, most: int, of: str) -> None:
    """Refuse a body that is larger than its route takes, which is less than the service does.

    Args:
        request: whose body is not read yet.
        most: bytes.
        of: what such a body is, as the message has it.

    Raises:
        TooLarge: it is larger, by what it declares or once it is read.
    """
    declared = header(request.scope, b"content-length")
    size = int(declared) if declared.isdecimal() else len(await request.body())
    if size > most:
        raise TooLarge(f"{of} of {size} bytes came; the limit is {most}. Send less at once.")


async def read_json(request: Request, schema: type[Body]) -> Body:
    """Return the body as its schema reads it, whatever the content type says.

    Raises:
        RequestValidationError: it is not JSON, or does not fit the schema.
        UnsupportedMedia: it is a form.
    """
    media_type = header(request.scope, b"content-type").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        raise UnsupportedMedia("a form is not accepted here. Send JSON, as `curl --json '{…}'` does.")
    body = (await request.body()).removeprefix(codecs.BOM_UTF8)
    check_json(body)
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
    """Return a body that pydantic refused for half a surrogate pair in an array, as Python's own parser reads it.

    Raises:
        RequestValidationError: the half is elsewhere, in a field or its name.
        ValidationError: `error`, if the body is not JSON either way.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise error from None
    rest: list[tuple[Any, str, Any]] = [(None, "", found)]
    while rest:
        field = above, name, value = rest.pop()
        if isinstance(value, dict):
            rest += [(field, key, each) for key, each in value.items()]
        if not (_is_whole(value) and _is_whole(name)):
            place = []
            while above is not None:
                place.append(name)
                above, name, _ = above
            message = "half a surrogate pair, which stands for nothing"
            raise RequestValidationError([{"loc": place[::-1], "msg": message}])
    return found


def _is_whole(value: object) -> bool:
    """Return whether a value is anything but a string with half a surrogate pair."""
    return not isinstance(value, str) or _HALF.search(value) is None


def invalid_body(error: ValidationError) -> RequestValidationError:
    """Return the error of a body that does not fit its schema, without the body itself, because it may be logged."""
    count = error.error_count()
    if count > _MAX_PROBLEMS:  # describing each of a million takes minutes
        return RequestValidationError([{"loc": ("body",), "msg": f"{count} fields or items are wrong or unknown"}])
    return RequestValidationError(error.errors(include_url=False, include_input=False, include_context=False))


def check_json(body: bytes) -> None:
    """Refuse a JSON body that would hold up all other requests of the worker while it is parsed.

    Raises:
        TooLarge: it has more bytes or values than the limits.
    """
    if len(body) <= _SMALL_JSON_BYTES:
        return
    if len(body) > MAX_JSON_BYTES:
        raise TooLarge(f"the JSON has {len(body)} bytes; the limit is {MAX_JSON_BYTES}. Send less at once.")
    for mark, limit in MAX_JSON_MARKS.items():
        if (found := body.count(mark)) > limit:
            raise TooLarge(f"the JSON has {found} of {mark.decode()!r}; the limit is {limit}. Send less at once.")


@dataclass(frozen=True)
class Part:
    """One part of a form."""

    name: str
    """Of its field."""
    content: bytes
    filename: str | None
    """None if the client gave none, which RFC 7578, 4.2 allows for a file."""
    content_type: str | None

    @property
    def text(self) -> str:
        """The content of a field that is no file."""
        return self.content.decode("utf-8", "replace")


class _FormParser(MultiPartParser):
    """Starlette's parser with a bound on its work; refuses a form that is cut off, of which it would drop a file.

    Whatever has no file name is text to it, so it reads all text as Latin-1, which gives each byte back.
    """

    def __init__(self, content_type: str, stream: AsyncIterator[bytes], *, max_files: int) -> None:
        self._form = stream
        self._is_whole = False
        self._boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not _BOUNDARY.fullmatch(self._boundary):
            raise MultiPartException("its content type names no boundary, or one that no form may have.")
        super().__init__(
            Headers({"content-type": f'multipart/form-data; charset=latin-1; boundary="{self._boundary.decode()}"'}),
            self._bounded(),
            max_files=max_files,
            max_fields=_MAX_FIELDS,
            max_part_size=sys.maxsize,  # the limit of the body is the limit of its parts
        )
        self.spool_max_size = 0  # never to the disk

    def on_end(self) -> None:
        """Note that the last boundary came."""
        self._is_whole = True

    async def _bounded(self) -> AsyncGenerator[bytes, None]:
        """Pass the form on in slices, between which others get their turn, while few lines begin with its boundary.

        At each such line the parser, which is Python, goes on byte by byte: 30 MB of them, or of blanks after one, take
        it 10 s. RFC 2046, 5.1.1 forbids a boundary in the content, and clients to write the blanks.
        """
        line, end, count = b"\r\n--" + self._boundary, b"", 0
        async for chunk in self._form:
            for start in range(0, len(chunk), _SLICE_BYTES):
                if start:
                    await asyncio.sleep(0)
                part = chunk[start : start + _SLICE_BYTES]
                seen = end + part
                found = seen.count(line)
                if count > self.max_files + _MAX_FIELDS or (found and (line + b" " in seen or line + b"\t" in seen)):
                    raise MultiPartException("the boundary of its parts is in their content.")
                count += found
                end = seen[-len(line) :]
                yield part
        if not self._is_whole:
            raise MultiPartException("it is cut off before its end.")


async def read_form(request: Request, *, max_files: int, too_many: str, how: str) -> list[Part]:
    """Return the parts of a request's form, which lie in memory: the body limit bounds them.

    Args:
        request: with a form as its body.
        max_files: one more is refused.
        too_many: the message about too many files.
        how: a sentence that says what to send, for messages.

    Raises:
        InputError: the form is broken or cut off.
        TooLarge: more files than the limit.
    """
    content_type = request.headers.get("content-type", "")
    try:
        parser = _FormParser(content_type, request.stream(), max_files=max_files + 1)
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise TooLarge(too_many) from error
        raise InputError(f"the form cannot be read: {error.message} {how}") from error
    try:
        return [await _part(name, value) for name, value in form.multi_items()]
    finally:
        await form.close()


async def _part(name: str, value: UploadFile | str) -> Part:
    if isinstance(value, str):
        return Part(_utf8(name), value.encode("latin-1"), None, None)
    return Part(_utf8(name), await value.read(), _utf8(value.filename or ""), value.content_type)


def _utf8(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", "replace")


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads its body with `read_json`."""
    content = {"application/json": {"schema": inline_schema(schema)}}
    return {"requestBody": {"required": True, "content": content}}


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema without references, for a body that a route reads itself (`openapi_extra`)."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inlined(definitions[node["$ref"].rpartition("/")[2]])
            return {key: inlined(value) for key, value in node.items()}
        return [inlined(value) for value in node] if isinstance(node, list) else node

    result: dict[str, Any] = inlined(schema)
    return result
