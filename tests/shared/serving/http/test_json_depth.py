"""JSON bodies nest no deeper than the limit, whatever stands in their texts."""

from __future__ import annotations

import json

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from shared.serving.http.requests import MAX_JSON_DEPTH, check_depth, is_deeper

TEXTS = st.text(alphabet='[]{}"\\a', max_size=8)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(value=VALUES, limit=st.integers(0, 6))
def test_it_is_what_counting_finds_in_any_json(value: object, limit: int):
    assert is_deeper(json.dumps(value).encode(), limit) == (depth(value) > limit)


@given(body=st.binary(max_size=60) | st.text(alphabet='[]{}"\\,:', max_size=60).map(str.encode))
def test_of_bytes_that_are_no_json_it_says_something(body: bytes):
    assert is_deeper(body, 3) in (True, False)


def test_what_is_never_closed_is_left_to_the_parser():
    assert not is_deeper(b"[" * 1_000_000, 32)
    assert not is_deeper(b"]" * 1_000_000, 32)


@pytest.mark.parametrize("many", [b"[" * 500_000 + b"]" * 500_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000])
def test_a_megabyte_of_nesting_is_refused(many: bytes):
    with pytest.raises(RequestValidationError) as caught:
        check_depth(many, {MAX_JSON_DEPTH: 32})
    assert caught.value.errors()[0]["msg"] == "nested deeper than the limit of 32"
