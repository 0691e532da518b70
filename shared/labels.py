"""Labels that are kinds of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def with_parents(labels: Iterable[str], parents: Mapping[str, Sequence[str]]) -> set[str]:
    """Return labels with all that they are kinds of: whoever says cat need not say animal.

    >>> sorted(with_parents(["tabby"], {"tabby": ["cat"], "cat": ["animal"], "car": ["vehicle"]}))
    ['animal', 'cat', 'tabby']

    Args:
        labels: some.
        parents: label -> those that it is a kind of, directly.
    """
    found: set[str] = set()
    waiting = list(labels)
    while waiting:
        label = waiting.pop()
        if label not in found:
            found.add(label)
            waiting += parents.get(label, ())
    return found
