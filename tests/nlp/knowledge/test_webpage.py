from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp.knowledge import webpage
from nlp.knowledge.documents import HTML, read_document
from nlp.knowledge.sections import Document
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
        "La mairie\n\nOuverte de 9\u00a0h à 17 h\nsauf le dimanche.\n\nTarifs\n\nCarte | Prix\nAdulte | 10 €\n"
        "- Enfants : gratuit\n- Groupes : 5 €\n\n  code\n    indented\n\nPlan d'accès"
    )
    assert [section.headings for section in document.sections] == [("La mairie",), ("La mairie", "Tarifs")]


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


@pytest.mark.parametrize("depth", [20_000])
def test_deeply_nested_page_is_read(depth: int):
    assert read("<div>" * depth + "deep" + "</div>" * depth).text == "deep"


def test_page_of_too_many_tags_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webpage, "MAX_TAGS", 10)
    with pytest.raises(TooLarge, match="more than 10 tags"):
        read("<b>a</b>" * 6)


@given(st.text(st.sampled_from("<>/ap1hnvtrdl-pe!='\" &;\n"), max_size=80))
def test_any_markup_is_read_without_an_error_and_holds_its_sections(markup: str):
    document = webpage.read_webpage(markup).document(HTML)
    assert all(0 <= each.start < each.end <= len(document.text) for each in document.sections)
