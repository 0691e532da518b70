"""Personal data by rules: what is masked, and what is left."""

from __future__ import annotations

import pytest

from shared.personal import masked


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("from 192.168.1.7", "from [ip]"),
        ("from 2001:db8::1, twice", "from [ip], twice"),
        ("from fe80::1ff:fe23:4567:890a", "from [ip]"),
        ("from 2001:0db8:85a3:0000:0000:8a2e:0370:7334.", "from [ip]."),
        ("card 4111.1111.1111.1111", "card [card]"),
        ("card 4111 1111  1111 1111", "card [card]"),
        ("at 12:30:45, or 10:20", "at 12:30:45, or 10:20"),
        ("a ratio of 1:2:3", "a ratio of 1:2:3"),
        ("std::vector and a::b::c", "std::vector and a::b::c"),
    ],
)
def test_numbers_of_machines_and_cards_are_masked_and_times_are_not(text: str, left: str):
    assert masked(text) == left
