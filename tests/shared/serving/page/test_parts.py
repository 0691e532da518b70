"""What the pages' templates share: everything that they print is text."""

from __future__ import annotations

import pytest

from shared.serving.page.parts import limits_of
from shared.templates import templates

HOSTILE = "<b>it's</b>"
PARTS = templates("shared.serving.page").get_template("parts.html").module


def test_what_a_template_is_given_is_escaped():
    for html in (PARTS.curl(HOSTILE, "/v1/x", after=HOSTILE), PARTS.limits([HOSTILE], [HOSTILE])):
        assert "<b>" not in html
        assert html.count("&lt;b&gt;") == 2


def test_a_call_shows_its_options_on_both_sides_of_the_address():
    html = PARTS.curl("Tags", "/v1/tag", before="-F image=@photo.jpg", after="-s")
    assert 'curl -F image=@photo.jpg "<span class="p-origin">http://localhost:3000</span>/v1/tag" -s</code>' in html


@pytest.mark.parametrize(
    ("card", "lines"),
    [({}, []), ({"limits": "one"}, ["one"]), ({"limits": ["one", 2]}, ["one", "2"]), ({"limits": {"no": 1}}, [])],
)
def test_limits_of_a_card_are_lines(card, lines):
    assert limits_of(card) == lines
