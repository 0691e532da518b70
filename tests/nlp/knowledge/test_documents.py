from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.knowledge.documents import HTML, MARKDOWN, PDF, PLAIN, media_type_of, read_document
from nlp.knowledge.sections import normalise
from shared.errors import InputError, UnsupportedMedia


@pytest.mark.parametrize(
    ("name", "content", "said", "expected"),
    [
        ("a.md", b"", None, MARKDOWN),
        ("a.MARKDOWN", b"", None, MARKDOWN),
        ("a.txt", b"", "application/octet-stream", PLAIN),
        ("a.htm", b"", "", HTML),
        ("a.md", b"", "Text/HTML; charset=utf-8", HTML),
        ("a", b"", "text/x-markdown", MARKDOWN),
        ("a", b"%PDF-1.7", None, PDF),
        ("a", b"words", None, PLAIN),
    ],
)
def test_kind_is_what_is_said_else_the_names_end_else_the_first_bytes(
    name: str, content: bytes, said: str | None, expected: str
):
    assert media_type_of(name, content, said) == expected


@pytest.mark.parametrize(("name", "said"), [("a.docx", None), ("a.md", "image/png"), ("a", "application/json")])
def test_other_kinds_are_refused_and_the_accepted_ones_named(name: str, said: str | None):
    with pytest.raises(
        UnsupportedMedia, match=r"Accepted are text/markdown, text/plain, text/html and application/pdf"
    ):
        read_document(name, b"words", said)


@pytest.mark.parametrize("content", [b"", b" \n\t", "\ufeff".encode(), b"...", b"\x00\x01"])
def test_document_without_a_word_is_refused(content: bytes):
    with pytest.raises(InputError, match="the document holds no words"):
        read_document("a.txt", content)


def test_binary_file_is_refused_as_no_text():
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_document("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00")


def test_plain_text_stays_as_it_came_but_for_line_ends_and_what_cannot_be_seen():
    document = read_document("a.txt", b"\xef\xbb\xbfun  deux\r\ntrois\rquatre\x00\x07  \n\n\n cinq\n")
    assert document.text == "un  deux\ntrois\nquatre  \n\n\n cinq\n"
    assert document.title is None


def test_charset_of_the_content_type_is_heeded_and_that_of_a_page_too():
    assert read_document("a.txt", "été".encode("latin-1"), "text/plain; charset=ISO-8859-1").text == "été"
    assert read_document("a.html", b"<meta charset=iso-8859-1><p>\xe9t\xe9").text == "été"
    assert read_document("a.html", "<meta charset=iso-8859-1><p>été".encode()).text == "été"


@given(st.text())
def test_normalising_twice_changes_nothing(text: str):
    assert normalise(normalise(text)) == normalise(text)
