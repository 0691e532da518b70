"""Files to plain text with sections: Markdown, plain text, HTML, PDF and Word; and what a document may be called."""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nlp.knowledge.markdown import read_markdown
from nlp.knowledge.passages import BLANK_LINE, MAX_HEADING_CHARS, Builder, Document, normalise, one_line, rejoined
from nlp.knowledge.pdf import FOR_OPERATORS, PdfLimits, read_pdf
from nlp.knowledge.webpage import read_webpage
from nlp.knowledge.word import read_word
from shared.errors import InputError, UnsupportedMedia
from shared.sources.charsets import is_western

MARKDOWN, PLAIN, HTML, PDF = "text/markdown", "text/plain", "text/html", "application/pdf"
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SUFFIXES = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
    ".docx": WORD,
}
"""The end of a document's name -> what it is."""
MAX_ID_CHARS = 200
_OTHER_NAMES = {"text/x-markdown": MARKDOWN, "application/xhtml+xml": HTML, "application/x-pdf": PDF}
_UNSAID = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream"})
"""What clients send as the type of a file that they do not know, `curl --data-binary` among them."""
_ACCEPTED = f"Accepted are {MARKDOWN}, {PLAIN}, {HTML}, {PDF} and Word's .docx."
_NOT_IN_IDS = "\\\ufffd"
"""The backslash is another system's path; U+FFFD replaces bytes that are not UTF-8, so different ids would be equal."""
_ID_EXAMPLE = "Name it like guides/serving.md."

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSETS = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii"), "utf-8"),
    **dict.fromkeys(("utf-16", "utf-16le"), "utf-16-le"),
    "utf-16be": "utf-16-be",
    # The web reads Latin-1 as Windows-1252 (Encoding Standard, section 4.2), which only adds characters.
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "windows-1252", "cp1252"), "cp1252"),
    **dict.fromkeys(("iso-8859-15", "latin-9"), "iso-8859-15"),
}
_CHARSET = re.compile(r";\s*charset\s*=\s*([^;]+)", re.IGNORECASE)
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)


def read_document(
    name: str, content: bytes, said: str | None = None, pdf_limits: PdfLimits = FOR_OPERATORS
) -> Document:
    """Return a file as plain text, with its sections and the title it gives itself.

    Args:
        name: the document's name.
        content: the file's bytes.
        said: its content type, with or without a charset.
        pdf_limits: what reading a PDF may take.

    Raises:
        InputError: the file has no text, is broken or encrypted, or is not in the charset it should be.
        UnsupportedMedia: not a kind of file that is read here.
        TooLarge: more text or pages than can be read.
    """
    kind = media_type_of(name, content, said)
    if kind == PDF:
        document = read_pdf(content, pdf_limits).document(PDF)
    elif kind == WORD:
        document = read_word(content).document(WORD)
    else:
        text = decode(content, _declared_charset(kind, content, said))
        if kind == MARKDOWN:
            document = read_markdown(text).document(MARKDOWN)
        elif kind == HTML:
            document = read_webpage(text).document(HTML)
        else:
            builder = Builder()
            for paragraph in BLANK_LINE.split(rejoined(normalise(text))):
                builder.paragraph(paragraph)
            document = builder.document(PLAIN)
    if not any(character.isalnum() for character in document.text):
        raise InputError(f"the document has no words: {len(content)} bytes of {kind} came. Send a document with text.")
    return document


def media_type_of(name: str, content: bytes, said: str | None) -> str:
    """Return what a document is: what its sender says, or else what its name says, or else what its first bytes say.

    Args:
        name: the document's name, such as guides/serving.md.
        content: the file's bytes.
        said: the content type that came with it, if any.

    Raises:
        UnsupportedMedia: not a kind of file that is read here.
    """
    named = (said or "").partition(";")[0].strip().lower()
    suffix = PurePosixPath(name).suffix.lower()
    if named not in _UNSAID:
        kind = _OTHER_NAMES.get(named, named)
        if kind not in SUFFIXES.values():
            raise UnsupportedMedia(f"documents of type {named[:80]} are not read here. {_ACCEPTED}")
        return kind
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if content.startswith(b"%PDF-"):
        return PDF
    if not suffix:
        return PLAIN
    raise UnsupportedMedia(
        f"documents whose name ends in {suffix[:20]} are not read here. Give the content type, or a name that ends in "
        f"one of {' '.join(SUFFIXES)}. {_ACCEPTED}"
    )


def decode(content: bytes, charset: str | None) -> str:
    """Return bytes as text: in the charset that a byte order mark or the sender names, else as what it can only be.

    That is UTF-8, UTF-16 if every other byte is zero, or Windows-1252 if its letters make words of a Western European
    language.

    Args:
        content: a byte order mark at its start overrides `charset`.
        charset: as a media type or a page's <meta> names it; None if neither does.

    Raises:
        InputError: the charset is unknown, or the bytes do not fit it.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _decode(content[len(mark) :], name)
    if charset is None:
        charset = _charset_of(content)
    encoding = _CHARSETS.get((charset or "utf-8").strip().strip("\"'").lower())
    if encoding is None:
        raise InputError(
            f"the charset {(charset or '')[:40]!r} is unknown. Send the document as UTF-8; UTF-16, ISO-8859-1, "
            "ISO-8859-15 and Windows-1252 work too if the content type names them."
        )
    return _decode(content, encoding)


def _charset_of(content: bytes) -> str:
    try:
        content.decode()
    except UnicodeDecodeError:
        is_one = is_western(line for line in content.splitlines() if not line.isascii())
        return "cp1252" if is_one and b"\0" not in content else "utf-8"
    zeros = [content[start:4096:2].count(0) for start in (0, 1)]
    if max(zeros) > 10 * min(zeros) and max(zeros) > min(len(content), 4096) // 4:
        return "utf-16be" if zeros[0] > zeros[1] else "utf-16le"
    return "utf-8"


def charset_of_page(content: bytes) -> str | None:
    """Return the charset that an HTML page's <meta> names near its start; None if it names none.

    Source: HTML Living Standard, section 13.2.3.2, which looks at the first 1,024 bytes.
    """
    match = _META.search(content[:1024])
    return match[1].decode("ascii", "replace") if match else None


def documents_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Return id and file of every document below a folder, sorted; the id is the path inside the folder, with slashes.

    Names that begin with a dot are skipped. A link to a file counts if that file is inside the folder; links to folders
    are not followed.
    """
    root = folder.resolve()
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place, name)
            if name.startswith(".") or file.suffix.lower() not in SUFFIXES:
                continue
            try:
                target = file.resolve(strict=True)
            except (OSError, RuntimeError):  # a link to nothing, or a circle of links
                continue
            if target.is_relative_to(root) and target.is_file():
                yield file.relative_to(root).as_posix(), file


def checked_id(name: str) -> str:
    """Return a document's id in Unicode form NFC.

    >>> checked_id("guides/serving.md")
    'guides/serving.md'
    >>> checked_id("../secret.md")
    Traceback (most recent call last):
    shared.errors.InputError: the document's id has the part '..'; ... Name it like guides/serving.md.

    Raises:
        InputError: it is empty, too long, not a relative path, or has invisible characters.
    """
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise InputError(f"the document has no id. {_ID_EXAMPLE}")
    if len(name) > MAX_ID_CHARS:
        raise InputError(f"the document's id has {len(name)} characters; the limit is {MAX_ID_CHARS}. {_ID_EXAMPLE}")
    bad = next((character for character in name if character in _NOT_IN_IDS or not character.isprintable()), None)
    if bad is not None:
        raise InputError(
            f"the document's id has the character U+{ord(bad):04X}; letters, digits, spaces, slashes and other visible "
            f"characters are allowed, but no backslash. {_ID_EXAMPLE}"
        )
    for part in name.split("/"):
        if part in ("", ".", "..") or part != part.strip():
            raise InputError(
                f"the document's id has the part {part!r}; it must be a relative path without parts that are empty, "
                f"'.' or '..' or have spaces at their ends. {_ID_EXAMPLE}"
            )
    return name


def checked_title(title: str | None) -> str | None:
    """Return a title on one line; None for a blank one.

    Raises:
        InputError: it is too long.
    """
    line = one_line(title or "", max_chars=MAX_HEADING_CHARS + 1)
    if len(line) > MAX_HEADING_CHARS:
        raise InputError(f"the title is longer than {MAX_HEADING_CHARS} characters, which is the limit. Shorten it.")
    return line or None


def readable_title(name: str) -> str:
    """Return a title made from a document's name.

    >>> readable_title("guides/opening_hours-2026.md")
    'Opening hours 2026'
    """
    stem = PurePosixPath(name).stem
    words = one_line(re.sub(r"[_\\-]+", " ", stem)) or one_line(stem) or name
    return words[:1].upper() + words[1:]


def _declared_charset(kind: str, content: bytes, said: str | None) -> str | None:
    """Return the charset that the sender or the page names. A page in UTF-8 is UTF-8, whatever its <meta> says."""
    named = _CHARSET.search(said or "")
    if named or kind != HTML:
        return named[1] if named else None
    try:
        content.decode()
    except UnicodeDecodeError:
        return charset_of_page(content)
    return None


def _decode(content: bytes, encoding: str) -> str:
    try:
        # Windows-1252 leaves five bytes undefined; browsers read them as control characters, which are removed anyway.
        return content.decode(encoding, "ignore" if encoding == "cp1252" else "strict")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the document is not {encoding.upper()} text: byte {error.start} does not fit. Save it as UTF-8, or "
            "name its charset in the content type, as in text/plain; charset=iso-8859-1."
        ) from error
