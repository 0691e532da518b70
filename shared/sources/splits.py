"""Train, validation and test: what files, folders and columns are called, and which split that means."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

SPLITS = ("train", "val", "test")
GUARDED = ("test", "val", "train")
"""The splits, the one that must stay unseen first: what is in two of them stays in this one."""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainset"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation", "valset", "devset"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "testset"), "test"),
}
"""What a split is called -> the split."""
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
_EVALUATION = ("eval", "evaluation")
_FILLERS = frozenset({"", "of", "v", "set", "data", "split", "images", "photos", "part", "the"})


def guard(split: str) -> int:
    """Return how little guarded a split is, from 0; one with a name of its own is the least.

    >>> [guard(split) for split in ("test", "val", "train", "extra")]
    [0, 1, 2, 3]
    """
    return GUARDED.index(split) if split in GUARDED else len(GUARDED)


def splits_in(names: Iterable[str], *, are_files: bool = False) -> dict[str, str]:
    """Return name -> split of those files or folders that are called after a split.

    The name of a folder that has more than the word and figures in it counts only if another split is called the same
    but for the word: `seg_train` beside `seg_test`, but not `test tube` beside `train station`, which may be labels.
    That of a file counts if it begins or ends with the word.

    >>> splits_in(["seg_train", "seg_test", "seg_pred"])
    {'seg_train': 'train', 'seg_test': 'test'}
    >>> splits_in(["test tube", "train station"])
    {}
    >>> splits_in(["dev-00000-of-00002", "train-v2.0"])
    {'dev-00000-of-00002': 'val', 'train-v2.0': 'train'}
    >>> splits_in(["train-again", "answers_test", "trained"], are_files=True)
    {'train-again': 'train', 'answers_test': 'test'}
    >>> splits_in(["my_test_2", "instances_val2017"], are_files=True)
    {'my_test_2': 'test', 'instances_val2017': 'val'}
    """
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    of_rest: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name in names:
        words = re.findall(r"[a-z]+", name.lower())
        at = [place for place, word in enumerate(words) if word in SPLIT_WORDS]
        if len(at) == 1 and are_files and at[0] in (0, len(words) - 1):
            found[name] = words[at[0]], ()
        elif len(at) == 1:
            rest = tuple(word for place, word in enumerate(words) if place != at[0] and word not in _FILLERS)
            found[name] = words[at[0]], rest
            of_rest[rest].add(SPLIT_WORDS[words[at[0]]])
    known = {name: word for name, (word, rest) in found.items() if not rest or len(of_rest[rest]) > 1}
    splits = {name: SPLIT_WORDS[word] for name, word in known.items()}
    is_val = any(splits[name] == "val" and word not in _EVALUATION for name, word in known.items())
    if is_val and "test" not in splits.values():  # beside `dev` or `val`, `eval` is the test
        splits |= {name: "test" for name, word in known.items() if word in _EVALUATION}
    return splits
