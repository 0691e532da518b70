"""Word documents (.docx) to readable text: headings, paragraphs, lists and tables."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import docx
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.ns import qn
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml import etree

from nlp.knowledge.passages import Builder, one_line
from shared.errors import InputError, TooLarge

MAX_XML_BYTES = 30_000_000
"""Of all parts but pictures, unpacked: a thick book has 5 MB."""
MAX_BLOCKS = 20_000
"""Paragraphs and table rows, about 0.1 ms each."""
_BROKEN = "the Word document cannot be read: it is broken, or no .docx. Send a complete file, saved as .docx."
_P = qn("w:p")
_HEADING, _TITLE, _LIST = "heading ", "title", "list"


def read_word(content: bytes) -> Builder:
    """Return the blocks of a Word document in reading order; headers, footers, notes and comments are left out.

    Raises:
        InputError: it is broken, or encrypted.
        TooLarge: more text than can be read.
    """
    if content.startswith(b"\xd0\xcf\x11\xe0"):  # a compound file: .doc, or .docx with a password
        raise InputError(
            "the Word document is encrypted or in the old .doc format. Save it as .docx without a password."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            size = sum(part.file_size for part in parts.infolist() if part.filename.endswith((".xml", ".rels")))
        if size > MAX_XML_BYTES:
            raise TooLarge(
                f"the Word document has {size} bytes of text and marks; the limit is {MAX_XML_BYTES}. Split it."
            )
        return _read(docx.Document(io.BytesIO(content)))
    except (zipfile.BadZipFile, PackageNotFoundError, etree.LxmlError, ValueError, KeyError, OSError) as error:
        raise InputError(_BROKEN) from error
    except (AttributeError, TypeError, IndexError, NotImplementedError) as error:  # what python-docx makes of odd XML
        raise InputError(_BROKEN) from error


def _read(document: Any) -> Builder:
    names = {style.style_id: str(style.name or "").lower() for style in document.styles}
    builder = Builder()
    is_list = is_titled = False
    for number, block in enumerate(document.iter_inner_content()):
        if number >= MAX_BLOCKS:
            raise TooLarge(f"the Word document has more than {MAX_BLOCKS} paragraphs, which is the limit. Split it.")
        if isinstance(block, Table):
            _read_table(builder, block)
            is_list = False
        elif isinstance(block, Paragraph):
            name = names.get(block._p.style or "", "")
            is_list = _read_paragraph(builder, block, name, follows_item=is_list, is_titled=is_titled)
            is_titled = is_titled or name == _TITLE
    title = one_line(str(document.core_properties.title or ""))
    builder.title = builder.title or title or None
    return builder


def _read_paragraph(builder: Builder, paragraph: Paragraph, name: str, *, follows_item: bool, is_titled: bool) -> bool:
    """Add a paragraph of the style with that name; return whether it is an item of a list."""
    text = paragraph.text
    if name == _TITLE:
        builder.heading(1, text)
    elif name.startswith(_HEADING) and name.removeprefix(_HEADING).isdecimal():
        builder.heading(int(name.removeprefix(_HEADING)) + is_titled, text)
    elif name.startswith(_LIST) or _has_number(paragraph):
        builder.paragraph(f"- {text}" if text.strip() else "", is_tight=follows_item)
        return True
    else:
        builder.paragraph(text, is_strong=_is_strong(paragraph))
    return False


def _read_table(builder: Builder, table: Table) -> None:
    header: list[str] = []
    rows = list(_rows(table))
    if len(rows) > 1 and len(rows[0]) > 1 and all(rows[0]) and len(set(rows[0])) == len(rows[0]):
        header = rows.pop(0)  # Word marks no header: the first row is one if it names each column
    for place, cells in enumerate(rows):
        builder.row(header, cells, is_first=not place)


def _rows(table: Table) -> Iterator[list[str]]:
    for place, row in enumerate(table._tbl.tr_lst):
        if place >= MAX_BLOCKS:
            raise TooLarge(
                f"a table of the Word document has more than {MAX_BLOCKS} rows, which is the limit. Split it."
            )
        yield [" ".join(" ".join(Paragraph(p, table).text for p in cell.iter(_P)).split()) for cell in row.tc_lst]


def _has_number(paragraph: Paragraph) -> bool:
    properties = paragraph._p.pPr
    return properties is not None and properties.numPr is not None


def _is_strong(paragraph: Paragraph) -> bool:
    runs = [run for run in paragraph.runs if run.text.strip()]
    return bool(runs) and all(run.bold for run in runs)
