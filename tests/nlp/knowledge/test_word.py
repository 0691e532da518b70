"""Word documents: what they say is read in order; broken and hostile ones are refused."""

from __future__ import annotations

import io
import zipfile

import docx
import pytest

from nlp.knowledge.documents import WORD, read_document
from nlp.knowledge.passages import split_passages
from nlp.knowledge.word import MAX_XML_BYTES
from shared.errors import InputError, TooLarge


def saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


@pytest.fixture
def handbook() -> bytes:
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_paragraph("The shop is in Bergen.")
    document.add_heading("Prices", 1)
    document.add_paragraph("bread", style="List Bullet")
    document.add_paragraph("milk", style="List Bullet")
    table = document.add_table(rows=0, cols=2)
    for cells in (("Plan", "Price"), ("Team", "29 EUR"), ("Solo", "9 EUR")):
        for cell, text in zip(table.add_row().cells, cells, strict=True):
            cell.text = text
    document.add_heading("When do you open?", 2)
    document.add_paragraph("At nine.")
    question = document.add_paragraph()
    question.add_run("Where is the lift?").bold = True
    document.add_paragraph("Behind the stairs.")
    return saved(document)


def test_a_document_is_read_in_order_with_headings_lists_and_tables(handbook: bytes):
    document = read_document("handbook.docx", handbook)
    assert (document.media_type, document.title) == (WORD, "Handbook")
    passages = split_passages(document.text, document.sections)
    assert [(each.kind, each.headings, each.lead, document.text[each.start : each.end]) for each in passages] == [
        ("prose", ("Handbook",), "", "The shop is in Bergen."),
        ("prose", ("Handbook", "Prices"), "", "- bread\n- milk"),
        ("row", ("Handbook", "Prices"), "", "Plan Team: Price 29 EUR"),
        ("row", ("Handbook", "Prices"), "", "Plan Solo: Price 9 EUR"),
        ("answer", ("Handbook", "Prices"), "When do you open?", "At nine."),
        ("answer", ("Handbook", "Prices", "When do you open?"), "Where is the lift?", "Behind the stairs."),
    ]


def test_the_content_type_alone_is_enough(handbook: bytes):
    assert read_document("handbook", handbook, WORD).title == "Handbook"


def test_a_broken_or_old_document_is_refused_with_what_to_do(handbook: bytes):
    for content in (b"", b"PK\x03\x04", handbook[:2000], handbook[:-30], b"words"):
        with pytest.raises(InputError, match="cannot be read: it is broken"):
            read_document("a.docx", content)
    with pytest.raises(InputError, match=r"encrypted or in the old \.doc format"):
        read_document("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512))
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as parts:
        parts.writestr("other.xml", "<a/>")
    with pytest.raises(InputError, match="cannot be read: it is broken"):
        read_document("a.docx", empty.getvalue())


def changed(handbook: bytes, xml: bytes) -> bytes:
    """Return the document with another main part."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(handbook)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part, xml if part.filename == "word/document.xml" else old.read(part))
    return buffer.getvalue()


def test_a_document_that_unpacks_to_too_much_is_refused_before_it_is_read(handbook: bytes):
    with pytest.raises(TooLarge, match="bytes of text and marks"):
        read_document("a.docx", changed(handbook, b"<a>" + b" " * (MAX_XML_BYTES + 1) + b"</a>"))


def test_entities_and_odd_marks_do_no_harm(handbook: bytes):
    space = b'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">%s]>' % b"".join(
        b'<!ENTITY b%d "%s">' % (level, b"&b%s;" % (b"%d" % (level - 1) if level else b"") * 10) for level in range(9)
    )
    for xml in (
        bomb + b"<w:document %s><w:body><w:p><w:r><w:t>&b8; a</w:t></w:r></w:p></w:body></w:document>" % space,
        b"<w:document %s/>" % space,
        b"<w:document %s><w:body><w:tbl/></w:body></w:document>" % space,
        b"<other/>",
        b"",
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'
        b"<w:document %s><w:body><w:p><w:r><w:t>&b;x</w:t></w:r></w:p></w:body></w:document>" % space,
    ):
        try:
            document = read_document("a.docx", changed(handbook, xml))
        except InputError:
            continue
        assert len(document.text) < 1000
        assert "\n" not in document.text.strip()
