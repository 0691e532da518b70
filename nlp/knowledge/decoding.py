"""Bytes to text: UTF-8 unless a byte order mark or the sender says otherwise; nothing is guessed."""

from __future__ import annotations

import codecs
import re

from shared.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "utf-16": "utf-16-le",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    # The web reads Latin-1 as Windows-1252 (Encoding Standard, section 4.2), which only adds characters.
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "iso-8859-15": "iso-8859-15",
    "latin-9": "iso-8859-15",
}
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)


def decode(content: bytes, charset: str | None) -> str:
    """Return the text that bytes stand for.

    Args:
        content: with or without a byte order mark, which counts for more than `charset`.
        charset: as a media type or a page's <meta> names it; None for UTF-8.

    Raises:
        InputError: an unknown charset, or bytes that do not fit.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return _decode(content[len(mark) :], name)
    encoding = _CHARSETS.get((charset or "utf-8").strip().strip("\"'").lower())
    if encoding is None:
        raise InputError(
            f"the charset {(charset or '')[:40]!r} is not known here. Send the document as UTF-8; UTF-16, ISO-8859-1, "
            "ISO-8859-15 and Windows-1252 are read too where the content type names them."
        )
    return _decode(content, encoding)


def charset_of_page(content: bytes) -> str | None:
    """Return the charset that an HTML page's <meta> names near its start; None where it names none.

    Source: HTML Living Standard, section 13.2.3.2, which looks at the first 1,024 bytes.
    """
    match = _META.search(content[:1024])
    return match[1].decode("ascii", "replace") if match else None


def _decode(content: bytes, encoding: str) -> str:
    try:
        # Windows-1252 leaves five bytes open; browsers read them as control characters, which are taken out anyway.
        return content.decode(encoding, "ignore" if encoding == "cp1252" else "strict")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the document is not {encoding.upper()} text: byte {error.start} does not fit. Save it as UTF-8, or "
            "name its charset in the content type, as in text/plain; charset=iso-8859-1."
        ) from error
