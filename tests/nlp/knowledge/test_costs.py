"""What a document or a text may cost: time in proportion to its length, whatever is in it."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator

import pytest

from nlp.engine import is_question
from nlp.knowledge import search
from nlp.knowledge.documents import media_type_of, read_document, readable_title
from nlp.knowledge.passages import normalise, split_passages
from nlp.text import _BEHIND_MARKS, MAX_MARKS, check_text
from shared.errors import InputError

PIECES = {
    "line ends": "\r\n\r",
    "blank lines": "\n   \n \t\n",
    "spaces": "a      ",
    "spaces alone": "        ",
    "sentences": "a. b! c? ",
    "quotes": '." .) .» .\u2019 ',
    "guillemets": ". » ",
    "items": "\n   1. \n  - ",
    "numbers": "\n  123",
    "abbreviations": " e.g. i.e. p. ex. dr. ",
    "soft hyphens": "a\u00ad\n",
    "marks": "a" + "\u0301\u0316" * (MAX_MARKS // 2),
    "ideographs": "\u6f22\u5b57",
    "letters": "abcdefgh",
    "headings": "# a\n",
    "nested headings": "# a\n## b\n### c\n#### d\n##### e\n###### f\n",
    "front matter": "---\na: b\n",
    "brackets": "[![# ",
    "closed brackets": "[a](b)",
    "emphasis": "**a _b ",
    "backquotes": "`a``b```",
    "fences": "```\n~~~\n",
    "tables": "| a | b |\n|---|---|\n",
    "entities": "&#x26;&amp;&",
    "tags": "<p><b><i>",
    "end tags": "</p></b>",
    "comments": "<!-- - -- ",
    "metas": "<meta charset <meta ",
    "styles": '<p style="display  : :">',
    "divs": "<div><p>a</div>",
    "tables of tags": "<table><tr><td>a",
    "lists": "<ul><li>a",
    "headings of tags": "<h1>a</h1><h2>b",
}


@pytest.fixture(autouse=True, scope="module")
def _small_heap() -> Iterator[None]:
    """Leave what other tests imported out of each collection, which takes a second with it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def cpu_s(run: Callable[[], object]) -> float:
    """Return the CPU seconds that it takes, the least of two."""
    taken = []
    for _ in range(2):
        gc.collect()
        began = time.process_time()
        with contextlib.suppress(InputError):
            run()
        taken.append(time.process_time() - began)
    return min(taken)


def assert_linear(run: Callable[[str], object], piece: str, length: int) -> None:
    """Four times the text takes about four times as long, and not sixteen times."""
    quarter = cpu_s(lambda: run(piece * (length // 4 // len(piece))))
    whole = cpu_s(lambda: run(piece * (length // len(piece))))
    assert whole < 9 * quarter + 0.02, f"{quarter:.4f} s for a quarter, {whole:.4f} s for the whole"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_reading_a_document_takes_time_in_proportion_to_its_length(piece: str, name: str):
    def run(text: str) -> None:
        document = read_document(name, f"word {text} word".encode())
        split_passages(document.text, document.sections)

    assert_linear(run, piece, 20_000)


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_reading_a_question_and_a_name_takes_time_in_proportion_to_its_length(piece: str):
    def run(text: str) -> None:
        is_question(text)
        search.words_of(text)
        readable_title(text)
        media_type_of("a", text.encode(), None)
        media_type_of("a.html", b"", f"text/html;{text}")

    assert_linear(run, piece, 50_000)


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0316", "\u05b0\u0591\u1dfa"], ids=["alternating", "one", "three"])
def test_combining_marks_without_end_are_refused_at_no_cost(marks: str):
    text = "a" + marks * 1_000_000
    began = time.process_time()
    with pytest.raises(InputError, match="more than 30 combining marks in a row from character 1 on"):
        normalise(text)
    with pytest.raises(InputError, match="more than 30 combining marks in a row"):
        check_text(text)
    assert time.process_time() - began < cpu_s(lambda: normalise("ab" * len(text))) + 0.5


def test_as_many_marks_as_languages_write_are_read():
    hebrew = "\u05d1\u05bc\u05b0\u05e8\u05b5\u05d0\u05e9\u05c1\u05b4\u05d9\u05ea"
    for text in ("Tiê\u0301ng Viê\u0323t", hebrew, "a" + "\u0301" * MAX_MARKS):
        check_text(text)
        assert normalise(text)


def test_all_combining_marks_are_looked_for():
    assert not any(unicodedata.combining(chr(code)) for code in range(_BEHIND_MARKS, sys.maxunicode + 1))
