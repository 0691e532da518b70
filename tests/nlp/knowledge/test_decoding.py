from __future__ import annotations

import pytest

from nlp.knowledge.decoding import charset_of_page, decode
from shared.errors import InputError

TEXT = "Où ? À l'été, 10 €"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_utf_8_and_texts_with_a_byte_order_mark_need_no_charset(encoding: str):
    assert decode(TEXT.encode(encoding), None) == TEXT


@pytest.mark.parametrize("charset", ["windows-1252", "Latin1", "ISO-8859-1", '"iso-8859-15"', "utf-16le"])
def test_other_charsets_are_read_where_they_are_named(charset: str):
    encoding = {"Latin1": "cp1252", "ISO-8859-1": "cp1252", '"iso-8859-15"': "iso-8859-15"}.get(charset, charset)
    assert decode(TEXT.encode(encoding), charset) == TEXT


def test_nothing_is_guessed():
    with pytest.raises(
        InputError, match=r"is not UTF-8 text: byte 1 does not fit\. Save it as UTF-8, or name its charset"
    ):
        decode("Où".encode("latin-1"), None)


def test_unknown_charset_is_named():
    with pytest.raises(InputError, match="charset 'klingon' is not known here"):
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
