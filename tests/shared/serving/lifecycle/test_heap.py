"""What was made at the start is kept out of every later collection, and what requests leave behind is still found."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from shared.serving.lifecycle.engine import settle_heap


class Node:
    """One of two that hold each other, which only the collector frees."""

    other: Node


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def ring() -> weakref.ref[Node]:
    one, two = Node(), Node()
    one.other, two.other = two, one
    return weakref.ref(one)


def test_what_is_there_is_kept_and_never_looked_at_again():
    kept = Node()
    forgotten = ring()
    settle_heap()
    assert forgotten() is None
    assert gc.get_freeze_count() > 10_000
    assert not any(each is kept for each in gc.get_objects())


def test_rings_that_are_made_later_are_still_freed():
    settle_heap()
    gc.disable()
    try:
        later = ring()
        assert later() is not None
        gc.collect()
        assert later() is None
    finally:
        gc.enable()
