"""Word documents (.docx) to readable text: headings, paragraphs, lists and tables."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import docx
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.ns import qn
from lxml import etree

from nlp.knowledge.passages import Builder, one_line
from shared.errors import InputError, TooLarge

MAX_XML_BYTES = 30_000_000
"""Of all parts but pictures, unpacked."""
MAX_MARKS = 600_000
"""Of all parts, two or more for each piece of text: 70,000 paragraphs take about 3 s on a busy core (lxml 6.1.3)."""
_BROKEN = "the Word document cannot be read: it is broken, or no .docx. Send a complete file, saved as .docx."
_HEADING, _TITLE, _LIST = "heading ", "title", "list"
_P, _TBL, _TR, _TC = (qn(f"w:{name}") for name in ("p", "tbl", "tr", "tc"))
_T, _TAB, _BR, _SDT, _CONTENT = (qn(f"w:{name}") for name in ("t", "tab", "br", "sdt", "sdtContent"))
_W = {"w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main"}
_STYLE = etree.XPath("string(w:pPr/w:pStyle/@w:val)", namespaces=_W)
_IS_ITEM = etree.XPath("boolean(w:pPr/w:numPr)", namespaces=_W)
_IS_PLAIN = etree.XPath("boolean(.//w:r[w:t[normalize-space()]][not(w:rPr/w:b)])", namespaces=_W)


def read_word(content: bytes) -> Builder:
    """Return the blocks of a Word document in reading order; headers, footers, notes and comments are left out.

    python-docx opens the file; its text is read from the XML, because an object for each run takes a hundred times as
    long (900,000 runs in 86 KB: 67 s).

    Raises:
        InputError: it is broken, or encrypted.
        TooLarge: more text than can be read.
    """
    if content.startswith(b"\xd0\xcf\x11\xe0"):  # a compound file: .doc, or .docx with a password
        raise InputError(
            "the Word document is encrypted or in the old .doc format. Save it as .docx without a password."
        )
    try:
        _check_size(content)
        return _read(docx.Document(io.BytesIO(content)))
    except (zipfile.BadZipFile, PackageNotFoundError, etree.LxmlError, ValueError, KeyError, OSError) as error:
        raise InputError(_BROKEN) from error
    except (AttributeError, TypeError, IndexError, NotImplementedError) as error:  # what python-docx makes of odd XML
        raise InputError(_BROKEN) from error


def _check_size(content: bytes) -> None:
    marks = 0
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        read = [part for part in parts.infolist() if part.filename.endswith((".xml", ".rels"))]
        size = sum(part.file_size for part in read)
        if size > MAX_XML_BYTES:
            raise TooLarge(
                f"the Word document has {size} bytes of text and marks; the limit is {MAX_XML_BYTES}. Split it."
            )
        for part in read:
            with parts.open(part) as file:  # never more than it says, or it is broken
                marks += file.read(part.file_size + 1).count(b"<")
    if marks > MAX_MARKS:
        raise TooLarge(f"the Word document has {marks} marks; the limit is {MAX_MARKS}. Split it.")


def _read(document: Any) -> Builder:
    names = {style.style_id: str(style.name or "").lower() for style in document.styles}
    builder = Builder()
    is_list = is_titled = False
    for block in _blocks(document.element.body):
        if block.tag == _TBL:
            _read_table(builder, block)
            is_list = False
            continue
        name = names.get(_STYLE(block), "")
        text = _text(block)
        is_item = name.startswith(_LIST) or _IS_ITEM(block)
        if name == _TITLE:
            builder.heading(1, text)
            is_titled = True
        elif name.startswith(_HEADING) and name.removeprefix(_HEADING).isdecimal():
            builder.heading(int(name.removeprefix(_HEADING)) + is_titled, text)
        elif is_item:
            builder.paragraph(f"- {text}" if text.strip() else "", is_tight=is_list)
        else:
            builder.paragraph(text, is_strong=not _IS_PLAIN(block))
        is_list = is_item
    title = one_line(str(document.core_properties.title or ""))
    builder.title = builder.title or title or None
    return builder


def _blocks(body: Any) -> Iterator[Any]:
    """Yield paragraphs and tables in order, also those in content controls."""
    for block in body:
        if block.tag in (_P, _TBL):
            yield block
        elif block.tag == _SDT:
            for content in block.iterchildren(_CONTENT):
                yield from (each for each in content if each.tag in (_P, _TBL))


def _text(element: Any) -> str:
    return "".join(
        (part.text or "") if part.tag == _T else "\t" if part.tag == _TAB else "\n"
        for part in element.iter(_T, _TAB, _BR)
    )


def _read_table(builder: Builder, table: Any) -> None:
    header: list[str] = []
    rows = [[" ".join(_text(cell).split()) for cell in row.iterchildren(_TC)] for row in table.iterchildren(_TR)]
    if len(rows) > 1 and len(rows[0]) > 1 and all(rows[0]) and len(set(rows[0])) == len(rows[0]):
        header = rows.pop(0)  # Word marks no header: the first row is one if it names each column
    for place, cells in enumerate(rows):
        builder.row(header, cells, is_first=not place)
