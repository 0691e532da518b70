from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nlp.knowledge.documents import read_document
from nlp.knowledge.passages import CHARS_PER_WORD, MAX_WORDS, Section, split_passages
from shared.errors import InputError

HOSTILE = st.text(
    st.one_of(
        st.sampled_from("ab .!?…«»\"'()\n\t\r\x00\u00a0\u202f\u00ad\u200b\u200d\ufeff\u0301\u3002\u2028é👩#*-|<>&;`"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=200,
)


def passages(text: str) -> list[str]:
    return [text[chunk.start : chunk.end] for chunk in split_passages(text, [Section((), 0, len(text))])]


def words(count: int, word: str = "word") -> str:
    return " ".join([word] * count)


def test_paragraphs_are_joined_until_a_passage_has_enough_words():
    text = "\n\n".join(words(50) for _ in range(4))
    assert [len(passage.split()) for passage in passages(text)] == [100, 100]


def test_paragraph_of_up_to_180_words_stays_whole():
    assert [len(passage.split()) for passage in passages(f"{words(30)}\n\n{words(180)}\n \n{words(90)}")] == [
        30,
        180,
        90,
    ]


def test_rest_of_a_few_words_joins_the_passage_before_it():
    assert [len(passage.split()) for passage in passages(f"{words(100)}\n\n{words(10)}")] == [110]


def test_long_paragraph_is_cut_at_sentence_ends_into_about_equal_parts():
    text = " ".join(f"The {words(18)} end." for _ in range(15))
    found = passages(text)
    assert [len(passage.split()) for passage in found] == [160, 140]
    assert all(passage.endswith("end.") for passage in found)


@pytest.mark.parametrize(
    ("text", "borders"),
    [
        ("Dr. Smith left. He ran.", ["Dr. Smith left.", "He ran."]),
        (
            "Voir art. 5, p. ex. ici. « Vraiment\u00a0? » Oui\u00a0!",
            ["Voir art. 5, p. ex. ici.", "« Vraiment\u00a0? »", "Oui\u00a0!"],
        ),
        ("He said “stop.” Then (why?) nothing… Odd.", ["He said “stop.”", "Then (why?) nothing…", "Odd."]),
        ("J. R. R. Tolkien wrote e.g. books. 12 of them.", ["J. R. R. Tolkien wrote e.g. books.", "12 of them."]),
        ("これは。次の。", ["これは。", "次の。"]),
        ("You need:\n- a lamp\n- oil\n2) fire", ["You need:", "- a lamp", "- oil", "2) fire"]),
    ],
)
def test_sentences_end_where_people_end_them(text: str, borders: list[str]):
    from nlp.knowledge.passages import _sentences, _span

    found = [text[each.start : each.end] for each in _sentences(text, _span(text, 0, len(text)))]
    assert [each.strip() for each in found] == borders


def test_sentence_without_end_is_cut_between_words():
    found = passages(words(1000, "abcd"))
    assert all(set(passage.split()) == {"abcd"} for passage in found)
    assert sum(len(passage.split()) for passage in found) == 1000
    assert max(len(passage.split()) for passage in found) <= MAX_WORDS


def test_word_that_no_language_has_is_cut_by_length_but_not_through_an_accent_or_emoji():
    for unit in ("x", "e\u0301", "👩\u200d👩\u200d👧"):
        found = passages("a" + unit * 3000)
        assert "".join(found) == "a" + unit * 3000
        assert max(map(len, found)) <= MAX_WORDS * CHARS_PER_WORD
        assert not any(re.match("[\u0301\u200d]", passage) for passage in found)


def test_no_passage_reaches_over_a_sections_border():
    document = read_document("a.md", f"# A\n{words(20)}\n## B\n{words(20)}\n".encode())
    chunks = split_passages(document.text, document.sections)
    assert [(chunk.headings, len(document.text[chunk.start : chunk.end].split())) for chunk in chunks] == [
        (("A",), 20),
        (("A", "B"), 20),
    ]


@given(HOSTILE, st.sampled_from(["text/plain", "text/markdown", "text/html"]), st.integers(1, 60))
@example("a\n\n" + "b. " * 5, "text/plain", 60)
def test_passages_are_the_documents_own_words_in_order_whatever_it_holds(text: str, kind: str, times: int):
    try:
        document = read_document("a", (text * times).encode(), kind)
    except InputError as error:
        assert "no words" in str(error)  # noqa: PT017
        return
    chunks = split_passages(document.text, document.sections)
    assert all(first.end <= second.start for first, second in pairwise(chunks))
    for chunk in chunks:
        passage = document.text[chunk.start : chunk.end]
        assert passage == passage.strip() != ""
        assert len(passage) <= MAX_WORDS * CHARS_PER_WORD * 2
    inside = "".join(document.text[chunk.start : chunk.end] for chunk in chunks)
    of_sections = "".join(document.text[each.start : each.end] for each in document.sections)
    assert "".join(inside.split()) == "".join(of_sections.split())
