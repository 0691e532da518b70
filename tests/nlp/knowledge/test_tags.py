from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.knowledge.tags import End, Raw, Start, pieces


def cut(text: str) -> list[object]:
    """Return pieces as plain values, neighbouring texts joined."""
    found: list[object] = []
    for piece in pieces(text):
        if isinstance(piece, str):
            if found and isinstance(found[-1], str):
                found[-1] += piece
            else:
                found.append(piece)
        elif isinstance(piece, Start):
            found.append(("start", piece.name, piece.values()))
        elif isinstance(piece, End):
            found.append(("end", piece.name))
        elif isinstance(piece, Raw):
            found.append(("raw", piece.name, piece.content))
    return found


class Reference(HTMLParser):
    """Python's own parser, which is right about well-formed pages."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[object] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(("start", tag, {name: value or "" for name, value in reversed(attrs)}))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("end", tag))

    def handle_data(self, data: str) -> None:
        if self.found and isinstance(self.found[-1], str):
            self.found[-1] += data
        else:
            self.found.append(data)


NAMES = st.sampled_from(["p", "div", "h1", "a", "custom-tag"])
WORDS = st.text(st.sampled_from("ab é&;<\n'\"=/"), max_size=8).map(lambda text: text.replace("<", " < "))
VALUES = st.text(st.sampled_from("ab é>/=' "), max_size=6)
ATTRIBUTES = st.dictionaries(st.sampled_from(["id", "hidden", "data-x"]), VALUES, max_size=2)


@st.composite
def pages(draw: st.DrawFn) -> str:
    parts = []
    for name, attributes, words in draw(st.lists(st.tuples(NAMES, ATTRIBUTES, WORDS), max_size=5)):
        values = "".join(f' {key}="{value}"' for key, value in attributes.items())
        parts.append(f"<{name}{values}>{words}<!-- {name} --></{name}>")
    return "".join(parts)


@given(pages())
def test_well_formed_pages_are_cut_as_pythons_own_parser_cuts_them(page: str):
    reference = Reference()
    reference.feed(page)
    reference.close()
    assert cut(page) == reference.found


@given(st.text(st.sampled_from("<>/!-?'\"= abpscriptle&#;\n"), max_size=60))
def test_any_text_is_cut_without_an_error(text: str):
    cut(text)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("a<b", ["a"]),  # an unfinished tag swallows the rest, as in a browser
        ("1 < 2 <3", ["1 < 2 <3"]),
        ("a<!-- x --!>b<!-->c<!d>e<?f>g<![CDATA[h]]>i", ["abcegi"]),
        ("<!-- never closed <p>", []),
        ("<script>if (a < b) '</p>'</SCRIPT >x", [("raw", "script", "if (a < b) '</p>'"), "x"]),
        ("<script>never closed", [("raw", "script", "never closed")]),
        ('<p title="a>b">c', [("start", "p", {"title": "a>b"}), "c"]),
        ("<p don't>c", [("start", "p", {"don": "", "t": ""}), "c"]),
        ("<P CLASS=x/>c</P x>", [("start", "p", {"class": "x/"}), "c", ("end", "p")]),
        ("</ p>a</>b", ["ab"]),
        ("&#99999999999999;&eacute;&#0;", ["\ufffdé\ufffd"]),
        ("&#" + "9" * 5000 + ";", ["\ufffd"]),
    ],
)
def test_odd_markup_is_cut_as_the_standard_says(page: str, expected: list[object]):
    assert cut(page) == expected
