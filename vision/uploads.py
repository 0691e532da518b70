"""Images out of HTTP bodies: multipart files, raw bytes and base64. Nothing is fetched and nothing touches the disk."""

from __future__ import annotations

import base64
import binascii
import re

from starlette.datastructures import UploadFile
from starlette.requests import Request

from shared.errors import InputError, InvalidImage, TooLarge, UnsupportedMedia
from shared.serving.http.bodies import open_form
from shared.serving.settings import Settings

FIELD = "image"
_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOW = (
    f"Send multipart/form-data with one or more files in the field {FIELD!r}, as `curl -F {FIELD}=@photo.jpg` does, "
    "or the image's bytes with the content type image/* or application/octet-stream."
)


async def read_images(request: Request, settings: Settings) -> list[bytes]:
    """Return the bytes of each image that a request holds, as files of a form or as its whole body.

    Raises:
        UnsupportedMedia: neither a form nor an image.
        InputError: the form is broken, has another field or no file.
        TooLarge: more images than the limit.
    """
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        return await _read_form(request, settings)
    if media_type in ("", "application/octet-stream") or media_type.startswith("image/"):
        body = await request.body()
        if not body:
            raise InvalidImage(f"the body is empty (0 bytes). {_HOW}")
        _refuse_url(body)
        return [body]
    raise UnsupportedMedia(f"a body of type {media_type[:80]} is not accepted. {_HOW}")


def decode_base64(text: str) -> bytes:
    """Return the bytes that base64 stands for; the prefix of a data URL may stand in front.

    >>> decode_base64("data:image/png;base64,iVBORw==")
    b'\\x89PNG'

    Raises:
        InputError: a URL, or no base64.
    """
    prefix = _DATA_URL.match(text)
    if prefix is None:
        _refuse_url(text[:64].encode())
    try:
        return base64.b64decode("".join(text[prefix.end() if prefix else 0 :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(
            "`inputs` must be the image file in base64; what came is not valid base64. "
            "Encode the file's bytes, or send them as they are with the content type image/*."
        ) from error


def is_json(request: Request) -> bool:
    """Return whether the body says that it is JSON."""
    media_type = _media_type(request)
    return media_type == "application/json" or media_type.endswith("+json")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refuse_url(start: bytes) -> None:
    if len(start) < 4096 and _URL.match(start[:64].decode("latin-1")):
        raise InputError("a URL came in place of an image. URLs are never fetched: send the image itself.")


async def _read_form(request: Request, settings: Settings) -> list[bytes]:
    too_many = f"the form holds more than {settings.max_images} images, which is the limit. Send fewer at once."
    async with open_form(
        request,
        max_files=settings.max_images,
        max_body_bytes=settings.max_body_bytes,
        too_many=too_many,
        how=_HOW,
    ) as form:
        strangers = sorted({name for name in form if name != FIELD})
        if strangers:
            raise InputError(f"the form has the field {strangers[0][:80]!r}; expected is {FIELD!r}. {_HOW}")
        values = form.getlist(FIELD)
        if not values:
            raise InputError(f"the form holds no file. {_HOW}")
        if len(values) > settings.max_images:
            raise TooLarge(too_many)
        return [await _read_file(value) for value in values]


async def _read_file(value: UploadFile | str) -> bytes:
    if isinstance(value, UploadFile):
        return await value.read()
    _refuse_url(value.encode("utf-8", "replace"))
    raise InputError(f"the field {FIELD!r} holds text; expected is a file. {_HOW}")
