from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.knowledge import webpage
from nlp.knowledge.documents import HTML, read_document
from nlp.knowledge.passages import Document
from shared.errors import TooLarge

PAGE = """<!doctype html><html lang="fr"><head><title>Mairie &mdash; accueil</title>
<style>p { color: red }</style><script>var hours = "<p>never</p>";</script></head>
<body><nav><ul><li><a href="/">Home</a></li></ul></nav>
<h1>La <em>mairie</em><a class="headerlink" href="#">¶</a></h1>
<p>Ouverte de 9&nbsp;h
   à 17 h<br>sauf le dimanche.</p>
<h2>Tarifs</h2>
<table><tr><th>Carte</th><th>Prix</th></tr><tr><td>Adulte</td><td>10 €</td></tr></table>
<ul><li>Enfants : gratuit<li><p>Groupes : 5 €</p></ul>
<pre>  code
    indented</pre>
<img src="map.png" alt="Plan d'accès"><div hidden>caché</div><p style="display: none">caché</p>
<footer>© 2026</footer></body></html>"""


def read(page: str) -> Document:
    return read_document("x.html", page.encode(), "text/html")


def test_page_becomes_headings_and_paragraphs_without_scripts_styles_and_navigation():
    document = read(PAGE)
    assert document.media_type == HTML
    assert document.title == "La mairie"
    assert document.text == (
        "La mairie\n\nOuverte de 9\u00a0h à 17 h\nsauf le dimanche.\n\nTarifs\n\nCarte Adulte: Prix 10 €\n\n"
        "- Enfants : gratuit\n- Groupes : 5 €\n\n  code\n    indented\n\nPlan d'accès"
    )
    assert [(section.headings, section.kind) for section in document.sections] == [
        (("La mairie",), "prose"),
        (("La mairie", "Tarifs"), "row"),
        (("La mairie", "Tarifs"), "prose"),
        (("La mairie", "Tarifs"), "code"),
        (("La mairie", "Tarifs"), "prose"),
    ]


def test_title_element_is_the_title_where_there_is_no_first_heading():
    assert read("<title>Mairie &amp; Cie</title><h2>Tarifs</h2><p>10 €").title == "Mairie & Cie"


def test_main_element_is_the_page_where_it_holds_enough():
    story = "The lighthouse keeper lit the lamp. " * 10
    assert read(f"<div>Log in</div><main><h1>Story</h1><p>{story}</p></main><div>Ads</div>").text.startswith(
        "Story\n\n"
    )
    assert "Log in" in read("<div>Log in here</div><main>short</main>").text


def test_page_of_nothing_but_navigation_is_kept():
    assert read("<nav><p>Opening hours: 9 to 5</p></nav>").text == "Opening hours: 9 to 5"


def test_navigation_that_is_never_closed_ends_with_what_it_stands_in():
    assert read("<div><nav>menu</div><p>words</p>").text == "words"


def test_what_looks_like_a_tag_in_the_text_stays_text():
    assert read("<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>").text == "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<ul><li hidden>draft<li>Opening hours<li>Call 0800</ul><p>end", "- Opening hours\n- Call 0800\n\nend"),
        ("<p hidden>draft<p>one<p style='display:none'>draft<div>two", "one\n\ntwo"),
        ("<dl><dt hidden>draft<dd>one<dt aria-hidden=true>draft<dd>two</dl>", "one\n\ntwo"),
        ("<table><tr hidden><td>draft<tr><td>a<td>b<tr><td>c<td>d</table>", "a | b\nc | d"),
        ("<select><option>one<option>two</select>words", "words"),
    ],
)
def test_end_tags_may_be_left_out_and_nothing_hidden_shows(page: str, expected: str):
    assert read(page).text == expected


@pytest.mark.parametrize("name", ["nav", "footer", "noscript", "template", "section hidden", "span hidden"])
def test_a_div_left_open_in_what_is_left_out_hides_nothing_after_it(name: str):
    assert read(f"<{name}><div>menu</{name.split(maxsplit=1)[0]}>words").text == "words"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("a<b", "a"),  # an unfinished tag hides the rest, as in a browser
        ("1 < 2 <3", "1 < 2 <3"),
        ("a<!-- x --!>b<!-->c<!d>e<?f>g<![CDATA[h]]>i", "abcegi"),
        ("a<!-- never closed <p>b", "a"),
        ("<script>if (a < b) '</p>'</SCRIPT >x", "x"),
        ("a<style>p {}</style>b<textarea><p>typed</textarea>c<iframe><p>old</iframe>d<xmp><p></xmp>e", "abcde"),
        ("a<script>never closed", "a"),
        ("<p title='a>b' don't>c", "c"),
        ("<P CLASS=x/>c</P x>d", "c\n\nd"),
        ("</ p>a</>b", "ab"),
        ("&#99999999999999;&eacute;&#0;", "\ufffdé\ufffd"),
        ("a&#" + "9" * 5000 + ";", "a\ufffd"),
        ("caf&eacute; &#39;&amp;#39; &lt;p&gt; &nbsp &unknown;", "café '&#39; <p> \u00a0 &unknown;"),
        ("Op\0en<p\0>9\x01 to\x1f 5", "Open\n\n9 to 5"),
        ("été<meta charset=iso-8859-1>é€<meta http-equiv=content-type content='text/html; charset=utf-16'>é", "étéé€é"),
        ("<?xml version='1.0' encoding='latin-1'?><!DOCTYPE html [<!ENTITY a 'b'>]><p>é &a;", "]>\n\né &a;"),
        ("<custom-tag>a<x-y/>b</custom-tag>", "ab"),
    ],
)
def test_odd_markup_is_read_as_the_standard_says(page: str, expected: str):
    assert webpage.read_webpage(page).document(HTML).text == expected


@pytest.mark.parametrize(
    ("name", "depth"), [("div", 20_000), ("div", 300), ("b", 300), ("blockquote", 300), ("table><tr><td", 300)]
)
def test_deeply_nested_page_is_read(name: str, depth: int):
    closing = "</" + name.replace("><", "></")
    assert read(f"<{name}>" * depth + "deep" + f"{closing}>" * depth + "<p>end").text.split() == ["deep", "end"]


@pytest.mark.parametrize("end", ["</nav>", "</p>", "</x>"])
def test_page_that_would_take_the_parser_minutes_is_refused(end: str):
    with pytest.raises(TooLarge, match="nests its elements too deep: 5001 levels, with 100000 end tags"):
        read("<div>" * 100_000 + end * 100_000)


def test_long_text_and_long_attributes_are_not_dropped():
    long = "a" * 10_500_000  # more than libxml2 takes unless told
    assert webpage.read_webpage(f"<p title='{long}'>{long}<p>end").document(HTML).text == f"{long}\n\nend"


def test_page_of_too_many_elements_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webpage, "MAX_ELEMENTS", 10)
    with pytest.raises(TooLarge, match="more than 10 HTML elements"):
        read("<b>a</b>" * 11)


@given(st.text(st.sampled_from("<>/ap1hnvtrdl-pe!='\" &;\n"), max_size=80))
def test_any_markup_is_read_without_an_error_and_holds_its_sections(markup: str):
    document = webpage.read_webpage(markup).document(HTML)
    assert all(0 <= each.start < each.end <= len(document.text) for each in document.sections)
