"""A file's bytes to plain text with sections, whatever kind it is of: Markdown, plain text, HTML or PDF.

Neighbours: `markdown`, `webpage` and `pdf` read one kind each; `store` keeps what comes out.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from nlp.knowledge.decoding import charset_of_page, decode
from nlp.knowledge.markdown import read_markdown
from nlp.knowledge.pdf import read_pdf
from nlp.knowledge.sections import Document, Section, normalise, one_line
from nlp.knowledge.webpage import read_webpage
from shared.errors import InputError, UnsupportedMedia

MARKDOWN, PLAIN, HTML, PDF = "text/markdown", "text/plain", "text/html", "application/pdf"
SUFFIXES = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
}
"""How a document's name ends -> what it is."""
_MEDIA_TYPES = {
    MARKDOWN: MARKDOWN,
    "text/x-markdown": MARKDOWN,
    PLAIN: PLAIN,
    HTML: HTML,
    "application/xhtml+xml": HTML,
    PDF: PDF,
    "application/x-pdf": PDF,
}
_UNSAID = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_ACCEPTED = f"Accepted are {MARKDOWN}, {PLAIN}, {HTML} and {PDF}."
_CHARSET = re.compile(r";\s*charset\s*=\s*([^;]+)", re.IGNORECASE)


def media_type_of(name: str, content: bytes, said: str | None) -> str:
    """Return what a document is, from what its sender says of it, else its name, else its first bytes.

    Args:
        name: the document's name, such as guides/serving.md.
        content: the file's bytes.
        said: the content type it came with; None for no word of it.

    Raises:
        UnsupportedMedia: a kind that is not read here.
    """
    named = (said or "").partition(";")[0].strip().lower()
    if named not in _UNSAID:
        if named not in _MEDIA_TYPES:
            raise UnsupportedMedia(f"a document of type {named[:80]} is not read here. {_ACCEPTED}")
        return _MEDIA_TYPES[named]
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if content.startswith(b"%PDF-"):
        return PDF
    if not suffix:
        return PLAIN
    raise UnsupportedMedia(
        f"a document whose name ends in {suffix[:20]} is not read here. Name its content type, or let its name end in "
        f"one of {' '.join(SUFFIXES)}. {_ACCEPTED}"
    )


def read_document(name: str, content: bytes, said: str | None = None) -> Document:
    """Return a file as plain text with its sections and the title that it gives itself.

    Args:
        name: the document's name.
        content: the file's bytes.
        said: its content type; a charset in it is heeded.

    Raises:
        InputError: there is no text in it, or it is broken, encrypted or of another charset.
        UnsupportedMedia: a kind that is not read here.
        TooLarge: more text or pages than can be read.
    """
    kind = media_type_of(name, content, said)
    if kind == PDF:
        document = read_pdf(content).document(PDF)
    else:
        charset = _CHARSET.search(said or "")
        declared = charset[1] if charset else None
        if kind == HTML and declared is None:
            declared = _charset_where_needed(content)
        text = decode(content, declared)
        if kind == MARKDOWN:
            document = read_markdown(normalise(text)).document(MARKDOWN)
        elif kind == HTML:
            document = read_webpage(text).document(HTML)
        else:
            document = _read_plain(text)
    if not any(character.isalnum() for character in document.text):
        raise InputError(
            f"the document holds no words: {len(content)} bytes of {kind} came. Send a document with text."
        )
    return document


def readable_title(name: str) -> str:
    """Return a title made of a document's name.

    >>> readable_title("guides/opening_hours-2026.md")
    'Opening hours 2026'
    """
    stem = PurePosixPath(name).stem
    words = one_line(re.sub(r"[_\\-]+", " ", stem)) or one_line(stem) or name
    return words[:1].upper() + words[1:]


def _read_plain(text: str) -> Document:
    text = normalise(text)
    return Document(PLAIN, None, text, (Section((), 0, len(text)),))


def _charset_where_needed(content: bytes) -> str | None:
    """Return the charset of a page's <meta> where the page is not UTF-8, which many pages are that say otherwise."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return charset_of_page(content)
    return None
