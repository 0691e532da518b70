from collections import Counter

import pytest

from vision.tagging.data import split_examples
from vision.tagging.sources import Example

EXAMPLES = [
    Example(0, "train", row, (label,)) for row, label in enumerate(["a"] * 100 + ["b"] * 30 + ["c"] * 5 + ["d"])
]


def test_shares_are_kept_in_each_label():
    parts = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    test = Counter(e.labels[0] for e in parts["test"])
    assert (test["a"], test["b"], test["c"]) == (20, 6, 1)
    assert len(parts["test"]) == 27
    assert len(parts["val"]) == 11


def test_every_photo_is_in_one_part():
    parts = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert sorted(e.row for part in parts.values() for e in part) == list(range(len(EXAMPLES)))


def test_the_seed_decides_and_nothing_else():
    first = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert first == split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert first["test"] != split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=2)["test"]


def test_the_test_part_does_not_depend_on_the_val_share():
    first = split_examples(EXAMPLES, val_share=0.1, test_share=0.2, seed=1)
    assert first["test"] == split_examples(EXAMPLES, val_share=0.3, test_share=0.2, seed=1)["test"]


def test_a_label_with_one_photo_stays_in_train():
    parts = split_examples(EXAMPLES, val_share=0.4, test_share=0.4, seed=3)
    assert any(e.labels == ("d",) for e in parts["train"])


def test_splits_that_the_data_brings_are_honoured():
    stored = [Example(0, "train", i, ("a",)) for i in range(20)] + [Example(0, "test", i, ("a",)) for i in range(3)]
    parts = split_examples(stored, val_share=0.1, test_share=0.5, seed=1)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [18, 2, 3]


def test_labels_with_a_single_photo_take_nothing_from_others():
    singles = [Example(0, "train", i, (f"rare {i:03}",)) for i in range(300)]
    zebras = [Example(0, "train", 300 + i, ("zebra",)) for i in range(40)]
    parts = split_examples(singles + zebras, val_share=0.1, test_share=0.1, seed=1)
    assert Counter(e.labels[0] for e in parts["train"])["zebra"] == pytest.approx(32, abs=2)
