"""Divides examples into train, val and test: stratified, from a fixed seed, honouring splits that the data brings."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from shared.training.splits import stratified_share
from vision.tagging.checking import Example


def split_examples(
    examples: Sequence[Example], *, val_share: float, test_share: float, seed: int
) -> dict[str, list[Example]]:
    """Return split -> examples.

    Photos stored in a split stay there. Of those stored in "train", `test_share` go to test and `val_share` to val,
    each only where the data brings no such split. The division is stratified by the rarest label of each photo, and a
    label with a single photo stays in train.
    """
    splits: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    for example in examples:
        splits[example.split].append(example)
    pool = splits["train"]
    # Order of taking matters for the seed's meaning: the test part is the same whatever the val share is.
    for name, share in (("test", test_share), ("val", val_share)):
        if not splits[name] and share > 0 and pool:
            splits[name], pool = _take(pool, share, random.Random(f"{seed}-{name}"))
    splits["train"] = pool
    return splits


def _take(examples: Sequence[Example], share: float, rng: random.Random) -> tuple[list[Example], list[Example]]:
    """Return (taken, left), stratified by the rarest label of each photo."""
    support = Counter(label for example in examples for label in example.labels)
    strata = [min(e.labels, key=lambda label: (support[label], label), default="") for e in examples]
    taken = stratified_share(strata, share, rng)
    return [examples[i] for i in sorted(taken)], [e for i, e in enumerate(examples) if i not in taken]
