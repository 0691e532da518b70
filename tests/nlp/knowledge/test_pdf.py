from __future__ import annotations

from pathlib import Path

import pytest

from nlp.knowledge import KnowledgeBase, pdf, store
from nlp.knowledge.documents import PDF, read_document
from nlp.knowledge.pdf_process import read
from shared.errors import InputError, TooLarge
from tests.nlp.knowledge.pdfs import make_pdf, nested_bookmarks, pdf_of_streams, rewritten


def test_each_page_is_a_section_under_its_number_and_the_title_is_the_files_own():
    document = read_document("x.pdf", make_pdf(["Opening hours\nfrom 9 to 5", "Prices"], title="The café (2026)"))
    assert document.media_type == PDF
    assert document.title == "The café (2026)"
    assert document.text == "Opening hours\nfrom 9 to 5\n\nPrices"
    sections = [(section.headings, document.text[section.start : section.end]) for section in document.sections]
    assert sections == [(("Page 1",), "Opening hours\nfrom 9 to 5"), (("Page 2",), "Prices")]


def test_bookmarks_stand_above_the_pages_that_they_lead_to():
    content = rewritten(make_pdf(["preface", "one", "two", "three"]), bookmarks={"Chapter 1": 1, "Chapter 2": 3})
    document = read_document("x.pdf", content)
    assert [section.headings for section in document.sections] == [
        ("Page 1",),
        ("Chapter 1", "Page 2"),
        ("Chapter 1", "Page 3"),
        ("Chapter 2", "Page 4"),
    ]


def test_pdf_with_a_password_is_refused_as_encrypted():
    with pytest.raises(InputError, match="is encrypted"):
        read_document("x.pdf", rewritten(make_pdf(["secret"]), password="rosebud"))


def test_pdf_that_is_encrypted_without_a_password_is_read():
    assert read_document("x.pdf", rewritten(make_pdf(["open"]), password="")).text == "open"


@pytest.mark.parametrize("content", [b"%PDF-1.7\n", b"%PDF-1.7\n" + b"\x00garbage" * 50, make_pdf(["whole"])[:200]])
def test_broken_pdf_is_refused_by_name(content: bytes):
    with pytest.raises(InputError, match="truncated or broken"):
        read_document("x.pdf", content)


def test_what_is_no_pdf_is_refused():
    with pytest.raises(InputError, match="does not begin with %PDF-"):
        read_document("x.pdf", b"PK\x03\x04 a zip file")


def test_pdf_without_text_says_that_scans_have_none():
    with pytest.raises(InputError, match="has no text, as is usual for scans"):
        read_document("x.pdf", pdf_of_streams([b"0 0 m 100 100 l S"]))


def test_pdf_that_unpacks_to_more_than_is_allowed_ends_its_own_process_alone():
    with pytest.raises(InputError, match="truncated or broken"):
        read_document("x.pdf", pdf_of_streams([b" " * 80_000_000]))


def test_pdf_that_takes_too_long_is_stopped():
    with pytest.raises(TooLarge, match=r"takes more than 0\.05 s to read"):
        pdf.read_pdf(make_pdf(["slow"]), pdf.PdfLimits(seconds=0.05))


def test_pdf_with_too_many_pages_or_characters_is_refused(monkeypatch: pytest.MonkeyPatch):
    content = make_pdf(["a few words"] * 3)
    assert read(content, max_pages=2, max_chars=100) == {"problem": "pages"}
    assert read(content, max_pages=3, max_chars=20) == {"problem": "characters"}
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    with pytest.raises(TooLarge, match="more than 2 pages"):
        pdf.read_pdf(content)


def test_bookmarks_are_headings_down_to_the_sixth_level():
    document = read_document("x.pdf", nested_bookmarks(30, 30))
    assert max(len(section.headings) for section in document.sections) == 7  # and the page's number
    assert document.sections[-1].headings[0].startswith("0 xxx")


def test_bookmarks_do_not_swell_the_file_of_a_knowledge_base(tmp_path: Path):
    content = nested_bookmarks(200, 200)
    knowledge = KnowledgeBase(tmp_path / "knowledge.sqlite")
    knowledge.put("a.pdf", content)
    knowledge.close()
    assert (tmp_path / "knowledge.sqlite").stat().st_size < 30 * len(content)


def test_headings_that_repeat_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "MAX_HEADING_CHARS", 1000)
    knowledge = KnowledgeBase(tmp_path / "knowledge.sqlite")
    with pytest.raises(TooLarge, match=r"the headings above the document's passages have \d+ characters"):
        knowledge.put("a.pdf", nested_bookmarks(4, 4))
    assert not knowledge.list()


def test_a_pdf_that_uses_up_its_time_says_so():
    busy = b"BT " + b"/F1 1 Tf (a) Tj " * 400_000 + b"ET"
    with pytest.raises(TooLarge, match="takes more than 1 s to read"):
        pdf.read_pdf(pdf_of_streams([busy] * 4), pdf.PdfLimits(seconds=1))
