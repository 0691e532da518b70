from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it.parser_inline import ParserInline

from nlp.knowledge import markdown
from nlp.knowledge.documents import MARKDOWN, read_document
from nlp.knowledge.markdown import read_markdown
from nlp.knowledge.passages import Document
from shared.errors import InputError, TooLarge

TEXT = """---
title: front matter
---

# The *lighthouse*

Lit [every night](https://example.org) since
1891, **never** ~~always~~ dark.\\
See ![a map](map.png) and `lamp --on`.

## Visits

1. by boat
2. on foot
   - at low tide

| day | hours |
|-----|-------|
| Sunday | 9 to 5 |

```python
# no heading
light()
```

<p align="center">Made of <b>stone</b><script>alert(1)</script></p>

Call<br>0800 <!-- never -->123.

### Empty
## Last words
"""


def read(text: str) -> Document:
    return read_document("x.md", text.encode())


def test_markup_goes_and_words_stay():
    document = read(TEXT)
    assert document.media_type == MARKDOWN
    assert document.title == "The lighthouse"
    assert document.text == (
        "The lighthouse\n\nLit every night since 1891, never always dark.\nSee a map and lamp --on.\n\n"
        "Visits\n\n1. by boat\n2. on foot\n  - at low tide\n\nday Sunday: hours 9 to 5\n\n"
        "# no heading\nlight()\n\nMade of stone\n\nCall\n0800 123.\n\nEmpty\n\nLast words"
    )


def test_sections_have_the_path_of_headings_and_a_bare_heading_is_a_section():
    document = read(TEXT)
    sections = [(section.headings, document.text[section.start : section.end][:12]) for section in document.sections]
    assert sections == [
        (("The lighthouse",), "Lit every ni"),
        (("The lighthouse", "Visits"), "1. by boat\n2"),
        (("The lighthouse", "Visits"), "day Sunday: "),
        (("The lighthouse", "Visits"), "# no heading"),
        (("The lighthouse", "Visits"), "Made of ston"),
        (("The lighthouse", "Visits"), "Empty"),
        (("The lighthouse",), "Last words"),
    ]


def test_rule_at_the_start_is_no_front_matter():
    assert read("---\n\nAll of it\n").text == "All of it"


def test_front_matter_that_never_ends_is_text():
    assert "words" in read("---\nwords: stay\n").text


@pytest.mark.parametrize("start", ["> " * 40, "- " * 40, "[" * 1000, "*a " * 1000, "a`" * 999, "![" * 500])
def test_deeply_nested_markdown_is_read_to_its_end(start: str):
    assert read(f"{start}words\n\nlast").text.endswith("words\n\nlast")


@pytest.mark.parametrize("start", ["> ", "- ", "1. ", "> - "])
def test_markdown_nested_too_deep_is_refused_not_cut_off(start: str):
    with pytest.raises(InputError, match="100 levels deep"):
        read(f"{start * 5000}words\n\nlast")


def test_markdown_of_too_many_characters_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(markdown, "MAX_CHARS", 10)
    with pytest.raises(TooLarge, match="has 11 characters; the limit is 10"):
        read("eleven char")


@given(st.text(st.sampled_from("#*_`[]()!<>|-+1. ab\n\t~=&;:\\\"'"), max_size=80))
def test_any_markdown_is_read_without_an_error_and_holds_its_sections(text: str):
    document = markdown.read_markdown(text).document(MARKDOWN)
    assert all(0 <= each.start < each.end <= len(document.text) for each in document.sections)


@pytest.mark.parametrize(
    "sign", ["![# ", "[", "![", "[a](", "![a][", "[[]]", "![[](", "[\u2028", "[![](", "[`", "*a_", "~~a"]
)
def test_the_parser_s_work_grows_with_the_length_alone(sign: str, monkeypatch: pytest.MonkeyPatch):
    steps = 0
    skip, read = ParserInline.skipToken, ParserInline.tokenize

    def counted(self, state):
        nonlocal steps
        steps += 1
        return skip(self, state)

    def counted_reading(self, state):
        nonlocal steps
        steps += len(state.src) // 100 + 1
        return read(self, state)

    monkeypatch.setattr(ParserInline, "skipToken", counted)
    monkeypatch.setattr(ParserInline, "tokenize", counted_reading)
    taken = []
    for times in (500, 2000):
        steps = 0
        read_markdown(sign * times)
        taken.append(steps)
    assert taken[1] <= 6 * taken[0] + 100


@pytest.mark.parametrize("deep", ["[" * 3000 + "a" + "]" * 3000, ("![" * 40 + "a" + "](b)" * 40) * 30])
def test_brackets_in_brackets_are_text(deep: str):
    assert "a" in read_markdown(deep).document("text/markdown").text


def test_links_stay_links_beside_many_brackets():
    text = "[Ada](a.html) and [![Émile](e.png)](e.html) " * 40 + "[open " * 20
    found = read_markdown(text).document("text/markdown").text
    assert found == ("Ada and Émile " * 40 + "[open " * 20).strip()
