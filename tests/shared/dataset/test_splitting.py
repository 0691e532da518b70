"""Groups are divided by their shares, labels alike, the same every time."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dataset.splitting import divide

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def rows_of(groups: list[list[str]], splits: list[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for group, split in zip(groups, splits, strict=True):
        found[split] += len(group)
    return found


def test_no_label_is_further_from_its_shares_than_a_row():
    groups = [[label] for label, count in (("a", 1000), *((f"l{i}", 4) for i in range(50))) for _ in range(count)]
    divided = divide(groups, SHARES, random.Random(1))
    assert rows_of(groups, divided) == {"train": 960, "val": 120, "test": 120}
    counts = Counter((group[0], split) for group, split in zip(groups, divided, strict=True))
    totals = Counter(group[0] for group in groups)
    assert all(
        abs(counts[label, split] - share * totals[label]) < 1 for label in totals for split, share in SHARES.items()
    )


def test_shares_hold_where_labels_and_groups_do_not_allow_all():
    groups = [["a"] * 60, *([["b"]] * 40)]
    assert rows_of(groups, divide(groups, SHARES, random.Random(1))) == {"train": 80, "val": 10, "test": 10}


@pytest.mark.parametrize("sizes", [[1] * 5, [1] * 3, [100] * 3, [90, 5, 5], [1000, *[1] * 4]])
def test_no_split_stays_empty_if_there_are_enough_groups(sizes: list[int]):
    assert set(divide([["a"] * size for size in sizes], SHARES, random.Random(1))) == set(SHARES)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=9), min_size=1, max_size=40), st.integers(0, 9))
def test_shares_hold_within_the_largest_groups(groups: list[list[str]], seed: int):
    shares = SHARES | {"val": 0.2, "test": 0.0}
    divided = divide(groups, shares, random.Random(seed))
    rows, total, largest = rows_of(groups, divided), sum(map(len, groups)), max(map(len, groups))
    assert all(abs(rows[split] - share * total) <= 2 * largest for split, share in shares.items())
    assert rows["test"] == 0
    assert divided == divide(groups, shares, random.Random(seed))
