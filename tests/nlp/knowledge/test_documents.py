from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.knowledge.documents import (
    HTML,
    MARKDOWN,
    PDF,
    PLAIN,
    charset_of_page,
    checked_id,
    checked_title,
    decode,
    documents_in,
    media_type_of,
    read_document,
)
from nlp.knowledge.passages import normalise
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


@pytest.mark.parametrize(("name", "said"), [("a.odt", None), ("a.md", "image/png"), ("a", "application/json")])
def test_other_kinds_are_refused_and_the_accepted_ones_named(name: str, said: str | None):
    with pytest.raises(
        UnsupportedMedia, match=r"Accepted are text/markdown, text/plain, text/html, application/pdf and Word's"
    ):
        read_document(name, b"words", said)


@pytest.mark.parametrize("content", [b"", b" \n\t", "\ufeff".encode(), b"...", b"\x00\x01"])
def test_document_without_a_word_is_refused(content: bytes):
    with pytest.raises(InputError, match="the document has no words"):
        read_document("a.txt", content)


def test_binary_file_is_refused_as_no_text():
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_document("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00")


def test_plain_text_stays_as_it_came_but_for_line_ends_blank_lines_and_what_cannot_be_seen():
    document = read_document("a.txt", b"\xef\xbb\xbfun  deux\r\ntrois\rquatre\x00\x07  \n\n\n cinq\n")
    assert document.text == "un  deux\ntrois\nquatre\n\ncinq"
    assert document.title is None


def test_charset_of_the_content_type_is_heeded_and_that_of_a_page_too():
    assert read_document("a.txt", "été".encode("latin-1"), "text/plain; charset=ISO-8859-1").text == "été"
    assert read_document("a.html", b"<meta charset=iso-8859-1><p>\xe9t\xe9").text == "été"
    assert read_document("a.html", "<meta charset=iso-8859-1><p>été".encode()).text == "été"


@given(st.text())
def test_normalising_twice_changes_nothing(text: str):
    assert normalise(normalise(text)) == normalise(text)


TEXT = "Où ? À l'été, 10 €"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_utf_8_and_texts_with_a_byte_order_mark_need_no_charset(encoding: str):
    assert decode(TEXT.encode(encoding), None) == TEXT


@pytest.mark.parametrize("charset", ["windows-1252", "Latin1", "ISO-8859-1", '"iso-8859-15"', "utf-16le"])
def test_other_charsets_are_read_where_they_are_named(charset: str):
    encoding = {"Latin1": "cp1252", "ISO-8859-1": "cp1252", '"iso-8859-15"': "iso-8859-15"}.get(charset, charset)
    assert decode(TEXT.encode(encoding), charset) == TEXT


def test_a_charset_is_found_where_only_one_fits_and_else_asked_for():
    assert decode("Où est la mairie ?".encode("cp1252"), None) == "Où est la mairie ?"
    assert decode("Where is it? Nine euros".encode("utf-16-le"), None) == "Where is it? Nine euros"
    assert decode("Where is it? Nine euros".encode("utf-16-be"), None) == "Where is it? Nine euros"
    with pytest.raises(
        InputError, match=r"is not UTF-8 text: byte 1 does not fit\. Save it as UTF-8, or name its charset"
    ):
        decode("příliš žluťoučký kůň".encode("cp1250"), None)


def test_unknown_charset_is_named():
    with pytest.raises(InputError, match="charset 'klingon' is unknown"):
        decode(b"x", "klingon")


def test_odd_number_of_bytes_is_no_utf_16():
    with pytest.raises(InputError, match="is not UTF-16-LE text"):
        decode(b"\xff\xfea", None)


@pytest.mark.parametrize(
    ("page", "charset"),
    [
        (b'<meta charset="iso-8859-1">', "iso-8859-1"),
        (b'<META http-equiv=Content-Type content="text/html; charset=windows-1252">', "windows-1252"),
        (b"<p>charset=none", None),
        (b" " * 2000 + b"<meta charset=latin1>", None),
    ],
)
def test_charset_of_a_page_stands_in_its_meta_element(page: bytes, charset: str | None):
    assert charset_of_page(page) == charset


@pytest.mark.parametrize(
    "name", ["a", "guides/serving.md", "Été à Paris (2026)/n° 1, l'île.txt", "日本/案内.html", "a" * 200]
)
def test_names_of_files_are_ids(name: str):
    assert checked_id(name) == name


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("", "has no id"),
        ("a" * 201, "has 201 characters; the limit is 200"),
        ("a\x00b", r"U\+0000"),
        ("a\nb", r"U\+000A"),
        ("a\\b", r"U\+005C"),
        ("a\u202eb", r"U\+202E"),
        ("a\ud800", r"U\+D800"),
        ("a\ufffd", r"U\+FFFD"),
        ("/etc/passwd", "part ''"),
        ("a/", "part ''"),
        ("a//b", "part ''"),
        ("a/../b", r"part '\.\.'"),
        ("./a", r"part '\.'"),
        ("a/ b", "part ' b'"),
    ],
)
def test_other_ids_are_refused_with_what_is_wrong(name: str, part: str):
    with pytest.raises(InputError, match=part):
        checked_id(name)


def test_accents_written_in_two_ways_are_one_id():
    assert checked_id("e\u0301te\u0301.txt") == "été.txt"


def test_title_is_put_on_one_line_and_a_blank_one_is_none():
    assert checked_title(" Opening\n hours\x00 ") == "Opening hours"
    assert checked_title(" \n") is None
    assert checked_title(None) is None


def test_long_title_is_refused():
    with pytest.raises(InputError, match="longer than 300 characters"):
        checked_title("a" * 301)


def test_ids_are_sorted_paths_with_slashes_and_other_files_are_passed_over(tmp_path: Path):
    for name in (
        "b.md",
        "a/c.TXT",
        "a/.hidden.md",
        ".git/x.md",
        "a/photo.png",
        "z.html",
        "z.htm",
        "d.markdown",
        "e.pdf",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("words")
    (tmp_path / "folder.md").mkdir()
    found = [name for name, _ in documents_in(tmp_path)]
    assert found == ["b.md", "d.markdown", "e.pdf", "z.htm", "z.html", "a/c.TXT"]


def test_links_that_leave_the_folder_or_lead_nowhere_are_not_followed(tmp_path: Path):
    folder, outside = tmp_path / "docs", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    (folder / "own.md").write_text("own")
    (folder / "inside.md").symlink_to(folder / "own.md")
    (folder / "secret.md").symlink_to(outside / "secret.md")
    (folder / "secrets").symlink_to(outside)
    (folder / "nowhere.md").symlink_to(tmp_path / "gone.md")
    (folder / "circle.md").symlink_to(folder / "circle.md")
    assert [name for name, _ in documents_in(folder)] == ["inside.md", "own.md"]
