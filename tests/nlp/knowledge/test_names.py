from __future__ import annotations

import pytest

from nlp.knowledge.names import checked_id, checked_title
from shared.errors import InputError


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
