"""Multipart forms, read whole or not at all. Nothing touches the disk: the body limit bounds what stays in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from shared.errors import InputError, TooLarge

_MAX_TEXT_FIELD_BYTES = 4096


class _FormParser(MultiPartParser):
    """Knows whether the last boundary came: of a form that is cut off, Starlette drops the last file in silence."""

    is_whole = False

    def on_end(self) -> None:
        self.is_whole = True

    def close(self) -> None:
        """Close the file that the form was cut off in; it is no part of the form."""
        for file in self._files_to_close_on_error:
            file.close()


@asynccontextmanager
async def open_form(
    request: Request, *, max_files: int, max_body_bytes: int, too_many: str, how: str
) -> AsyncIterator[FormData]:
    """Hold a request's form open.

    Args:
        request: whose body is a form.
        max_files: one more is refused.
        max_body_bytes: what the body limit lets through.
        too_many: the message for more files.
        how: the sentence that says what to send, for messages.

    Raises:
        InputError: the form is broken or cut off.
        TooLarge: more files than the limit.
    """
    parser = _FormParser(
        request.headers, request.stream(), max_files=max_files + 1, max_part_size=_MAX_TEXT_FIELD_BYTES
    )
    parser.spool_max_size = max_body_bytes + 1
    try:
        form = await parser.parse()
    except UnicodeError as error:
        raise InputError(f"the form cannot be read: its charset does not fit its text. {how}") from error
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise TooLarge(too_many) from error
        raise InputError(f"the form cannot be read: {error.message} {how}") from error
    try:
        if not parser.is_whole:
            raise InputError(f"the form cannot be read: it is cut off before its end. {how}")
        yield form
    finally:
        await form.close()
        parser.close()
