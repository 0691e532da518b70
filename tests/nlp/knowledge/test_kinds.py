"""Passages know what they are: questions with answers, rows of tables, commands; as people write them."""

from __future__ import annotations

import json

import pytest

from nlp.knowledge import KnowledgeBase
from nlp.knowledge.documents import read_document
from nlp.knowledge.passages import Section, rejoined, split_passages


def read(text: str, name: str = "a.md") -> list[tuple[str, str, str]]:
    """Return kind, lead and text of each passage."""
    document = read_document(name, text.encode())
    passages = split_passages(document.text, document.sections)
    return [(each.kind, each.lead, document.text[each.start : each.end]) for each in passages]


QUESTIONS = [
    ("answer", "Where is it?", "In Bergen."),
    ("answer", "What does it cost?", "Nine euros.\n\nChildren pay nothing."),
]


COST, REST = "What does it cost?", "Nine euros.\n\nChildren pay nothing."
TAGS = "<p>Nine euros.<p>Children pay nothing."
LAYOUTS = {
    "headings.md": f"# Shop\n## Where is it?\nIn Bergen.\n## {COST}\n{REST}\n",
    "bold labels.md": f"**Q: Where is it?**\n\nA: In Bergen.\n\n**Q: {COST}**\n\nA: {REST}",
    "labels on lines.md": f"**Q: Where is it?**\nA: In Bergen.\n\nQ: {COST}\nA: {REST}",
    "bold.md": f"**Where is it?**\n\nIn Bergen.\n\n**{COST}**\n\n{REST}",
    "numbers.txt": f"Question 1: Where is it?\nAnswer: In Bergen.\n\nQuestion 2: {COST}\nAnswer: {REST}\n",
    "letters.txt": f"Q. Where is it?\n\nA. In Bergen.\n\nQ. {COST}\n\nA. {REST}\n",
    "terms.html": f"<dl><dt>Where is it?</dt><dd>In Bergen.</dd><dt>{COST}</dt><dd>{TAGS}</dd></dl>",
    "details.html": (
        "<details><summary>Where is it?</summary>In Bergen.</details>"
        f"<details><summary>{COST}</summary>{TAGS}</details>"
    ),
    "accordion.html": (
        "<button aria-expanded=false aria-controls=a>Where is it?</button><div id=a hidden>In Bergen.</div>"
        f"<h3><button aria-controls=b>{COST}</button></h3><div id=b style='display:none'>{TAGS}</div>"
    ),
    "bold.html": f"<p><b>Where is it?</b></p><p>In Bergen.</p><p><strong>{COST}</strong>{TAGS}",
    "schema.html": (
        "<div itemscope itemtype='https://schema.org/Question'><span itemprop=name>Where is it?</span>"
        "<div>In Bergen.</div></div>"
        f"<div itemtype='https://schema.org/Question'><div itemprop=name>{COST}</div>{TAGS}</div>"
    ),
}


@pytest.mark.parametrize(("name", "text"), LAYOUTS.items(), ids=LAYOUTS)
def test_a_question_and_its_answer_are_one_passage(name: str, text: str):
    assert read(text, name) == QUESTIONS


def test_questions_that_only_the_page_s_description_has_are_read_too():
    asked = [
        {"@type": "Question", "name": name, "acceptedAnswer": {"@type": "Answer", "text": text}}
        for name, text in (("Where is it?", "In Bergen."), (COST, TAGS))
    ]
    about = {"@context": "https://schema.org", "@graph": [{"@type": "FAQPage", "mainEntity": asked}]}
    script = f'<script type="application/ld+json">{json.dumps(about)}</script>'
    assert read(f"<body>{script}</body>", "a.html") == QUESTIONS
    shown = read(f"<h1>Shop</h1><h2>Where is it?</h2><p>In Oslo.</p>{script}", "a.html")
    assert [each for each in shown if each[1] == "Where is it?"] == [("answer", "Where is it?", "In Oslo.")]


@pytest.mark.parametrize(
    "script", ["{", "[[[" * 5000, '{"@type": "Question"}', '{"@type": "Question", "name": 1}', "1"]
)
def test_a_description_that_is_none_is_no_error(script: str):
    page = f'<p>In Bergen.</p><script type="application/ld+json">{script}</script>'
    assert read(page, "a.html") == [("prose", "", "In Bergen.")]


def test_what_follows_an_answer_under_another_heading_is_no_answer():
    found = read("## Where is it?\nIn Bergen.\n## Prices\nNine euros.\n")
    assert found == [("answer", "Where is it?", "In Bergen."), ("prose", "", "Nine euros.")]
    found = read("<dl><dt>Where is it?</dt><dd>In Bergen.</dd></dl><p>Nine euros.</p>", "a.html")
    assert found == [("answer", "Where is it?", "In Bergen."), ("prose", "", "Nine euros.")]


def test_a_question_without_an_answer_and_a_person_s_initial_stay_text():
    assert read("**Where is it?**\n\n# Next\n\nA. Brandt lit it.") == [
        ("prose", "", "Where is it?"),
        ("prose", "", "A. Brandt lit it."),
    ]


TABLE = (
    "Our plans in euros:\n\n| Plan | Price | Seats |\n|---|---|---|\n| Team plan | 29 EUR | 10 |\n| Solo | 9 EUR | |\n"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", TABLE),
        (
            "a.html",
            "<p>Our plans in euros:</p><table><tr><th>Plan</th><th>Price</th><th>Seats</th></tr>"
            "<tr><td><p>Team plan</p></td><td>29 EUR</td><td>10</td></tr><tr><td>Solo<td>9 EUR<td></tr></table>",
        ),
    ],
)
def test_a_row_can_be_read_alone(name: str, text: str):
    lead = "Our plans in euros:"
    assert read(text, name) == [
        ("row", lead, "Team plan: Price 29 EUR; Seats 10"),
        ("row", lead, "Plan Solo: Price 9 EUR"),
    ]


def test_a_row_s_cells_have_their_places():
    document = read_document("a.md", TABLE.encode())
    first, second = document.sections
    for section, cells in ((first, ["Team plan", "29 EUR", "10"]), (second, ["Solo", "9 EUR"])):
        text = document.text[section.start : section.end]
        assert [text[start:end] for _, start, end in section.cells] == cells
        assert [name for name, _, _ in section.cells] == ["Plan", "Price", "Seats"][: len(cells)]


def test_a_table_that_only_lays_out_a_page_stays_text():
    page = "<table><tr><td><h1>Shop</h1><p>In Bergen.</p><table><tr><td>Nine euros.</td></tr></table></td></tr></table>"
    text = " ".join(text for _, _, text in read(page, "a.html"))
    assert "In Bergen." in text
    assert "Nine euros." in text


def test_each_command_is_a_passage_with_what_introduces_it():
    text = (
        "Serve the models:\n\n```bash\nmake demo\n# on another port\nmake demo \\\n  PORT=4000\n```\n\nThen open it.\n"
    )
    assert read(text) == [
        ("code", "Serve the models:", "make demo"),
        ("code", "Serve the models: on another port", "# on another port\nmake demo \\\n  PORT=4000"),
        ("prose", "", "Then open it."),
    ]
    assert read("Like this:\n\n```python\na = 1\nb = 2\n```\n") == [("code", "Like this:", "a = 1\nb = 2")]
    page = '<p>Serve the models:</p><pre><code class="language-sh">make demo\nmake test</code></pre>'
    assert [text for _, _, text in read(page, "a.html")] == ["make demo", "make test"]


def test_what_is_set_as_code_in_a_sentence_is_known():
    page = "<p>Pass <code>--ckpt_path last</code> to go on."
    for name, text in (("a.md", "Pass `--ckpt_path last` to go on."), ("a.html", page)):
        document = read_document(name, text.encode())
        [section] = document.sections
        assert document.text == "Pass --ckpt_path last to go on."
        assert [document.text[start:end] for _, start, end in section.cells] == ["--ckpt_path last"]


def test_words_divided_at_line_ends_are_joined_and_others_keep_their_hyphen():
    assert rejoined("instal-\nlation of a well-\nknown, well-known pre-\n1990 co-\nOp 3-\n4") == (
        "installation of a well-known, well-known pre-\n1990 co-Op 3-\n4"
    )


def test_the_page_of_a_pdf_is_known(knowledge: KnowledgeBase):
    from tests.nlp.knowledge.pdfs import make_pdf

    knowledge.put("a.pdf", make_pdf(["The ferry leaves at seven.", "A ticket costs nine euros."]))
    [found] = knowledge.search("What does a ticket cost?", 1)
    assert (found.page, found.text) == (2, "A ticket costs nine euros.")


def test_a_long_answer_keeps_its_question_in_every_piece():
    passages = read("## How does it work?\n\n" + "\n\n".join(["word " * 100] * 4))
    assert len(passages) > 1
    assert {(kind, lead) for kind, lead, _ in passages} == {("answer", "How does it work?")}


def test_a_knowledge_base_keeps_what_a_passage_is(knowledge: KnowledgeBase):
    knowledge.put("a.md", TABLE.encode())
    [found] = knowledge.search("price of the team plan", 1)
    assert (found.kind, found.lead) == ("row", "Our plans in euros:")
    assert [found.text[start:end] for _, start, end in found.cells] == ["Team plan", "29 EUR", "10"]
    assert isinstance(Section((), 0, 0).cells, tuple)
